"""The loop, piece by piece: when it pauses, how it ends, what it does about unreadable partitions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engines import EVERY_TRACE, assess, build_engine, decode
from typing_extensions import override

from monitor.findings import Assessment
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.ports import Incident, Monitor
from monitor.privacy.vault import Vault
from monitor.testing import (
    BAD_BATCH,
    TRUNCATE,
    FlakyLedger,
    ManualClock,
    MemoryLog,
    MemorySource,
    RecordingObserver,
    Revoke,
    ScriptedDetectors,
)
from monitor.trace import Trace

T0 = ("t", 0)


class Watcher(RecordingObserver):
    """Keeps what the tests ask about."""

    def __init__(self) -> None:
        super().__init__()
        self.given_back = 0
        self.skips: list[tuple[str, str, int]] = []
        self.reloads: list[bool] = []
        self.writable: list[bool] = []

    @override
    def released(self, topic: str, records: int) -> None:
        """Count."""
        assert topic == "t"
        self.given_back += records

    @override
    def skipped(self, topic: str, reason: str, records: int) -> None:
        """Keep."""
        self.skips.append((topic, reason, records))

    @override
    def ledger(self, *, writable: bool) -> None:
        """Keep."""
        self.writable.append(writable)

    @override
    def rules_loaded(self, version: str, *, ok: bool) -> None:
        """Keep."""
        assert version
        self.reloads.append(ok)


class Bench:
    """An engine among fakes, on the real ledger in memory."""

    def __init__(
        self,
        items: Sequence[Any],
        *,
        rules: Path | None = None,
        monitors: Mapping[str, Monitor] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog({T0: items})
        self.source = MemorySource(self.log, self.clock, finite=False)
        self.detectors = ScriptedDetectors(assess, batch_size=2, capacity=2)
        self.ledger = Ledger.open("sqlite://", Vault(bytes(32)), self.clock, "d0")
        self.flaky = FlakyLedger(self.ledger)
        self.observer = Watcher()
        self.judged = self.observer.judgements
        self.dead = self.observer.letters
        self.engine = build_engine(
            self.source,
            self.detectors,
            self.flaky,
            self.clock,
            decode=decode,
            observer=self.observer,
            rules=rules or EVERY_TRACE,
            monitors=monitors,
            **settings,
        )

    def turns(self, number: int, *, finish: bool = True) -> None:
        """Turn, finishing all batches in between unless told otherwise."""
        for _ in range(number):
            self.engine.turn()
            self.clock.advance(0.3)  # a turn that has something to do does not wait on the clock
            if finish:
                self.detectors.finish_all()

    def until(self, condition: Callable[[], object], turns: int = 200) -> None:
        """Turn until a condition holds."""
        for _ in range(turns):
            if condition():
                return
            self.turns(1)
        pytest.fail("the condition did not come true")

    @property
    def position(self) -> int | None:
        """The ledger's next offset."""
        return self.ledger.position(*T0)


class Counting:
    """A monitor that counts what it sees, and scores by it."""

    def __init__(self) -> None:
        self.seen = self.written = 0

    def update(self, trace: Trace, assessment: Assessment) -> Assessment:
        """Count; the score shows that rules see what comes out of here."""
        del trace
        self.seen += 1
        return msgspec.structs.replace(assessment, score=0.0, values={"seen": float(self.seen)})

    def snapshot(self) -> dict[str, bytes]:
        """The count, if it changed."""
        changed, self.written = self.seen != self.written, self.seen
        return {"count": str(self.seen).encode()} if changed else {}

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Take the count up again."""
        self.seen = self.written = int(snapshot["count"])


def test_a_monitor_sees_its_detectors_assessments_and_its_state_is_written_with_them() -> None:
    """What it returns is what is judged; its state is in the ledger under the detector's name."""
    mine, other = Counting(), Counting()
    bench = Bench([b"1"] * 7, monitors={"toxicity": mine, "drift": other})
    bench.until(lambda: bench.position == 7)
    assert [j.assessments[0].values["seen"] for j in bench.judged] == [float(n) for n in range(1, 8)]
    assert bench.ledger.restore() == {"toxicity/count": b"7"}
    assert other.seen == 0


