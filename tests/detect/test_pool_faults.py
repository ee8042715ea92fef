"""Detectors that hang, raise, kill their process or leak, in real worker processes."""

import contextlib
import os
import random
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from faulty_detectors import SECRET, score_of, spec, trace
from patience import PATIENCE, eventually

from monitor.clock import ManualClock, SystemClock
from monitor.config import PoolConfig
from monitor.detect import Spec
from monitor.detect import batches as batches_module
from monitor.detect.pool import Pool
from monitor.errors import Busy, ConfigError
from monitor.findings import Assessment, Status
from monitor.ports import JudgedBatch
from monitor.trace import Trace

CLOCK = SystemClock()
NAMES = ("hallucination", "pii", "toxicity", "drift")
HANGS = {"hang", "hang_in_c"}
Make = Callable[..., Pool]


@pytest.fixture
def make() -> Iterator[Make]:
    """Start a pool; it is closed after the test."""
    pools: list[Pool] = []

    def start(
        specs: Sequence[Spec] = tuple(map(spec, NAMES)), clock: object = CLOCK, **config: float
    ) -> Pool:
        settings = {"workers": 2, "timeout_seconds": PATIENCE, "startup_seconds": PATIENCE} | config
        pool = Pool(specs, PoolConfig.model_validate(settings), clock)  # type: ignore[arg-type]  # both clocks are one
        pools.append(pool)
        pool.start()
        return pool

    yield start
    for pool in pools:
        pool.close()


def _collect(pool: Pool, batches: int) -> dict[int, list[tuple[Assessment, ...]]]:
    """Wait for so many batches."""
    found: dict[int, list[tuple[Assessment, ...]]] = {}
    end = CLOCK.monotonic() + PATIENCE
    while len(found) < batches:
        assert CLOCK.monotonic() < end, f"{batches - len(found)} batches did not come back: {pool.stats()}"
        for ticket, rows in pool.collect(0.2):
            assert ticket not in found
            found[ticket] = list(rows)
    return found


def _wait(pool: Pool, condition: Callable[[], bool]) -> None:
    """Keep the pool turning until something holds."""
    end = CLOCK.monotonic() + PATIENCE
    while not condition():
        assert CLOCK.monotonic() < end, pool.stats()
        pool.collect(0.0)
        CLOCK.sleep(0.01)


def _pass_hangs(pool: Pool, clock: ManualClock) -> None:
    """Let the time-out pass once all that is being done is what hangs, so that it falls on nothing else."""
    busy = [worker for worker in pool._workers if worker.jobs]
    if busy and pool.stats().ready == pool.stats().workers and all(map(_hangs, busy)):
        clock.advance(pool._config.timeout_seconds)


def _hangs(worker: Any) -> bool:
    job = worker.jobs[0]
    name = NAMES[job.detectors[job.done]]
    return any(one.labels.get(name) in HANGS for one in job.batch.traces[slice(*job.part)])


def _alike(row: Sequence[Assessment], one: Trace, guilty: Sequence[str] = ()) -> bool:
    """Whether each verdict is right, but for those of guilty detectors, which must say they failed."""
    return [answer.detector for answer in row] == list(NAMES) and all(
        answer.status in {Status.TIMEOUT, Status.ERROR} and answer.score is None
        if answer.detector in guilty
        else answer.status is Status.SCORED and answer.score == score_of(answer.detector, one.id)
        for answer in row
    )


