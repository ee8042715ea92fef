"""Alerts of exchanges that are judged again with a text that came late."""

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from monitor.findings import Action, Assessment, Evidence, Flag, Severity, Status
from monitor.outcome.revisions import REMEMBERED, RaisedFlags
from monitor.trace import Message, Side, Trace, Unread, Unreadable

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
        result = raised.quieted(exchange(revision=revision), assessments, flags)
        assert [each.id for each in result] == [each.id for each in flags]
        for each, (detector, fields) in zip(result, judgement.items(), strict=True):
            repeats = detector in known and fields <= known[detector]
            assert each.actions == ((Action.AUDIT, Action.FEEDBACK) if repeats else ACTIONS)
        known |= {detector: known.get(detector, frozenset()) | of for detector, of in judgement.items()}


def test_another_exchange_and_a_repeated_first_judgement_alert() -> None:
    """Only revisions are quiet: of other spans nothing is known, and a first judgement is never a repeat."""
    raised = RaisedFlags()
    judged = ([found("pii", ["response"])], (flag("pii"),))
    for trace in (
        exchange(),
        exchange(),
        exchange(2, revision=1),
        msgspec.structs.replace(exchange(), span_id=""),
    ):
        assert raised.quieted(trace, *judged) == (flag("pii"),)
    assert raised.quieted(exchange(revision=1), *judged) != (flag("pii"),)


def test_what_is_remembered_is_bounded() -> None:
    """The oldest flags are forgotten; their revisions alert again."""
    raised = RaisedFlags()
    judged = ([found("pii", ["response"])], (flag("pii"),))
    for number in range(REMEMBERED + 1):
        raised.quieted(exchange(number), *judged)
    assert raised.quieted(exchange(0, revision=1), *judged) == (flag("pii"),)
    assert raised.quieted(exchange(REMEMBERED, revision=1), *judged) != (flag("pii"),)
