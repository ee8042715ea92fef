"""Redaction in real worker processes: beside the detectors, under their time-out, and lost with no trace."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from faulty_detectors import spec, trace
from flags import flag, judgement
from patience import PATIENCE

from monitor.clock import ManualClock, SystemClock
from monitor.config import PoolConfig
from monitor.detect.pool import Pool
from monitor.ports import RedactedBatch
from monitor.privacy.redact import redact, request_for

REQUEST = request_for(judgement(flag()), 100)


@pytest.fixture
def make() -> Iterator[Callable[..., Pool]]:
    """Start a pool; it is closed after the test."""
    pools: list[Pool] = []

    def start(clock: object = None, factory: str = "build", workers: int = 1) -> Pool:
        config = PoolConfig(workers=workers, timeout_seconds=PATIENCE, startup_seconds=PATIENCE)
        pools.append(Pool([spec("pii", factory)], config, clock or SystemClock()))  # type: ignore[arg-type] # both clocks are one
        pools[-1].start()
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


def wait(pool: Pool) -> list[RedactedBatch]:
    """Wait for redactions."""
    end = SystemClock().monotonic() + PATIENCE
    while not (redacted := pool.redacted()):
        assert SystemClock().monotonic() < end, pool.stats()
        pool.collect(0.05)
    return list(redacted)


def test_texts_come_back_as_they_are_redacted_here(make: Callable[..., Pool]) -> None:
    """What a worker makes of a request is what `redact` makes of it."""
    pool = make()
    pool.redact(5, [REQUEST, REQUEST])
    assert wait(pool) == [RedactedBatch(5, [redact(REQUEST)] * 2)]


def test_redaction_goes_before_judging(make: Callable[..., Pool]) -> None:
    """Traces that are judged and wait for their texts do not queue behind others."""
    pool = make()
    for ticket in range(2):
        pool.submit(ticket, [trace(ticket)])
    pool.redact(9, [REQUEST])
    judged = 0
    while not (redacted := pool.redacted()):
        judged += len(pool.collect(PATIENCE))
    assert [each.ticket for each in redacted] == [9]
    assert judged <= 2


@pytest.mark.parametrize("cause", ["timeout", "crash"])
def test_a_lost_worker_costs_no_text(make: Callable[..., Pool], cause: str) -> None:
    """What was being redacted when a worker hung or died is redacted by the next one."""
    clock = ManualClock()
    pool = make(clock)
    (worker,) = pool._workers
    os.kill(worker.process.pid, signal.SIGSTOP)
    pool.redact(1, [REQUEST, REQUEST])
    if cause == "crash":
        os.kill(worker.process.pid, signal.SIGKILL)
    else:
        clock.advance(2 * PATIENCE)
    assert wait(pool) == [RedactedBatch(1, [redact(REQUEST)] * 2)]
    assert pool.stats().restarts == {cause: 1}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "exception:PeculiarError"),
        ("recurse", "exception:RecursionError"),
        ("kill", "crash"),
        ("exit", "crash"),
        ("hang_in_c", "timeout"),
    ],
)
def test_a_text_that_cannot_be_redacted_costs_no_other(
    make: Callable[..., Pool], fault: str, reason: str
) -> None:
    """It alone gets the reason; its neighbours in the same order have their texts."""
    clock = ManualClock()
    guilty = msgspec.structs.replace(REQUEST, trace=trace(0, redaction=fault))
    pool = make(clock, factory="build_with_faulty_redaction")
    pool.redact(1, [REQUEST, guilty, REQUEST])
    end = SystemClock().monotonic() + PATIENCE
    while not (redacted := pool.redacted()):
        assert SystemClock().monotonic() < end, pool.stats()
        pool.collect(0.05)
        if reason == "timeout" and all(_hangs(worker) for worker in pool._workers):
            clock.advance(2 * PATIENCE)
    assert redacted == [RedactedBatch(1, [redact(REQUEST), reason, redact(REQUEST)])]


def _hangs(worker: Any) -> bool:
    """Whether a ready worker has the guilty request in hand."""
    return worker.ready and any(job.lo <= 1 < job.hi for job in list(worker.jobs)[:1])
