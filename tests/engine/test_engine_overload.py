"""More traffic than the machine can carry: real workers, real time, and dear looks given up for it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import tiered_detectors
from engines import build_engine
from structlog.testing import CapturingLogger
from typing_extensions import override

from monitor.clock import Clock, SystemClock
from monitor.config import PoolConfig
from monitor.detect.pool import Pool
from monitor.findings import Judgement, Status
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.ports import Observer, Observers
from monitor.privacy.vault import Vault
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver
from monitor.testing import MemoryLog, MemorySource
from monitor.trace import Record, Trace

PARTITION = ("t", 0)
DEAR_SECONDS = 0.02
UNSURE = 0.5
CARRIED = 1 / (DEAR_SECONDS * UNSURE)  # traces per second that one worker can look at closely: 100


def decode(record: Record) -> Sequence[Trace]:
    """One trace per record."""
    return [Trace(id=f"t-{record.offset}", time=record.time, response="r")]


class _Delays(Observer):
    """Keeps what is judged, and how long after its arrival."""

    def __init__(self, bench: "Bench") -> None:
        self._bench = bench

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        now = self._bench.clock.monotonic()
        self._bench.judged += judgements
        self._bench.delays += [now - self._bench.arrived[each.origin.offset] for each in judgements]


class Bench:
    """An engine with one worker, fed in real time."""

    def __init__(self, clock: Clock, *, load_shedding: bool = True) -> None:
        self.clock = clock
        self.log = MemoryLog({PARTITION: []})
        self.metrics = Metrics(known={"detector": ["toxicity"]})
        detector = tiered_detectors.spec("toxicity", unsure=UNSURE, cheap=0.0002, dear=DEAR_SECONDS)
        self.pool = Pool([detector], PoolConfig(workers=1), clock)
        self.ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
        self.judged: list[Judgement] = []
        self.arrived: list[float] = []
        self.delays: list[float] = []
        self.produced = 0
        self.escalation_rates: list[float] = []
        self.engine = build_engine(
            MemorySource(self.log, clock, finite=False),
            self.pool,
            self.ledger,
            clock,
            decode=decode,
            observer=Observers(TelemetryObserver(self.metrics, clock, CapturingLogger()), _Delays(self)),
            rules=Path("rules/toxicity.yaml"),
            load_shedding=load_shedding,
        )

    def feed(self, per_second: float, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Turn while traces arrive at this rate; return after how many seconds that ended."""
        began, before = self.clock.monotonic(), self.produced
        while (passed := self.clock.monotonic() - began) < seconds and not until():
            due = before + int(passed * per_second) - self.produced
            self.log.append(PARTITION, [b"{}"] * due)
            self.arrived += [self.clock.monotonic()] * due
            self.produced += due
            self.engine.turn()
            self.escalation_rates.append(self.engine.escalation_rate)
        return passed

    def finish(self) -> None:
        """Turn until all that was produced is recorded."""
        self.feed(0.0, 60.0, lambda: self.engine.totals.recorded == self.produced)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """One that load_shedding load."""
    made = Bench(SystemClock())
    made.pool.start()
    yield made
    made.pool.close()


@pytest.mark.alone
def test_under_overload_the_escalation_rate_falls_and_tier_zero_sees_everything(bench: Bench) -> None:
    """At three times what it can carry, escalations are halved within seconds; nothing else is given up.

    Every trace is scored and recorded, suppressed ones are a metric, and the rate comes back with the calm.
    """
    assert bench.feed(0.5 * CARRIED, 4.0) >= 4.0
    assert min(bench.escalation_rates) == 1.0
    assert bench.feed(3 * CARRIED, 20.0, lambda: bench.engine.escalation_rate < 0.5) < 10.0
    bench.feed(3 * CARRIED, 8.0)
    strained = bench.engine.escalation_rate
    assert strained < 0.7
    # It keeps up: what waits is far less than what has arrived.
    assert bench.produced - bench.engine.totals.recorded < 2.5 * 3 * CARRIED
    bench.finish()
    assert bench.feed(0.2 * CARRIED, 60.0, lambda: bench.engine.escalation_rate == 1.0) < 60.0
    bench.finish()
    totals = bench.engine.totals
    assert totals.consumed == totals.recorded == totals.traces == bench.produced
    assert {judgement.trace.id for judgement in bench.judged} == {f"t-{n}" for n in range(bench.produced)}
    assert {judgement.assessments[0].status for judgement in bench.judged} == {Status.SCORED}
    assert verify(bench.ledger).ok
    bench.feed(0.0, 1.2)  # until the state of the pool is told again
    value = bench.metrics.value
    decided = {
        what: value("tier_decisions", detector="toxicity", tier="1", decision=what)
        for what in ("looked", "left_out", "spared")
    }
    assert sum(decided.values()) == bench.produced
    assert decided["looked"] == sum(judgement.assessments[0].tier for judgement in bench.judged)
    assert decided["left_out"] > 0.1 * bench.produced
    assert value("effort_ratio") == 1.0


@pytest.mark.alone
def test_at_seven_tenths_of_the_load_traces_are_recorded_within_a_second(bench: Bench) -> None:
    """While the machine keeps up, batches stay short: 99 % of the traces are in the ledger in a second."""
    late = 1.0
    for _ in range(3):  # a machine that stands still for a second is late whatever we do
        bench.feed(0.2 * CARRIED, 40.0, lambda: bench.engine.escalation_rate == 1.0)
        bench.feed(0.7 * CARRIED, 3.0)
        bench.delays.clear()
        bench.escalation_rates.clear()
        bench.feed(0.7 * CARRIED, 8.0)
        assert len(bench.delays) > 500
        late = sorted(bench.delays)[int(0.99 * len(bench.delays))]
        if late < 1.0:
            break
    assert late < 1.0
    assert min(bench.escalation_rates) == 1.0


@pytest.mark.alone
def test_a_file_is_looked_at_in_full_however_long_it_takes() -> None:
    """Without shedding, a long queue costs nothing but time: every unsure trace is looked at."""
    bench = Bench(SystemClock(), load_shedding=False)
    bench.pool.start()
    try:
        bench.feed(600.0, 0.5)
        bench.finish()
        assert min(bench.escalation_rates) == 1.0
        assert bench.pool.stats().decisions["toxicity", 1, "left_out"] == 0
    finally:
        bench.pool.close()