@pytest.mark.parametrize(
    ("fault", "status", "reason", "restarts"),
    [
        ("hang", Status.TIMEOUT, "timeout", {"timeout": 2}),
        ("hang_in_c", Status.TIMEOUT, "timeout", {"timeout": 2}),
        ("die", Status.ERROR, "crash", {"crash": 3}),
        ("segfault", Status.ERROR, "crash", {"crash": 3}),
        ("kill", Status.ERROR, "crash", {"crash": 3}),
        ("forge", Status.ERROR, "crash", {"crash": 3}),
        ("raise", Status.ERROR, "exception:PeculiarError", {}),
        ("recurse", Status.ERROR, "exception:RecursionError", {}),
        ("exit", Status.ERROR, "exception:SystemExit", {}),
        ("too_few", Status.ERROR, "bad_result", {}),
        ("too_many", Status.ERROR, "bad_result", {}),
        ("other_name", Status.ERROR, "bad_result", {}),
    ],
)
def test_a_poisonous_trace_costs_one_verdict(
    make: Make, fault: str, status: Status, reason: str, restarts: dict[str, int]
) -> None:
    """One fault in one detector: that verdict says so, all others are complete and right, nothing leaks."""
    clock = ManualClock()
    pool = make(clock=clock)
    batch = [trace(i) for i in range(20)] + [trace(20, pii=fault)] + [trace(i) for i in range(21, 32)]
    pool.submit(1, batch)
    found: list[JudgedBatch] = []
    end = CLOCK.monotonic() + PATIENCE
    while not found:
        assert CLOCK.monotonic() < end, pool.stats()
        found += pool.collect(0.02)
        _pass_hangs(pool, clock)
    ((_, rows),) = found
    guilty = rows[20][1]
    assert (guilty.detector, guilty.status, guilty.reason) == ("pii", status, reason)
    assert all(
        _alike(row, one, ["pii"] if one is batch[20] else []) for row, one in zip(rows, batch, strict=True)
    )
    assert SECRET not in repr(rows)
    assert pool.stats().restarts == restarts


def test_a_hang_is_noticed_within_a_second_and_its_worker_replaced_within_ten(make: Make) -> None:
    """A lone hanging trace times out when configured, at most a second late; the pool is whole again."""
    pool = make(
        [spec("drift")], timeout_seconds=1.0
    )  # no other detector could be late for want of a processor
    noticed, whole = [], []
    for ticket in range(3):  # the quickest tells: what else the machine does meanwhile is not the pool's
        start = CLOCK.monotonic()
        pool.submit(ticket, [trace(0, drift="hang")])
        ((verdict,),) = _collect(pool, 1)[ticket]
        noticed.append(CLOCK.monotonic() - start)
        assert verdict.status is Status.TIMEOUT
        _wait(pool, lambda: pool.stats().ready == 2)
        whole.append(CLOCK.monotonic() - start)
    assert 1.0 <= min(noticed) <= 2.0
    assert min(whole) <= 11.0


def test_a_hang_holds_up_only_its_own_batch(make: Make) -> None:
    """While one worker hangs, batches come back from others, and the one queued behind it survives."""
    clock = ManualClock()
    pool = make(clock=clock)
    pool.submit(0, [trace(0, hallucination="hang")])
    for ticket in (1, 2, 3):
        pool.submit(ticket, [trace(ticket)])
    found = _collect(pool, 2)
    assert 0 not in found
    clock.advance(PATIENCE)
    found |= _collect(pool, 2)
    assert all(_alike(found[i][0], trace(i), ["hallucination"] if i == 0 else []) for i in range(4))


@pytest.mark.parametrize("seed", [1, 2])
def test_any_mixture_of_faults_touches_only_the_guilty(make: Make, seed: int) -> None:
    """Random faults in random batches: each batch comes back once and only guilty verdicts are failures."""
    rng = random.Random(seed)
    # "too_many" is left out: beside "too_few" in one batch the sum is right and no one can tell.
    faults = ["raise", "exit", "die", "kill", "hang", "too_few", "none", "score_nan", "score_text", "forge"]
    clock = ManualClock()
    pool = make(clock=clock)
    batches = []
    for number in range(25):
        batch = [trace(1000 * number + i) for i in range(rng.randrange(1, 40))]
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            place = rng.randrange(len(batch))
            guilt = {name: rng.choice(faults) for name in rng.sample(NAMES, rng.choice([1, 1, 2]))}
            batch[place] = trace(1000 * number + place, **guilt)
        batches.append(batch)
    found: dict[int, list[tuple[Assessment, ...]]] = {}
    todo = list(enumerate(batches))
    end = CLOCK.monotonic() + 120.0
    while len(found) < len(batches):
        assert CLOCK.monotonic() < end, pool.stats()
        with contextlib.suppress(Busy):
            while todo:
                pool.submit(*todo[0])
                todo.pop(0)
        for ticket, rows in pool.collect(0.02):
            assert ticket not in found
            found[ticket] = list(rows)
        _pass_hangs(pool, clock)
    for ticket, batch in enumerate(batches):
        assert all(_alike(row, one, list(one.labels)) for row, one in zip(found[ticket], batch, strict=True))


