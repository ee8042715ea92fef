"""Redactions of flagged traces on their way through the pool: one order for a batch, then each request alone.

Pure bookkeeping, without processes, as `monitor.detect.batches` is for judging.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monitor.detect import invocation, wire
from monitor.findings import Redaction
from monitor.ports import RedactedBatch, RedactionRequest

NAME = "redaction"
"""What the log of a lost worker names as its work."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Requests that belong together, and their outcomes so far; `due` are missing."""

    ticket: int
    requests: Sequence[RedactionRequest]
    outcomes: list[Redaction | str]
    due: int


@dataclass(slots=True, eq=False)
class RedactionJob:
    """The requests [lo, hi) of a batch. `hazardous`: it may be what the worker was lost to."""

    batch: _Batch
    lo: int
    hi: int
    hazardous: bool = False
    number: int = 0
    name: str = NAME

    def order(self) -> bytes:
        """Return the frame for a worker."""
        return wire.encode(wire.RedactionOrder(self.number, tuple(self.batch.requests[self.lo : self.hi])))


class Redactions:
    """Redactions in flight, the jobs that wait for a worker, and the batches that are complete."""

    def __init__(self) -> None:
        self._in_flight: set[int] = set()
        self._finished: list[RedactedBatch] = []
        self.pending: deque[RedactionJob] = deque()

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def any_finished(self) -> bool:
        """Return whether `take_finished` has something to return."""
        return bool(self._finished)

    def take_finished(self) -> list[RedactedBatch]:
        """Return the batches that were completed since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def add(self, ticket: int, requests: Sequence[RedactionRequest]) -> None:
        """Begin a batch."""
        batch = _Batch(ticket, requests, [""] * len(requests), len(requests))
        self._in_flight.add(ticket)
        self.pending.append(RedactionJob(batch, 0, len(requests)))

    def clear(self) -> None:
        """Forget everything in flight."""
        self.pending.clear()
        self._in_flight.clear()

    def give_back(self, jobs: Iterable[RedactionJob]) -> None:
        """Put jobs that never began in front of all others, in their order."""
        self.pending.extendleft(reversed(list(jobs)))

    def is_sound(self, job: RedactionJob, answer: wire.RedactionResult) -> bool:
        """Return whether this can be the answer to a job."""
        size = 0 if answer.reason else job.hi - job.lo
        return (
            answer.job == job.number
            and len(answer.redactions) == size
            and invocation.is_reason(answer.reason)
        )

    def answered(self, job: RedactionJob, answer: wire.RedactionResult) -> None:
        """Take in a sound answer."""
        if answer.reason:
            self.failed(job, answer.reason)
        else:
            self._settle(job, answer.redactions)

    def failed(self, job: RedactionJob, reason: str) -> None:
        """Take in that a job failed: each of its requests is tried alone; one that was alone is given up."""
        if job.hi - job.lo == 1:
            self._settle(job, [reason])
            return
        alone = [RedactionJob(job.batch, n, n + 1, hazardous=True) for n in range(job.lo, job.hi)]
        self.give_back(alone)

    def _settle(self, job: RedactionJob, outcomes: Sequence[Redaction | str]) -> None:
        batch = job.batch
        batch.outcomes[job.lo : job.hi] = outcomes
        batch.due -= job.hi - job.lo
        if batch.due == 0 and batch.ticket in self._in_flight:
            self._in_flight.discard(batch.ticket)
            self._finished.append(RedactedBatch(batch.ticket, batch.outcomes))
