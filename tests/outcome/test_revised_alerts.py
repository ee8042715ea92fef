"""Alerts of exchanges that are judged again with a text that came late."""

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from monitor.assembly.sides import blindness
from monitor.findings import Action, Assessment, Evidence, Flag, Judgement, Severity, Status
from monitor.outcome.revisions import REMEMBERED, RaisedFlags
from monitor.trace import Message, Origin, Side, ToolCall, Trace, Unread, Unreadable

ACTIONS = (Action.AUDIT, Action.ALERT, Action.FEEDBACK)
FIELDS = ("response", "messages.0", "steps.1.output")


def exchange(number: int = 1, revision: int = 0) -> Trace:
    """An exchange whose prompt is not there yet, or comes with a revision."""
    unread = () if revision else (Unread(Side.PROMPT, Unreadable.NO_CONTENT),)
    messages = (Message("user", "a question"),) if revision else ()
    return Trace(
        id="r",
        time=1.0,
        response="an answer",
        trace_id="t",
        span_id=f"{number}",
        messages=messages,
        unread=unread,
        revision=revision,
    )


def found(detector: str, fields: Iterable[str], score: float = 0.9) -> Assessment:
    """What a detector found in these fields."""
    evidence = tuple(Evidence(field, 0, 5, "kind", score) for field in sorted(fields))
    return Assessment(detector=detector, version="1", status=Status.SCORED, score=score, evidence=evidence)


def flag(detector: str) -> Flag:
    """The flag of the one rule on a detector."""
    return Flag(
        id=f"id {detector}",
        rule=f"{detector} found something",
        rule_version="1",
        severity=Severity.WARNING,
        actions=ACTIONS,
        detectors=(detector,),
    )


def judged(
    raised: RaisedFlags, trace: Trace, assessments: Iterable[Assessment], flags: tuple[Flag, ...]
) -> tuple[Flag, ...]:
    """The flags of an exchange that is judged and recorded."""
    held = tuple(assessments)
    made = raised.quieted(trace, held, flags)
    raised.recorded([Judgement(origin=Origin("t", 0, 0, 0), trace=trace, assessments=held, flags=made)])
    return made


judgements = st.dictionaries(st.sampled_from(["pii", "toxicity"]), st.frozensets(st.sampled_from(FIELDS)))


@given(st.lists(judgements, min_size=1, max_size=4))
def test_a_revision_alerts_for_what_is_new(made: list[dict[str, frozenset[str]]]) -> None:
    """A rule alerts when it fires for the first time, and again only for evidence that was not there."""
    raised = RaisedFlags()
    known: dict[str, frozenset[str]] = {}
    for revision, judgement in enumerate(made):
        flags = tuple(flag(detector) for detector in judgement)
        # A longer prompt changes scores, which is nothing new.
        assessments = [found(detector, fields, 0.5 + revision / 10) for detector, fields in judgement.items()]
        result = judged(raised, exchange(revision=revision), assessments, flags)
        assert [each.id for each in result] == [each.id for each in flags]
        for each, (detector, fields) in zip(result, judgement.items(), strict=True):
            repeats = detector in known and fields <= known[detector]
            assert each.actions == ((Action.AUDIT, Action.FEEDBACK) if repeats else ACTIONS)
        known |= {detector: known.get(detector, frozenset()) | of for detector, of in judgement.items()}


def test_another_exchange_and_a_repeated_first_judgement_alert() -> None:
    """Only revisions are quiet: of other spans nothing is known, and a first judgement is never a repeat."""
    raised = RaisedFlags()
    held = ([found("pii", ["response"])], (flag("pii"),))
    for trace in (
        exchange(),
        exchange(),
        exchange(2, revision=1),
        msgspec.structs.replace(exchange(), span_id=""),
    ):
        assert judged(raised, trace, *held) == (flag("pii"),)
    assert judged(raised, exchange(revision=1), *held) != (flag("pii"),)


def test_what_is_remembered_is_bounded() -> None:
    """The oldest flags are forgotten; their revisions alert again."""
    raised = RaisedFlags()
    held = ([found("pii", ["response"])], (flag("pii"),))
    for number in range(REMEMBERED + 1):
        judged(raised, exchange(number), *held)
    assert raised.quieted(exchange(0, revision=1), *held) == (flag("pii"),)
    assert raised.quieted(exchange(REMEMBERED, revision=1), *held) != (flag("pii"),)


@given(
    st.dictionaries(st.sampled_from(["pii", "toxicity"]), st.frozensets(st.sampled_from(FIELDS)), min_size=1)
)
def test_what_was_never_recorded_alerts_when_it_is_judged_again(judgement: dict[str, frozenset[str]]) -> None:
    """A revision whose transaction was dropped, as its partition moved, loses no alert."""
    raised = RaisedFlags()
    flags = tuple(flag(detector) for detector in judgement)
    assessments = [found(detector, fields) for detector, fields in judgement.items()]
    for _ in range(2):
        assert raised.quieted(exchange(revision=1), assessments, flags) == flags
    assert judged(raised, exchange(revision=1), assessments, flags) == flags
    quiet = raised.quieted(exchange(revision=2), assessments, flags)
    assert not any(Action.ALERT in each.actions for each in quiet)


@given(
    st.lists(st.sampled_from(["", "text"]), max_size=2),
    st.sampled_from(["", "answer"]),
    st.lists(st.just(ToolCall("look")), max_size=1),
    st.lists(st.builds(Unread, st.sampled_from([Side.PROMPT, Side.RESPONSE]), st.sampled_from(Unreadable))),
)
def test_what_assembly_may_revise_is_remembered(
    contents: list[str], response: str, calls: list[ToolCall], unread: list[Unread]
) -> None:
    """An exchange may be revised where assembly knows a side of it to lack a text, and only there."""
    trace = msgspec.structs.replace(
        exchange(),
        messages=tuple(Message("user", content) for content in contents),
        response=response,
        tool_calls=tuple(calls),
        unread=tuple({each.side: each for each in unread}.values()),
    )
    assert trace.may_be_revised() == (blindness(trace) > 0)