def test_workers_killed_from_outside_lose_nothing(make: Make) -> None:
    """SIGKILL of random workers at random moments costs time; every trace still gets its right verdicts."""
    rng = random.Random(3)
    pool = make()
    done = submitted = 0
    killed: set[int] = set()
    while len(killed) < 12 or done < submitted:
        with contextlib.suppress(Busy):
            while len(killed) < 12:
                pool.submit(submitted, [trace(1000 * submitted + i) for i in range(50)])
                submitted += 1
        for ticket, rows in pool.collect(0.02):
            done += 1
            assert all(_alike(row, trace(1000 * ticket + i)) for i, row in enumerate(rows))
        alive = [worker.process.pid for worker in pool._workers if worker.process.pid not in killed]
        if len(killed) < 12 and rng.random() < 0.2 and len(alive) == pool.stats().ready == 2:
            victim = rng.choice(alive)
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
    _wait(pool, lambda: pool.stats().restarts == {"crash": 12} and pool.stats().ready == 2)


def test_a_stopped_worker_is_replaced(make: Make) -> None:
    """A process that neither works nor dies counts as hanging; its batch is judged by another."""
    clock = ManualClock()
    pool = make(clock=clock, workers=1)
    _stop(pool)
    batch = [trace(i) for i in range(3000)]  # more than a socket holds: writing must not block either
    pool.submit(1, batch)
    pool.collect(0.0)
    clock.advance(PATIENCE)
    rows = _collect(pool, 1)[1]
    assert all(_alike(row, one) for row, one in zip(rows, batch, strict=True))
    assert pool.stats().restarts == {"timeout": 1}


def _stop(pool: Pool) -> None:
    """Stop the first worker; on return it does nothing more."""
    pid = pool._workers[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])


def test_an_engine_that_was_away_kills_no_healthy_worker(make: Make) -> None:
    """Answers that came in time count, though they are read long after the time-out."""
    clock = ManualClock()
    pool = make(clock=clock, workers=1)
    batches = [[trace(5000 * n + i) for i in range(4000)] for n in range(2)]
    for ticket, batch in enumerate(batches):
        pool.submit(ticket, batch)
    found: dict[int, list[tuple[Assessment, ...]]] = {}
    while len(found) < 2:
        events = pool._selector.select(PATIENCE)
        assert events, pool.stats()
        if any(mask & selectors.EVENT_READ for _, mask in events):  # an answer is there, and nobody reads it
            clock.advance(2 * PATIENCE)
        found |= {ticket: list(rows) for ticket, rows in pool.collect(0.0)}
    for ticket, batch in enumerate(batches):
        assert all(_alike(row, one) for row, one in zip(found[ticket], batch, strict=True))
    assert pool.stats().restarts == {}


def test_a_detector_that_always_fails_is_switched_off_and_on_again(make: Make, tmp_path: Path) -> None:
    """Its traces say `breaker_open` untried; after the cool-down one trace tries, and success closes it."""
    clock = ManualClock()
    broken = tmp_path / "broken"
    broken.touch()
    names = [spec(name) for name in NAMES]
    names[2] = spec("toxicity", broken_while=str(broken))
    pool = make(names, clock=clock)

    def reasons(ticket: int) -> list[str]:
        pool.submit(ticket, [trace(i) for i in range(64)])
        rows = _collect(pool, 1)[ticket]
        assert all(
            _alike(row, trace(i), [row[2].detector] if row[2].reason else []) for i, row in enumerate(rows)
        )
        return [row[2].reason for row in rows]

    first = reasons(1)
    assert first.count("exception:PeculiarError") == 4
    assert first.count("breaker_open") == 60
    assert set(reasons(2)) == {"breaker_open"}
    clock.advance(1.1)
    assert sorted(reasons(3)) == ["breaker_open"] * 63 + ["exception:PeculiarError"]
    clock.advance(1.1)
    assert set(reasons(4)) == {"breaker_open"}
    broken.unlink()
    clock.advance(1.0)
    assert set(reasons(5)) == {""}
    assert set(reasons(6)) == {""}


