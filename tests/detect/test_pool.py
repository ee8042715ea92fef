"""The promise of `monitor.ports.Detectors`, held by the pool and by its in-process stand-in."""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import faulty_detectors
import pytest
from faulty_detectors import score_of, spec, trace
from patience import PATIENCE, unhindered

from monitor.clock import ManualClock, SystemClock
from monitor.config import PoolConfig
from monitor.detect import Spec, invocation
from monitor.detect.batching import FIRST_BATCH, BatchSizer
from monitor.detect.inline import InlineDetectors
from monitor.detect.pool import Pool
from monitor.errors import Busy, ConfigError
from monitor.findings import Assessment, Status
from monitor.ports import Detectors
from monitor.trace import Trace

NAMES = ("hallucination", "pii", "toxicity")


def _pool(specs: Sequence[Spec]) -> Detectors:
    return Pool(specs, PoolConfig(workers=2, timeout_seconds=PATIENCE), SystemClock())


def _inline(specs: Sequence[Spec]) -> Detectors:
    return InlineDetectors([one.build() for one in specs])


@pytest.fixture(params=[_pool, _inline], ids=["pool", "inline"])
def detectors(request: pytest.FixtureRequest) -> Iterator[Detectors]:
    """Three detectors, started."""
    made: Detectors = request.param([spec(name) for name in NAMES])
    made.start()
    yield made
    made.close()


def _judge(
    detectors: Detectors, batches: Sequence[Sequence[Trace]]
) -> dict[int, list[tuple[Assessment, ...]]]:
    """Submit every batch under its number, as fast as the port takes them, and return all verdicts."""
    verdicts: dict[int, list[tuple[Assessment, ...]]] = {}
    todo = list(enumerate(batches))
    while len(verdicts) < len(batches):
        try:
            while todo:
                detectors.submit(*todo[0])
                todo.pop(0)
        except Busy:
            pass  # the port is full; what is in it is collected below
        for ticket, assessments in detectors.collect(1.0):
            assert ticket not in verdicts
            verdicts[ticket] = list(assessments)
    return verdicts


def _expected(batch: Sequence[Trace]) -> list[list[tuple[str, Status, float]]]:
    return [[(name, Status.SCORED, score_of(name, one.id)) for name in NAMES] for one in batch]


def _seen(rows: Sequence[tuple[Assessment, ...]]) -> list[list[tuple[str, Status, float | None]]]:
    return [[(one.detector, one.status, one.score) for one in row] for row in rows]


def test_every_trace_gets_one_assessment_per_detector_in_order(detectors: Detectors) -> None:
    """Batches of any size come back once, each trace with its own scores, whichever worker ends first."""
    rng = random.Random(4)
    numbers = itertools.count()
    batches = [[trace(next(numbers)) for _ in range(rng.choice([0, 1, 2, 7, 64, 300]))] for _ in range(40)]
    verdicts = _judge(detectors, batches)
    assert {ticket: _seen(rows) for ticket, rows in verdicts.items()} == {
        ticket: _expected(batch) for ticket, batch in enumerate(batches)
    }


def test_versions_are_the_detectors_own(detectors: Detectors) -> None:
    """Versions are known after start, in the order of assessments, and stand in every assessment."""
    assert list(detectors.versions.items()) == [(name, faulty_detectors.Faulty.version) for name in NAMES]
    rows = _judge(detectors, [[trace(1)]])[0]
    assert {one.version for one in rows[0]} == {faulty_detectors.Faulty.version}


def test_a_full_port_says_busy_and_keeps_nothing(detectors: Detectors) -> None:
    """Submitting without collecting ends in Busy, and the refused batch is not judged all the same."""
    accepted = 0
    with contextlib.suppress(Busy):
        for number in range(100):
            detectors.submit(number, [trace(number)])
            accepted += 1
    assert 2 <= accepted < 10
    assert detectors.stats().in_flight == accepted
    tickets: list[int] = []
    while len(tickets) < accepted:
        tickets += [ticket for ticket, _ in detectors.collect(5.0)]
    assert sorted(tickets) == list(range(accepted))
    assert detectors.stats().in_flight == 0


def test_a_raising_detector_costs_one_error(detectors: Detectors) -> None:
    """A trace that makes one detector raise gets one error; its other verdicts and its neighbours' stand."""
    batch = [trace(0), trace(1, pii="raise"), trace(2)]
    rows = _judge(detectors, [batch])[0]
    assert rows[1][1].status is Status.ERROR
    assert rows[1][1].reason == "exception:PeculiarError"
    assert rows[1][1].score is None
    seen = _seen(rows)
    seen[1][1] = _expected(batch)[1][1]
    assert seen == _expected(batch)


