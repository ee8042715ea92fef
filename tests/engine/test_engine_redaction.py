"""Texts of flagged traces: redacted by the workers, while the loop goes on."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from engines import EVERY_TRACE, assess, build_engine, decode
from typing_extensions import override

from monitor.ledger import schema as t
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.ports import Observer
from monitor.privacy.redact import NOT_REDACTED
from monitor.privacy.vault import Vault
from monitor.testing import ManualClock, MemoryLog, MemorySource, Revoke, ScriptedDetectors

T0 = ("t", 0)


class _Failures(Observer):
    """Keeps the reasons of failed redactions."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    @override
    def redaction_failed(self, reason: str) -> None:
        """Keep."""
        self.reasons.append(reason)


class Bench:
    """An engine on the real ledger, whose redactions a test holds up."""

    def __init__(self, items: list[bytes], rules: Path = EVERY_TRACE) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog({T0: items})
        self.source = MemorySource(self.log, self.clock, finite=False)
        self.detectors = ScriptedDetectors(assess, batch_size=2, capacity=4)
        self.ledger = Ledger.open("sqlite://", Vault(bytes(32)), self.clock, "d0")
        self.observer = _Failures()
        self.engine = build_engine(
            self.source,
            self.detectors,
            self.ledger,
            self.clock,
            decode=decode,
            observer=self.observer,
            rules=rules,
            rules_seconds=5.0,
        )

    def turns(self, number: int) -> None:
        """Turn, finishing all batches in between."""
        for _ in range(number):
            self.engine.turn()
            self.clock.advance(0.3)
            self.detectors.finish_all()

    def rows(self) -> list[tuple[int, str, str]]:
        """Offset, rule and response of each flag on record."""
        columns = (t.flags.c.offset, t.flags.c.rule, t.flags.c.body)
        with self.ledger.view() as connection:
            query = sa.select(*columns).order_by(t.flags.c.offset, t.flags.c.part)
            rows = connection.execute(query).all()
        return [(row.offset, row.rule, json.loads(row.body)["response"]) for row in rows]


def test_a_flagged_trace_is_recorded_with_its_texts_only() -> None:
    """While its texts are being redacted it is not on record, and its position does not move."""
    bench = Bench([b"1"] * 3)
    bench.detectors.redacting = False
    bench.turns(20)
    assert (bench.rows(), bench.ledger.position(*T0)) == ([], 0)
    assert not bench.engine.idle
    bench.detectors.redacting = True
    bench.turns(5)
    assert bench.rows() == [(offset, "EveryTrace", "r") for offset in range(3)]
    assert bench.ledger.position(*T0) == 3


def test_what_needs_no_text_does_not_wait() -> None:
    """Dead letters of the same partition are recorded while a flagged trace waits for its texts."""
    bench = Bench([b"1", b"x"])
    bench.detectors.redacting = False
    bench.turns(10)
    with bench.ledger.view() as connection:
        assert connection.execute(sa.select(t.dead_letters.c.offset)).scalars().all() == [1]
    bench.detectors.redacting = True
    bench.turns(5)
    assert bench.ledger.position(*T0) == 2
    assert verify(bench.ledger).problems == []


def test_where_redaction_fails_no_text_is_kept() -> None:
    """The flag is on record without its texts, and the reason is told."""
    bench = Bench([b"1"] * 2)
    bench.detectors.redaction_fault = "timeout"
    bench.turns(8)
    assert bench.rows() == [(offset, "EveryTrace", NOT_REDACTED) for offset in range(2)]
    assert bench.observer.reasons == ["timeout"] * 2


def test_a_partition_that_is_taken_away_takes_its_flagged_traces_along() -> None:
    """Texts that come back then are dropped; whoever reads the partition next judges their traces."""
    bench = Bench([b"1"] * 3)
    bench.detectors.redacting = False
    bench.turns(8)
    bench.log.append(T0, [Revoke()])
    bench.turns(2)
    bench.detectors.redacting = True
    bench.turns(5)
    assert bench.rows() == []
    assert bench.engine.idle


@pytest.mark.parametrize("first", [b"1", b"2"])
def test_traces_judged_by_other_rules_are_recorded_apart(tmp_path: Path, first: bytes) -> None:
    """A transaction names the rules of all that it holds, though some waited for their texts meanwhile."""
    path = tmp_path / "rules.yaml"
    text = EVERY_TRACE.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    bench = Bench([first], rules=path)
    bench.detectors.redacting = False
    bench.turns(8)
    path.write_text(text.replace("EveryTrace", "Renamed"), encoding="utf-8")
    bench.clock.advance(6)
    bench.turns(2)
    bench.log.append(T0, [b"1"])
    bench.turns(8)
    bench.detectors.redacting = True
    bench.turns(5)
    rules = [rule for _, rule, _ in bench.rows()]
    assert rules == ["EveryTrace"] * int(first) + ["Renamed"]
    with bench.ledger.view() as connection:
        bodies = (
            connection.execute(sa.select(t.chain.c.body).where(t.chain.c.kind == "judge")).scalars().all()
        )
    assert len(bodies) == 2
    assert verify(bench.ledger).problems == []