def test_a_pool_without_workers_keeps_its_batches(make: Make, tmp_path: Path) -> None:
    """Replacements that do not come up are retried with back-off; what was in flight waits and is judged."""
    refuse = tmp_path / "refuse"
    clock = ManualClock()
    pool = make([spec(name, refuse_while=str(refuse)) for name in NAMES], clock=clock, workers=1)
    refuse.touch()
    _stop(pool)  # so that it cannot answer before it dies
    pool.submit(1, [trace(0), trace(1)])
    os.kill(pool._workers[0].process.pid, signal.SIGKILL)
    _wait(pool, lambda: pool.stats().restarts.get("startup", 0) == 1)
    assert pool.stats().ready == 0
    with pytest.raises(Busy):
        pool.submit(2, [trace(2)])
    clock.advance(1.0)
    _wait(pool, lambda: pool.stats().restarts["startup"] == 2)
    clock.advance(1.0)
    pool.collect(0.1)
    assert pool.stats().restarts["startup"] == 2, "the second wait is two seconds"
    refuse.unlink()
    clock.advance(1.1)
    rows = _collect(pool, 1)[1]
    assert all(_alike(row, trace(i)) for i, row in enumerate(rows))


def test_a_replacement_with_other_detectors_is_refused(make: Make, tmp_path: Path) -> None:
    """Weights changed on disk while running do not mix into the stream: all workers bear one version."""
    version = tmp_path / "version"
    version.write_text("1", encoding="utf-8")
    pool = make([spec("pii", "build_changing", version_file=str(version))])
    version.write_text("2", encoding="utf-8")
    os.kill(pool._workers[0].process.pid, signal.SIGKILL)
    _wait(pool, lambda: pool.stats().restarts.get("startup", 0) > 0)
    assert pool.versions == {"pii": "1"}
    assert pool.stats().ready == 1


def test_a_worker_that_leaks_is_replaced_after_its_batch(make: Make) -> None:
    """Over its memory bound, a worker ends its batch and then gives way to a new one."""
    specs = [spec("pii", hoard=200 * 2**20)]
    pool = make(specs, workers=1, max_worker_bytes=250 * 2**20, timeout_seconds=20)
    for ticket in range(2):
        pool.submit(ticket, [trace(ticket)])
    found = _collect(pool, 2)
    assert [found[i][0][0].status for i in range(2)] == [Status.SCORED] * 2
    _wait(pool, lambda: pool.stats().ready == 1)
    assert pool.stats().restarts == {"memory": 1}


