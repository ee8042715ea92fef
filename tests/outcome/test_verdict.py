"""Verdicts: the published schema holds, no text leaves, and the outbox delivers each at least once."""

import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import msgspec
import pytest
import sqlalchemy as sa
from flags import MAIL, flag, judgement, redacted
from hypothesis import given
from hypothesis import strategies as st
from ledgers import claimed

from monitor.config import Config, DeliverConfig
from monitor.deliver.kafka import KafkaSender
from monitor.deliver.senders import senders
from monitor.findings import Evidence, Judgement, Status
from monitor.ledger import schema as t
from monitor.ledger.claims import Claim
from monitor.ledger.outbox import LedgerOutbox
from monitor.ledger.store import Ledger
from monitor.outcome.effects import Policy, add_effects
from monitor.outcome.transaction import Claimed, EngineVersion, Transaction
from monitor.outcome.verdict import VERDICTS, schema, verdict_of
from monitor.progress import Mark
from monitor.records import Leased
from monitor.testing import ManualClock

POLICY = Policy(deliver=DeliverConfig(verdicts_topic="riskmon.verdicts"), sample_ratio=0.0)
VALIDATOR = jsonschema.Draft202012Validator(schema())


def record(ledger: Ledger, claim: Claim, judgements: Sequence[Judgement], end: int) -> Claim:
    """Write what judgements cause."""
    transaction = Transaction(
        owner="d0",
        version=EngineVersion.of({"pii": "1"}, "r"),
        marks={("t", 0): Claimed(claim.epoch, claim.version, Mark(end))},
        coverage=[],
        flags=[],
        feedback=[],
        outgoing=[],
        kept_traces=[],
        dead_letters=[],
        snapshots={},
    )
    add_effects([redacted(each) for each in judgements], POLICY, 5.0, transaction)
    ledger.record(transaction)
    return claim._replace(version=claim.version + 1)


@given(
    status=st.sampled_from(Status),
    rules=st.lists(st.sampled_from(["A", "B"]), unique=True),
    kinds=st.lists(st.sampled_from(["US_SSN", "EMAIL"]), max_size=3),
    now=st.floats(0, 4e9),
)
def test_every_verdict_is_of_the_published_schema_and_without_text(
    status: Status, rules: list[str], kinds: list[str], now: float
) -> None:
    """Whatever was found, the record validates and holds nothing that a person wrote."""
    evidence = tuple(Evidence("response", 4, 20, kind, 1.0) for kind in kinds)
    flags = [flag(rule=rule) for rule in rules]
    text = msgspec.json.encode(verdict_of(judgement(*flags, status=status, evidence=evidence), now)).decode()
    body = json.loads(text)
    VALIDATOR.validate(body)
    assert MAIL not in text
    assert "Jane" not in text
    assert (body["id"], [fired["rule"] for fired in body["flags"]]) == ("t/0/0/0", rules)


def test_a_verdict_names_everything_needed_to_join_it() -> None:
    """Ids, origin, each detector's answer and each flag with its severity are there."""
    verdict = verdict_of(judgement(flag(rule="A"), offset=7), 5.0)
    assert (verdict.id, verdict.response_id, verdict.origin.offset) == ("t/0/7/0", "t-7", 7)
    assert {name: answer.score for name, answer in verdict.detectors.items()} == {"pii": 0.5, "toxicity": 0.1}
    assert [(fired.id, fired.rule, fired.severity) for fired in verdict.flags] == [("id-A", "A", "warning")]
    assert (verdict.time, verdict.judged) == ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:05.000Z")


def test_nothing_is_written_where_no_topic_is_set() -> None:
    """Verdicts are opt-in."""
    assert DeliverConfig().verdicts_topic == ""
    assert VERDICTS not in senders(Config(), ManualClock())


def test_verdicts_are_delivered_from_the_outbox_and_leave_it(ledger: Ledger) -> None:
    """One row per trace in the transaction that judged it; once delivered it is gone, as it would add up."""
    claim = claimed(ledger)
    box = LedgerOutbox(ledger)
    claim = record(ledger, claim, [judgement(offset=n) for n in range(3)], 3)
    now = ManualClock().now()
    rows = box.lease(VERDICTS, 10, now + 60, now)
    assert [row.key for row in rows] == ["t/0/0/0", "t/0/1/0", "t/0/2/0"]
    record(ledger, claim, [judgement(offset=n) for n in (2, 3)], 4)  # the position was moved back
    box.delivered([row.id for row in rows], now)
    with ledger.begin() as connection:
        left = connection.execute(sa.select(t.outbox.c.key)).scalars().all()
    assert left == ["t/0/3/0"]


@pytest.mark.parametrize(("trace_id", "key"), [("0af7", "0af7"), ("", "chatcmpl-9")])
def test_records_are_keyed_by_trace(trace_id: str, key: str) -> None:
    """All verdicts of one distributed trace go to one partition; without one, the response's id decides."""
    config = Config.model_validate({"deliver": {"verdicts_topic": "v"}})
    sender: Any = senders(config, ManualClock())[VERDICTS]
    assert isinstance(sender, KafkaSender)
    row = Leased(1, VERDICTS, "t/0/0/0", {"trace_id": trace_id, "response_id": "chatcmpl-9"}, 0, 0.0)
    assert sender._key(row) == key
