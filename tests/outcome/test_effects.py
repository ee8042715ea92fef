"""What judgements cause: which traces leave rows, what is redacted, and when nothing of a text is kept."""

from typing import Any

import pytest
from flags import flag, judgement, redacted
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import DeliverConfig
from monitor.events import OffsetRange
from monitor.findings import Action, Evidence, Judgement, Status
from monitor.outcome.effects import Policy, add_effects, flag_rows, why_kept
from monitor.outcome.transaction import EngineVersion, Finished, Kept, Transaction, coverage_of
from monitor.privacy.redact import EXCERPTS
from monitor.records import DeadLetter


def transaction() -> Transaction:
    """An empty one."""
    return Transaction(
        owner="d0",
        version=EngineVersion.of({}, ""),
        marks={},
        coverage=[],
        flags=[],
        feedback=[],
        outgoing=[],
        kept_traces=[],
        dead_letters=[],
        snapshots={},
    )


def policy(sample_ratio: float = 0.0, **deliver: Any) -> Policy:
    """What is kept, and where it goes."""
    return Policy(deliver=DeliverConfig(**deliver), sample_ratio=sample_ratio)


def test_an_ordinary_trace_leaves_no_row() -> None:
    """What nothing flagged and nobody failed on is proven by coverage only."""
    into = transaction()
    add_effects([judgement()], policy(), 9.0, into)
    assert into == transaction()


@pytest.mark.parametrize(
    ("judged", "why"),
    [
        (judgement(flag()), Kept.FLAGGED),
        (judgement(flag(), status=Status.ERROR), Kept.FLAGGED),
        (judgement(status=Status.ERROR), Kept.FAILED),
        (judgement(status=Status.TIMEOUT), Kept.FAILED),
        (judgement(status=Status.SKIPPED), None),
        (judgement(), None),
    ],
)
def test_why_a_trace_is_kept(judged: Judgement, why: Kept | None) -> None:
    """Flagged first, then failed; a skipped detector is no failure."""
    assert why_kept(judged, 0.0) is why


@given(st.floats(0.05, 0.95))
def test_sampling_takes_its_share_and_repeats(ratio: float) -> None:
    """About the share asked for is sampled, and the same traces each time."""
    judged = [judgement(offset=offset) for offset in range(400)]
    sampled = [why_kept(one, ratio) for one in judged]
    assert abs(sum(why is Kept.SAMPLED for why in sampled) / 400 - ratio) < 0.15
    assert sampled == [why_kept(one, ratio) for one in judged]
    assert {why_kept(one, 1.0) for one in judged} == {Kept.SAMPLED}


def test_excerpts_are_redacted() -> None:
    """The last question, the response and the evidence are kept, masked by detector and net alike."""
    found = (Evidence("response", 24, 32, "PERSON", 0.8, leaked=True),)
    (row,) = flag_rows(redacted(judgement(flag(), evidence=found), 100), 9.0)
    assert row.prompt == "Who is <EMAIL_ADDRESS>"
    assert row.response == "Ask <EMAIL_ADDRESS> or <PERSON>."
    assert row.evidence == ("<PERSON>",)
    assert [assessment.detector for assessment in row.assessments] == ["pii"]
    assert row.time == 9.0


@given(st.integers(1, 40))
def test_excerpts_are_cut_after_redaction(limit: int) -> None:
    """However short an excerpt, no piece of what is masked shows."""
    (row,) = flag_rows(redacted(judgement(flag()), limit), 9.0)
    for text in (row.prompt, row.response):
        assert len(text) <= limit + 1
        assert "jane" not in text
        assert "example" not in text


@pytest.mark.parametrize("status", [Status.ERROR, Status.TIMEOUT, Status.SKIPPED])
def test_unjudged_text_is_withheld(status: Status) -> None:
    """Where PII was not judged, not even masked text is kept."""
    found = (Evidence("response", 0, 3, "X", 0.8),)
    (row,) = flag_rows(redacted(judgement(flag(), status=status, evidence=found), 100), 9.0)
    kept = {row.prompt, row.response, *row.evidence}
    assert kept == {"<withheld: personal data was not judged>"}


def test_excerpts_of_evidence_are_bounded() -> None:
    """A trace with hundreds of findings does not fill the ledger."""
    found = tuple(Evidence("response", n % 20, n % 20 + 1, "K", 0.5) for n in range(300))
    (row,) = flag_rows(redacted(judgement(flag(), evidence=found), 100), 9.0)
    assert len(row.evidence) == EXCERPTS


def test_actions_decide_where_a_flag_goes() -> None:
    """Every flag is a row; only `alert` makes alerts, only `feedback` an item and its message."""
    flags = [flag(Action.AUDIT, rule="A"), flag(Action.ALERT, rule="B"), flag(Action.FEEDBACK, rule="C")]
    into = transaction()
    add_effects([judgement(*flags)], policy(), 9.0, into)
    assert [row.flag.rule for row in into.flags] == ["A", "B", "C"]
    assert [item.id for item in into.feedback] == ["id-C"]
    assert [(message.destination, message.key) for message in into.outgoing] == [
        ("log", "id-B"),
        ("feedback", "id-C"),
    ]
    assert [(kept.why, kept.trace_id) for kept in into.kept_traces] == [(Kept.FLAGGED, "t-0")]
    silent = transaction()
    add_effects([judgement(*flags)], policy(log=False, feedback_topic=""), 9.0, silent)
    assert silent.outgoing == []
    assert len(silent.feedback) == 1


def test_coverage_counts_per_partition() -> None:
    """Ranges are merged, records, dead letters, traces, verdicts and flags counted where they belong."""
    dead = DeadLetter(
        topic="t", partition=1, offset=7, time=0.0, reason="r", detail="", key=None, value=None, headers=()
    )
    finished = [
        Finished("t", 0, OffsetRange(4, 5)),
        Finished("t", 0, OffsetRange(2, 4)),
        Finished("t", 1, OffsetRange(7, 8)),
    ]
    judged = [judgement(flag(), offset=3), judgement(status=Status.ERROR, offset=4)]
    first, second = coverage_of(finished, judged, [dead])
    assert (first.partition, first.ranges, first.records, first.dead) == (0, (OffsetRange(2, 5),), 2, 0)
    assert (first.traces, first.flags) == (2, 1)
    assert first.statuses == {"pii.scored": 1, "pii.error": 1, "toxicity.scored": 2}
    assert (second.partition, second.records, second.dead, second.traces) == (1, 1, 1, 0)


def test_a_judge_is_named_by_what_judges() -> None:
    """The same versions and rules have the same name in any order; another version another one."""
    one = EngineVersion.of({"a": "1", "b": "2"}, "r")
    assert EngineVersion.of({"b": "2", "a": "1"}, "r").id == one.id
    assert (
        len(
            {
                one.id,
                EngineVersion.of({"a": "1", "b": "3"}, "r").id,
                EngineVersion.of({"a": "1", "b": "2"}, "s").id,
            }
        )
        == 3
    )