def test_intake_pauses_at_the_limit_of_traces_and_resumes_at_half() -> None:
    """With busy detectors no more is taken than the limit and one poll; when half is done, it goes on."""
    bench = Bench([b"1"] * 40, max_poll_records=4, max_waiting_traces=8)
    bench.turns(20, finish=False)
    assert bench.engine.totals.consumed == 8
    bench.detectors.finish(0)
    bench.turns(3, finish=False)
    assert bench.engine.totals.consumed == 8
    bench.detectors.finish_all()
    bench.turns(3, finish=False)
    assert bench.engine.totals.consumed > 8
    bench.until(lambda: bench.position == 40)
    assert bench.engine.totals.recorded == bench.engine.totals.traces == 40


def test_intake_pauses_at_the_limit_of_bytes() -> None:
    """Few but large records hold intake too."""
    big = b"1" + b" " * 99
    bench = Bench([big] * 40, max_poll_records=2, max_waiting_bytes=600)
    bench.turns(20, finish=False)
    # Two batches of two in flight beside what waits; then 600 bytes, that is six records.
    assert bench.engine.totals.consumed == 4 + 6
    bench.until(lambda: bench.position == 40)


def test_the_escalation_rate_comes_back_without_traffic() -> None:
    """Detectors that stand still lower it; once they go on it rises again, though nothing is submitted."""
    bench = Bench([b"1"] * 20)
    bench.turns(30, finish=False)
    assert bench.engine.escalation_rate < 0.1
    bench.until(lambda: bench.engine.totals.recorded == 20)
    assert (bench.detectors.escalation_rates[0], bench.detectors.escalation_rates[-1] < 0.5) == (1.0, True)
    bench.turns(120)
    assert min(bench.observer.escalation_rates) < 0.1
    assert bench.observer.escalation_rates[-1] == bench.engine.escalation_rate == 1.0


def test_a_wait_without_any_worker_is_no_overload() -> None:
    """The escalation rate stays while all workers are down; the alert about them is the one to come."""
    bench = Bench([b"1"] * 20)
    bench.detectors.ready = 0
    bench.turns(60, finish=False)
    assert bench.engine.escalation_rate == 1.0


def test_a_failing_ledger_holds_intake_and_loses_nothing() -> None:
    """While the ledger refuses, nothing more is taken; then the very same work is recorded, once."""
    bench = Bench([b"1", b"x", b"1"], max_poll_records=3)
    bench.turns(2)
    bench.flaky.faults = ["before"] * 3 + ["after"]
    bench.turns(2)
    assert not bench.engine.health()["ledger_writable"]
    bench.log.append(T0, [b"1"])
    taken = bench.engine.totals.consumed
    bench.turns(3)
    assert bench.engine.totals.consumed == taken == 3
    bench.until(lambda: bench.position == 4)
    totals = bench.engine.totals
    assert (totals.consumed, totals.recorded, totals.dead_lettered, totals.traces) == (4, 3, 1, 3)
    assert bench.observer.incidents.count((Incident.LEDGER_RETRY, "", -1)) == 4
    assert bench.engine.health()["ledger_writable"]
    assert verify(bench.ledger).ok


def test_what_holds_nothing_to_judge_is_recorded_and_told_once_it_is() -> None:
    """Skipped records move the position, are no dead letters, and count once though the ledger failed."""
    bench = Bench([b"-", b"1", b"-", b"x"])
    bench.flaky.faults = ["before", "before", "after"]
    bench.turns(1)
    assert bench.observer.skips == []
    bench.until(lambda: bench.position == 4)
    totals = bench.engine.totals
    assert (totals.consumed, totals.recorded, totals.dead_lettered, totals.traces) == (4, 3, 1, 1)
    assert sum(count for _, _, count in bench.observer.skips) == 2
    assert {skip[:2] for skip in bench.observer.skips} == {("t", "metrics")}
    assert [letter.offset for letter in bench.dead] == [3]
    assert verify(bench.ledger).ok


