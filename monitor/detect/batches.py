"""Batches on their way through the detectors: cut into jobs, judged, and searched for traces that fail.

Pure bookkeeping, without processes: `Pool` takes jobs from `pending` and reports what became of each.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import msgspec

from monitor.clock import Clock
from monitor.config import PoolConfig
from monitor.detect import Spec, invocation, wire
from monitor.detect.batching import BatchSizer
from monitor.detect.bisection import BatchRange, Bisection
from monitor.detect.breaker import Admission, Breaker
from monitor.findings import Assessment, Status
from monitor.ports import JudgedBatch
from monitor.trace import Trace

BUDGET = 8  # time-outs that one detector may cost one batch: with the first, 9 x 30 s = 4.5 min by default
MAX_WORK_BYTES = 64 * 2**20  # of traces in one frame; a larger batch goes in several
MAX_TIERS = 10


@dataclass(slots=True, eq=False)
class _Batch:
    """A submitted batch. `columns` holds the assessments by detector, `due` the number still missing."""

    ticket: int
    traces: Sequence[Trace]
    columns: list[list[Assessment | None]]
    due: int
    escalation_rate: float
    large: bool


@dataclass(slots=True, eq=False)
class Job:
    """Some traces of a batch, and the numbers of the detectors to run on them; `done` of these have run."""

    batch: _Batch
    part: BatchRange
    detectors: tuple[int, ...]
    payload: msgspec.Raw
    bisection: Bisection | None = None
    number: int = 0
    done: int = 0

    @property
    def next_detector(self) -> int:
        """Return the number of the detector that runs now, or next."""
        return self.detectors[self.done]

    @property
    def hazardous(self) -> bool:
        """Return whether it may take long: a large trace, or one that may be what made a batch fail."""
        return self.bisection is not None or self.batch.large

    def order(self) -> bytes:
        """Return the frame for a worker."""
        escalation_rate = self.batch.escalation_rate
        return wire.encode(wire.WorkOrder(self.number, self.detectors, self.payload, escalation_rate))


class Batches:
    """The batches in flight, their outstanding jobs, and the answers of complete batches.

    `versions` are those of the detectors, once they are built.
    """

    def __init__(self, specs: Sequence[Spec], config: PoolConfig, clock: Clock) -> None:
        self._specs = tuple(specs)
        self._config = config
        self._in_flight: dict[int, _Batch] = {}
        self._finished: list[JudgedBatch] = []
        self._breakers = [Breaker(clock) for _ in self._specs]
        self._sizer = BatchSizer(len(self._specs), config.target_batch_seconds, config.max_batch)
        self.pending: deque[Job] = deque()
        self.large: deque[Job] = deque()  # jobs that must not take all workers
        self.versions: tuple[str, ...] = ()
        self.decisions: Counter[tuple[str, int, str]] = Counter()

    def __len__(self) -> int:
        return len(self._in_flight)

    def count(self, *, large: bool) -> int:
        """Return how many batches of a kind are in flight."""
        return sum(batch.large is large for batch in self._in_flight.values())

    @property
    def batch_size(self) -> int:
        """Return the number of traces for the next batch."""
        return self._sizer.batch_size()

    @property
    def any_finished(self) -> bool:
        """Return whether `take_finished` has something to return."""
        return bool(self._finished)

    def take_finished(self) -> list[JudgedBatch]:
        """Return the batches that were completed since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def add(
        self, ticket: int, traces: Sequence[Trace], escalation_rate: float, *, large: bool = False
    ) -> None:
        """Cut a new batch into jobs."""
        columns: list[list[Assessment | None]] = [[None] * len(traces) for _ in self._specs]
        batch = _Batch(ticket, traces, columns, len(traces) * len(self._specs), escalation_rate, large)
        self._in_flight[ticket] = batch
        pieces = self._pieces(batch, BatchRange(0, len(traces)))
        if pieces:
            detectors = self._admit(batch, tuple(part for part, _ in pieces))
            if detectors:
                for part, payload in pieces:
                    self._line(batch).append(Job(batch, part, detectors, payload))
        self._finish_if_complete(batch)

    def clear(self) -> None:
        """Forget all batches in flight."""
        self.pending.clear()
        self.large.clear()
        self._in_flight.clear()

    def give_back(self, jobs: Sequence[Job]) -> None:
        """Put jobs that never began in front of all others, in their order."""
        for job in reversed(jobs):
            self._line(job.batch).appendleft(job)

    def _line(self, batch: _Batch) -> deque[Job]:
        return self.large if batch.large else self.pending

    def is_sound(self, job: Job, answer: wire.InvocationResult) -> bool:
        """Return whether this can be the answer to the next invocation of a job."""
        number = job.next_detector
        if (answer.job, answer.detector) != (job.number, number):
            return False
        if answer.reason:
            return invocation.is_reason(answer.reason)
        size = job.part.hi - job.part.lo
        return len(answer.index) == size and _is_sound(
            answer, self._specs[number].name, self.versions[number]
        )

    def answered(self, job: Job, answer: wire.InvocationResult) -> None:
        """Take in a sound answer; the job has one invocation fewer to go."""
        number = job.next_detector
        job.done += 1
        if answer.reason:
            self._failed(job, number, answer.reason, answer.seconds)
        else:
            self._succeeded(job, number, answer)

    def interrupted(self, job: Job, reason: str) -> None:
        """Take in that a worker was lost in the middle of a job."""
        number, later = job.next_detector, job.detectors[job.done + 1 :]
        # The detectors that had not begun are not to blame: they go to another worker.
        if later:
            self._line(job.batch).appendleft(Job(job.batch, job.part, later, job.payload))
        self._failed(job, number, reason, self._config.timeout_seconds)

    def _pieces(self, batch: _Batch, part: BatchRange) -> list[tuple[BatchRange, msgspec.Raw]]:
        """Serialise a new batch in as few pieces as fit a frame; traces that are too large get errors."""
        lo, hi = part
        payload = wire.encode(batch.traces[lo:hi])
        if len(payload) <= MAX_WORK_BYTES:
            return [(part, msgspec.Raw(payload))] if hi > lo else []
        if hi - lo > 1:
            middle = (lo + hi) // 2
            return self._pieces(batch, BatchRange(lo, middle)) + self._pieces(batch, BatchRange(middle, hi))
        for number in range(len(self._specs)):
            self._condemn(batch, number, part, Status.ERROR, invocation.TOO_LARGE)
        return []

    def _admit(self, batch: _Batch, parts: tuple[BatchRange, ...]) -> tuple[int, ...]:
        """Return the detectors to run on a new batch; those of open breakers get one trace or none."""
        admitted = []
        for number, breaker in enumerate(self._breakers):
            match breaker.admit():
                case Admission.RUN:
                    admitted.append(number)
                # One trace at a time: finding out that it is still broken must not cost a whole batch.
                case Admission.TRIAL:
                    self._try_next(batch, number, Bisection(BUDGET * self._config.timeout_seconds, parts))
                case Admission.SKIP:
                    for part in parts:
                        self._condemn(batch, number, part, breaker.status, invocation.BREAKER_OPEN)
        return tuple(admitted)

    def _succeeded(self, job: Job, number: int, answer: wire.InvocationResult) -> None:
        lo, hi = job.part
        job.batch.columns[number][lo:hi] = [answer.distinct[place] for place in answer.index]
        job.batch.due -= hi - lo
        self.decisions.update(invocation.decisions(self._specs[number].name, answer.tallies))
        self._breakers[number].succeeded()
        if job.bisection is not None:
            self._try_next(job.batch, number, job.bisection)
        elif not job.batch.large:
            self._sizer.succeeded(number, hi - lo, answer.seconds)
        self._finish_if_complete(job.batch)

    def _failed(self, job: Job, number: int, reason: str, seconds: float) -> None:
        bisection = job.bisection or Bisection(BUDGET * self._config.timeout_seconds)
        breaker = self._breakers[number]
        status = Status.TIMEOUT if reason == invocation.TIMEOUT else Status.ERROR
        # A part of a bisection is small on purpose, so its time-out says nothing about the size of batches.
        if reason == invocation.TIMEOUT and not job.hazardous:
            self._sizer.timed_out(number, job.part.hi - job.part.lo)
        if bisection.failed(job.part, reason, seconds):
            self._condemn(job.batch, number, job.part, status, reason, seconds)
            breaker.failed(status)
        if bisection.exhausted:
            breaker.trip()
        self._try_next(job.batch, number, bisection)
        self._finish_if_complete(job.batch)

    def _try_next(self, batch: _Batch, number: int, bisection: Bisection) -> None:
        """Continue a bisection, or abandon the rest of it if the detector's breaker is open."""
        breaker = self._breakers[number]
        if breaker.refuses:
            for rest in bisection.abandon():
                self._condemn(batch, number, rest, breaker.status, invocation.BREAKER_OPEN)
            return
        part = bisection.take(far=breaker.suspicious)
        if part is not None:
            payload = msgspec.Raw(wire.encode(batch.traces[part.lo : part.hi]))
            # In front of all others: the whole batch waits for this one detector.
            self._line(batch).appendleft(Job(batch, part, (number,), payload, bisection))

    def _condemn(
        self, batch: _Batch, number: int, part: BatchRange, status: Status, reason: str, seconds: float = 0.0
    ) -> None:
        spec, version = self._specs[number], self.versions[number]
        size = part.hi - part.lo
        verdict = Assessment(
            detector=spec.name, version=version, status=status, reason=reason, seconds=seconds / max(size, 1)
        )
        batch.columns[number][part.lo : part.hi] = [verdict] * size
        batch.due -= size

    def _finish_if_complete(self, batch: _Batch) -> None:
        if batch.due == 0 and batch.ticket in self._in_flight:
            del self._in_flight[batch.ticket]
            rows = zip(*batch.columns, strict=True) if batch.columns else ((),) * len(batch.traces)
            self._finished.append(JudgedBatch(batch.ticket, cast("list[tuple[Assessment, ...]]", list(rows))))


def _is_sound(answer: wire.InvocationResult, name: str, version: str) -> bool:
    """Return whether a detector of this name and version can have given this answer."""
    return (
        all(each.detector == name and each.version == version for each in answer.distinct)
        and min(answer.index) >= 0
        and max(answer.index) < len(answer.distinct)
        and all(0 < tally.tier < MAX_TIERS and min(tally) >= 0 for tally in answer.tallies)
    )