def test_a_large_batch_goes_in_pieces_and_a_trace_too_large_is_an_error(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound on bytes splits a batch; a single trace over it gets an error from every detector."""
    monkeypatch.setattr(batches_module, "MAX_WORK_BYTES", 2000)
    pool = make()
    batch = [trace(i) for i in range(30)] + [Trace(id="big", time=0.0, response="x" * 3000)] + [trace(31)]
    pool.submit(1, batch)
    pool.submit(2, [batch[30]])
    found = _collect(pool, 2)
    assert {(one.status, one.reason) for one in found[1][30]} == {(Status.ERROR, "too_large")}
    assert found[2] == [found[1][30]]
    assert all(_alike(row, one) for row, one in zip(found[1], batch, strict=True) if one is not batch[30])


def test_what_detectors_print_goes_nowhere(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing that a detector writes to its standard streams reaches the daemon's."""
    pool = make([spec("pii", noisy=True)])
    pool.submit(1, [trace(0)])
    assert _collect(pool, 1)[1][0][0].status is Status.SCORED
    pool.close()
    captured = capfd.readouterr()
    assert SECRET not in captured.out + captured.err


def test_workers_do_not_see_the_daemons_secrets(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings in the environment, passwords among them, are not handed to third-party model code."""
    monkeypatch.setenv("RISKMON_KAFKA_SASL_PASSWORD", "hunter2")
    with pytest.raises(ConfigError, match=r"variables: $"):
        make([spec("pii", "build_telling")])


def _descriptors() -> set[tuple[str, str]]:
    """Open descriptors, and what each is of: what others close meanwhile makes room for none of ours."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this listing itself
            found.add((path.name, str(path.readlink())))
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc to see descriptors")
def test_close_leaves_no_process_and_no_descriptor() -> None:
    """After close, with work in flight or half started, no child, zombie, socket or pipe is left."""
    before = _descriptors()
    pids = []
    for _ in range(3):
        pool = Pool([spec("pii")], PoolConfig(workers=2), CLOCK)
        pool.start()
        pids += [worker.process.pid for worker in pool._workers]
        pool.submit(1, [trace(0, pii="hang")])
        pool.close()
    half = Pool([spec("pii", "build_never")], PoolConfig(workers=2, startup_seconds=0.2), CLOCK)
    with pytest.raises(ConfigError):
        half.start()
    assert _descriptors() <= before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


PARENT = """
import sys
from faulty_detectors import spec, trace
from monitor.clock import SystemClock
from monitor.config import PoolConfig
from monitor.detect.pool import Pool
pool = Pool([spec("pii")], PoolConfig(workers=2), SystemClock())
pool.start()
pool.submit(1, [trace(0, pii="hang_in_c")])
pool.collect(0.2)
print(*(worker.process.pid for worker in pool._workers), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a busy worker dies with its parent on Linux only")
def test_workers_die_with_their_parent() -> None:
    """A daemon killed with SIGKILL leaves no worker behind, not even one that is stuck in C code."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    eventually(lambda: not any(map(_runs, pids)), "the end of the workers")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # in a container nobody may reap it


def test_the_pool_costs_the_engine_little() -> None:
    """With four detectors that do nothing, the engine's own processor time per trace is below 10 µs."""
    names = [Spec(name=name, factory="monitor.detect.noop:build", options={"name": name}) for name in NAMES]
    pool = Pool(names, PoolConfig(workers=1), CLOCK)
    pool.start()
    traces = [Trace(id=f"t-{i}", time=0.0, response="x" * 1024) for i in range(20_000)]
    done = ticket = 0
    start = time.thread_time()
    while done < len(traces):
        with contextlib.suppress(Busy):
            while ticket * 256 < len(traces):
                pool.submit(ticket, traces[ticket * 256 : ticket * 256 + 256])
                ticket += 1
        done += sum(len(rows) for _, rows in pool.collect(1.0))
    took = time.thread_time() - start
    pool.close()
    assert took < len(traces) * 10e-6


def test_large_batches_leave_a_worker_to_the_others(make: Make) -> None:
    """While large ones hang, all but one worker are theirs at most, and every other batch is judged."""
    clock = ManualClock()
    pool = make(clock=clock, workers=3)
    hanging = [trace(number, pii="hang") for number in range(3)]
    for ticket in range(2):
        pool.submit(ticket, hanging[ticket : ticket + 1], large=True)
    with pytest.raises(Busy):
        pool.submit(2, hanging[2:], large=True)
    for ticket in range(10, 30):
        pool.submit(ticket, [trace(ticket)])
        assert list(_collect(pool, 1)) == [ticket]
    size = pool.batch_size
    clock.advance(2 * PATIENCE)
    found = _collect(pool, 2)
    assert {row[1].status for rows in found.values() for row in rows} == {Status.TIMEOUT}
    assert pool.batch_size >= size  # their time-outs say nothing of other batches


def test_one_worker_judges_large_batches_too(make: Make) -> None:
    """There is no other, so they have their turn between the others."""
    pool = make(workers=1)
    pool.submit(0, [trace(0)], large=True)
    pool.submit(1, [trace(1)])
    assert _collect(pool, 2).keys() == {0, 1}