def test_what_was_skipped_of_a_lost_partition_is_told_by_whoever_records_it() -> None:
    """Skips that were not yet in the ledger go with the partition, as its other work does."""
    bench = Bench([b"1"])
    bench.until(lambda: bench.position == 1)
    bench.flaky.faults = ["before"] * 3
    bench.log.append(T0, [b"-"])
    bench.until(lambda: not bench.engine.health()["ledger_writable"])
    bench.flaky.faults = []
    bench.source.evict()
    bench.log.append(("t", 1), [b"1"] * 3)
    bench.until(lambda: bench.ledger.position("t", 1) == 3)
    assert bench.position == 1
    assert bench.observer.skips == []
    assert bench.observer.given_back == 1


def test_whether_the_ledger_takes_what_is_written_is_told() -> None:
    """A refused claim and a refused transaction are told while they last, and so is their end."""
    bench = Bench([b"1", b"1"])
    assert bench.observer.writable == []
    bench.flaky.faults = ["before"]
    bench.turns(1)
    assert bench.observer.writable == [False]
    bench.until(lambda: bench.position == 2)
    bench.turns(4)
    assert bench.observer.writable[-1]
    bench.flaky.faults = ["before"] * 8
    bench.log.append(T0, [b"1"])
    bench.turns(10)
    assert bench.observer.writable.count(False) > 1
    bench.until(lambda: bench.position == 3 and bench.observer.writable[-1])


def test_a_partition_lost_while_the_ledger_fails_holds_up_no_other() -> None:
    """Once nothing is left that the ledger refused, the engine goes on with what it still owns."""
    bench = Bench([b"1", b"1"])
    bench.until(lambda: bench.position is not None)
    bench.flaky.faults = ["before"] * 2
    bench.until(lambda: not bench.engine.health()["ledger_writable"])
    bench.flaky.faults = []
    bench.source.evict()
    bench.log.append(("t", 1), [b"1"] * 3)
    bench.until(lambda: bench.ledger.position("t", 1) == 3)
    totals = bench.engine.totals
    assert totals.consumed == totals.recorded + totals.released


def test_draining_records_what_was_taken() -> None:
    """A stop takes nothing new, waits for the batches under way, commits exactly what is recorded."""
    bench = Bench([b"1"] * 6, max_poll_records=3, max_waiting_traces=3)
    bench.turns(3, finish=False)
    taken = bench.engine.totals.consumed
    assert 0 < taken < 6
    collect = bench.detectors.collect

    def finishing(timeout: float) -> Any:
        bench.detectors.finish_all()
        return collect(timeout)

    bench.detectors.collect = finishing  # type: ignore[method-assign] # finish as time passes, as workers do
    totals = bench.engine.drain()
    assert (totals.consumed, totals.recorded, totals.released) == (taken, taken, 0)
    assert bench.log.committed == {T0: taken}
    assert bench.position == taken


def test_draining_ends_at_its_deadline_and_releases_the_rest() -> None:
    """What hangs in a detector is handed back, counted as released, and its position is not committed."""
    bench = Bench([b"1"] * 5, drain_seconds=20.0)
    bench.turns(3, finish=False)
    began = bench.clock.monotonic()

    def hanging(timeout: float) -> Any:
        bench.clock.advance(timeout)
        return ()

    bench.detectors.collect = hanging  # type: ignore[method-assign] # nothing comes back while time passes
    totals = bench.engine.drain()
    assert 20.0 <= bench.clock.monotonic() - began < 21.0
    assert (totals.consumed, totals.recorded, totals.released) == (5, 0, 5)
    assert bench.observer.given_back == 5
    assert bench.log.committed.get(T0, 0) == 0
    assert not bench.engine.health()["not_stopping"]


def test_a_revoked_partition_is_released() -> None:
    """Work of a partition that was taken away is dropped and counted; nothing of it is recorded later."""
    bench = Bench([b"1", b"1", b"1", Revoke()], max_poll_records=3)
    bench.turns(3, finish=False)
    assert bench.engine.totals.consumed == 3
    bench.log.append(T0, [b"1"])
    bench.turns(4)
    totals = bench.engine.totals
    assert totals.consumed == totals.recorded + totals.released
    assert totals.released > 0
    assert bench.engine.idle
    assert T0 not in bench.engine.positions()