@pytest.mark.parametrize("fault", sorted(faulty_detectors.RESULTS))
def test_an_unusable_result_is_an_error(fault: str) -> None:
    """A wrong number, name, type or range of results is an error of its trace, never passed on."""
    port = _inline([spec(name) for name in NAMES])
    batch = [trace(0), trace(1), trace(2, toxicity=fault), trace(3)]
    rows = _judge(port, [batch])[0]
    assert (rows[2][2].status, rows[2][2].reason) == (Status.ERROR, "bad_result")
    assert faulty_detectors.SECRET not in repr(rows)
    seen = _seen(rows)
    seen[2][2] = _expected(batch)[2][2]
    assert seen == _expected(batch)


def test_collect_does_not_wait_for_nothing(detectors: Detectors) -> None:
    """With nothing in flight, collect returns at once, so a loop never stalls on an idle pool."""
    with unhindered():
        assert list(detectors.collect(2 * PATIENCE)) == []


def test_close_may_be_called_twice(detectors: Detectors) -> None:
    """Closing again, or with work in flight, is not an error."""
    detectors.submit(0, [trace(0)])
    detectors.close()
    detectors.close()
    assert detectors.stats().in_flight == 0


def test_no_detectors_still_answer_every_trace() -> None:
    """With all detectors switched off, traces come back with no assessment rather than not at all."""
    for port in (_pool([]), _inline([])):
        port.start()
        assert _judge(port, [[trace(0), trace(1)]]) == {0: [(), ()]}
        port.close()


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("faulty_detectors:build_broken", "PeculiarError: no weights for pii"),
        ("faulty_detectors:build_fatal", "ended while it loaded"),
        ("faulty_detectors:build_never", "pool.startup_seconds"),
        ("faulty_detectors:no_such", "give package.module:callable"),
        ("no_such_module:build", "give package.module:callable"),
    ],
)
def test_start_says_why_a_detector_cannot_be_built(factory: str, message: str) -> None:
    """A factory that raises, dies, hangs or is missing ends start with a ConfigError that names the cause."""
    config = PoolConfig(workers=1, startup_seconds=1.0 if "never" in factory else 60.0)
    pool = Pool([Spec(name="pii", factory=factory, options={"name": "pii"})], config, SystemClock())
    with pytest.raises(ConfigError, match=message):
        pool.start()
    assert pool.stats().ready == 0


def test_options_that_are_not_plain_are_a_config_error() -> None:
    """Options that cannot be sent to a worker are refused before any worker runs."""
    pool = Pool([spec("pii", noisy=object())], PoolConfig(workers=1), SystemClock())
    with pytest.raises(ConfigError, match="plain YAML"):
        pool.start()


def _at_speed(seconds_per_trace: float) -> Callable[[BatchSizer], None]:
    return lambda sizer: sizer.succeeded(0, sizer.batch_size(), seconds_per_trace * sizer.batch_size())


def test_batch_size_follows_the_speed() -> None:
    """Fast detectors reach the largest batch at once, slow ones settle at the target time, one at least."""
    for per_trace, size in [(0.0, 256), (0.000001, 256), (0.01, 50), (0.1, 5), (3.0, 1)]:
        sizer = BatchSizer(1, target=0.5, most=256)
        assert sizer.batch_size() == FIRST_BATCH
        for _ in range(50):
            _at_speed(per_trace)(sizer)
        assert sizer.batch_size() == size


def test_batch_size_halves_after_a_time_out() -> None:
    """A batch that timed out makes the next one half as large; success lets it grow again."""
    sizer = BatchSizer(1, target=0.5, most=256)
    _at_speed(0.0)(sizer)
    sizer.timed_out(0, 10)
    assert sizer.batch_size() == 256, "ten traces were too slow for another reason than their number"
    sizer.timed_out(0, 256)
    assert sizer.batch_size() == 128
    for _ in range(10):
        _at_speed(0.0)(sizer)
    assert sizer.batch_size() == 256


class _Slow:
    """A detector that takes six seconds a batch, and claims another time itself."""

    name = "slow"
    version = "1"

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        self._clock.advance(6.0)
        return [
            Assessment(detector="slow", version="1", status=Status.SCORED, score=0.0, seconds=99.0)
            for _ in traces
        ]


def test_seconds_are_an_equal_share_of_the_invocation() -> None:
    """The time of an assessment is measured around the detector, whatever the detector reports."""
    clock = ManualClock()
    seconds, distinct, index = invocation.invoke(_Slow(clock), "1", [trace(i) for i in range(3)], clock)
    assert seconds == 6.0
    assert [distinct[place].seconds for place in index] == [2.0, 2.0, 2.0]
