"""Redactions on their way through the pool: together first, alone where that failed, never lost."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from monitor.detect import wire
from monitor.detect.redactions import RedactionJob, Redactions
from monitor.findings import Redaction
from monitor.ports import RedactionRequest
from monitor.trace import SafeText, Trace

GUILTY = "guilty"


def request(name: str) -> RedactionRequest:
    """Ask for the texts of a made-up trace."""
    return RedactionRequest(Trace(id=name, time=0.0, response="r"), (), (), 100)


def texts(name: str) -> Redaction:
    """What a worker makes of it."""
    return Redaction(SafeText(f"prompt of {name}"), SafeText("r"), {})


def answer(job: RedactionJob) -> wire.RedactionResult:
    """Answer as a worker that fails at each guilty request."""
    names = [each.trace.id for each in job.batch.requests[job.lo : job.hi]]
    if any(name.startswith(GUILTY) for name in names):
        return wire.RedactionResult(job.number, 0, "exception:ValueError")
    return wire.RedactionResult(job.number, 0, "", tuple(map(texts, names)))


@given(st.lists(st.lists(st.sampled_from(["good", GUILTY]), min_size=1, max_size=6), max_size=4), st.data())
def test_each_request_has_one_outcome_in_its_place(batches: list[list[str]], data: st.DataObject) -> None:
    """Those that a worker fails at get a reason, or the name of what became of the worker; no others do."""
    redactions = Redactions()
    for ticket, names in enumerate(batches):
        redactions.add(ticket, [request(f"{name} {ticket}.{n}") for n, name in enumerate(names)])
    found: dict[int, Sequence[Redaction | str]] = {}
    for number in range(100):
        if not redactions.pending:
            break
        job = redactions.pending.popleft()
        job.number = number
        report = answer(job)
        assert redactions.is_sound(job, report)
        if report.reason and data.draw(st.booleans()):
            redactions.failed(job, "crash")
        else:
            redactions.answered(job, report)
        found |= dict(redactions.take_finished())
    assert not redactions
    assert found.keys() == set(range(len(batches)))
    for ticket, names in enumerate(batches):
        for n, (name, outcome) in enumerate(zip(names, found[ticket], strict=True)):
            if name == GUILTY:
                assert outcome in {"crash", "exception:ValueError"}
            else:
                assert outcome == texts(f"{name} {ticket}.{n}")


def test_an_answer_to_something_else_is_not_sound() -> None:
    """Another order's number, too few redactions, or a reason that may be text."""
    redactions = Redactions()
    redactions.add(0, [request("a"), request("b")])
    job = redactions.pending.popleft()
    job.number = 7
    both = (texts("a"), texts("b"))
    assert redactions.is_sound(job, wire.RedactionResult(7, 0, "", both))
    assert not redactions.is_sound(job, wire.RedactionResult(8, 0, "", both))
    assert not redactions.is_sound(job, wire.RedactionResult(7, 0, "", both[:1]))
    assert not redactions.is_sound(job, wire.RedactionResult(7, 0, "words of a text"))


def test_what_may_fail_again_is_marked() -> None:
    """A request is alone, and hazardous, once an order that held it has failed."""
    redactions = Redactions()
    redactions.add(0, [request("a"), request("b")])
    job = redactions.pending.popleft()
    assert not job.hazardous
    redactions.failed(job, "timeout")
    assert [(each.lo, each.hi, each.hazardous) for each in redactions.pending] == [(0, 1, True), (1, 2, True)]