def test_a_stuck_partition_waits_for_an_operator() -> None:
    """Behind a corrupt batch nothing is read until an operator moves the position; then it goes on there."""
    bench = Bench([b"1", b"1", BAD_BATCH, b"1", b"1"])
    bench.until(lambda: not bench.engine.health()["no_partition_stuck"])
    assert bench.observer.incidents == [(Incident.STUCK, *T0)]
    bench.until(lambda: bench.position == 2)
    bench.clock.advance(100)
    bench.turns(5)
    assert bench.position == 2
    bench.ledger.move(*T0, 3, "corrupt batch")
    bench.clock.advance(6)
    bench.until(lambda: bench.position == 4)
    assert bench.engine.health()["no_partition_stuck"]
    assert verify(bench.ledger).gaps == ["t/0 offsets [2, 3): corrupt batch"]


def test_retention_is_a_gap_on_record() -> None:
    """A position that no longer exists is moved to the first that does, and the gap is counted."""
    bench = Bench([b"1", b"1"])
    bench.until(lambda: bench.position == 2)
    bench.log.append(T0, [TRUNCATE, b"1", b"1", b"1"])
    bench.until(lambda: bench.position == 5)
    assert (Incident.GAP, *T0) in bench.observer.incidents
    report = verify(bench.ledger)
    assert report.gaps == ["t/0 offsets [2, 3): retention"]
    assert not report.problems
    assert [judgement.origin.offset for judgement in bench.judged] == [0, 1, 3, 4]


def test_dead_letters_are_told_and_counted() -> None:
    """The observer is told of each record that cannot be decoded; consumed is recorded plus dead-lettered."""
    bench = Bench([b"1", b"x", b"0", b"x", b"3"])
    bench.until(lambda: bench.position == 5)
    assert [(letter.offset, letter.reason, letter.value) for letter in bench.dead] == [
        (1, "invalid_json", b"x"),
        (3, "invalid_json", b"x"),
    ]
    totals = bench.engine.totals
    assert (totals.consumed, totals.recorded, totals.dead_lettered, totals.traces) == (5, 3, 2, 4)
    assert totals.flags == {"EveryTrace": 4}


def test_changed_rules_apply_without_a_restart(tmp_path: Path) -> None:
    """New rules judge what comes after them; broken ones are reported and the last good set stays."""
    path = tmp_path / "rules.yaml"
    text = Path("tests/data/every_trace.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    bench = Bench([b"1"], rules=path, rules_seconds=5.0)
    bench.until(lambda: bench.position == 1)
    for number, (changed, offset) in enumerate(
        [(text.replace("EveryTrace", "Renamed"), 2), ("groups: [", 3)]
    ):
        path.write_text(changed, encoding="utf-8")
        bench.clock.advance(6)
        bench.until(lambda number=number: len(bench.observer.reloads) == number + 1)  # type: ignore[misc]
        bench.log.append(T0, [b"1"])
        bench.until(lambda offset=offset: bench.position == offset)  # type: ignore[misc]
    assert bench.observer.reloads == [True, False]
    assert bench.engine.totals.flags == {"EveryTrace": 1, "Renamed": 2}


def test_the_end_of_the_input_ends_the_run() -> None:
    """A finite source runs until all of it is recorded, then closes."""
    bench = Bench([b"1"] * 5)
    bench.source._finite = True
    bench.until(lambda: bench.engine.finished)
    assert bench.engine.drain().recorded == 5
    assert bench.log.committed == {T0: 5}


def test_many_claims_that_take_long_are_no_loop_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog's clock begins anew with each claim: one alone has the time that a ledger may take."""
    clock = ManualClock()
    ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
    log = MemoryLog({("t", number): [b"1"] for number in range(12)})
    source = MemorySource(log, clock, finite=False)
    engine = build_engine(source, ScriptedDetectors(assess), ledger, clock, decode=decode)
    waited: list[float] = []
    claim = Ledger.claim

    def slow(*arguments: Any, **keywords: Any) -> Any:
        clock.advance(20.0)
        waited.append(clock.monotonic() - engine.turned_at)
        return claim(*arguments, **keywords)

    monkeypatch.setattr(Ledger, "claim", slow)
    engine.turn()
    assert waited == [20.0] * 12
