"""The detector pool: worker processes, their time-outs and their replacement. See `Pool`."""

import os
import selectors
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import structlog

from monitor.clock import Clock, Deadline
from monitor.config import PoolConfig
from monitor.detect import Spec, invocation, wire
from monitor.detect.batches import Batches, Job
from monitor.detect.process import WorkerProcess
from monitor.detect.redactions import RedactionJob, Redactions
from monitor.errors import Busy, ConfigError
from monitor.ports import JudgedBatch, PoolStats, RedactedBatch, RedactionRequest
from monitor.trace import Trace

QUEUE = 2  # batches per worker: one runs and one lies ready, so that no worker waits for the engine
LONGEST_BACKOFF = 60.0  # seconds between attempts to start a worker that does not come up
REAP_SECONDS = 5.0
_GRACE = 1.0  # seconds for a worker that is in the middle of sending its answer

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker, its jobs (the first runs), and the deadline of what it does now."""

    process: WorkerProcess
    deadline: float
    ready: bool = False
    retiring: bool = False
    jobs: deque[Job | RedactionJob] = field(default_factory=deque)

    def has_room(self) -> bool:
        # Queue nothing behind what may hang, nor behind bytes that the worker has not read.
        busy = len(self.jobs) >= QUEUE or any(job.hazardous for job in self.jobs)
        return self.ready and not self.retiring and not busy and not self.process.sending


class _Dying(NamedTuple):
    """A worker that was killed but not reaped yet, and what it was running."""

    process: WorkerProcess
    cause: str
    detector: str


class Pool:
    """Runs detectors in worker processes; fulfils `monitor.ports.Detectors`.

    Every trace gets one assessment per detector, in the order of `specs`. A detector that hangs, raises,
    kills its process or answers nonsense costs the other detectors nothing: it is invoked again with fewer
    traces until those that cause it are alone (`monitor.detect.bisection`), and they get status timeout or
    error. An invocation may take `config.timeout_seconds`, counted from when the worker could begin it.
    Time-outs are noticed in `collect`, which the engine therefore calls often. Use it from one thread that
    lives as long as the pool: on Linux, a worker dies with the thread that started it.
    """

    def __init__(self, specs: Sequence[Spec], config: PoolConfig, clock: Clock) -> None:
        self._specs = tuple(specs)
        self._config = config
        self._clock = clock
        self._size = config.workers or _cores()
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._dying: list[_Dying] = []
        self._started = False
        self._batches = Batches(specs, config, clock)
        self._redactions = Redactions()
        self._jobs = 0
        self._restarts: Counter[str] = Counter()
        self._failed_starts = 0
        self._next_start = 0.0

    def start(self) -> None:
        """Start the workers and wait until each has built its detectors.

        Raises ConfigError with the reason of the first worker that cannot.
        """
        try:
            self._start_workers()
            while not all(worker.ready for worker in self._workers):
                self._turn(self._until_due())
        except BaseException:
            self.close()
            raise
        self._started = True

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the version by detector name, in the order of assessments. Empty before `start`."""
        return {
            spec.name: version for spec, version in zip(self._specs, self._batches.versions, strict=False)
        }

    @property
    def batch_size(self) -> int:
        """Return the number of traces for the next batch."""
        return self._batches.batch_size

    def submit(
        self, ticket: int, traces: Sequence[Trace], escalation_rate: float = 1.0, *, large: bool = False
    ) -> None:
        """Begin a batch. Raises Busy when two batches per ready worker are in flight.

        A `large` one is Busy when all workers but one have such a one.
        """
        if self._batches.count(large=large) >= (self._for_large() if large else QUEUE * self._ready()):
            raise Busy("all detector workers have work")
        self._batches.add(ticket, traces, escalation_rate, large=large)
        self._dispatch()

    def redact(self, ticket: int, requests: Sequence[RedactionRequest]) -> None:
        """Begin to redact flagged traces, before any other work; as many as were judged, so never too many.

        What a worker fails at for `config.timeout_seconds`, together and alone, gets the reason.
        """
        self._redactions.add(ticket, requests)
        self._dispatch()

    def collect(self, timeout: float) -> Sequence[JudgedBatch]:
        """Return finished batches, waiting at most `timeout` seconds for the first of anything in flight."""
        deadline = Deadline(self._clock, timeout)
        waited = 0.0  # bounds the wait where a manual clock does not move
        self._turn(0.0)
        while self._awaited() and not deadline.expired() and waited < timeout:
            wait = min(deadline.remaining(), timeout - waited, self._until_due())
            waited += 0.0 if self._turn(wait) else wait
        return self._batches.take_finished()

    def redacted(self) -> Sequence[RedactedBatch]:
        """Return finished redactions; never waits."""
        return self._redactions.take_finished()

    def stats(self) -> PoolStats:
        """Return the current state. `restarts` counts by cause: timeout, crash, memory, startup."""
        return PoolStats(
            self._size,
            self._ready(),
            len(self._batches),
            self.batch_size,
            dict(self._restarts),
            dict(self._batches.decisions),
        )

    def close(self) -> None:
        """Kill all workers and drop batches in flight. Idempotent."""
        for worker in list(self._workers):
            self._dismiss(worker, "close")
        for dying in self._dying:
            dying.process.wait(REAP_SECONDS)
        self._dying.clear()
        self._batches.clear()
        self._redactions.clear()
        self._selector.close()

    def _awaited(self) -> bool:
        """Return whether something is in flight and nothing is finished."""
        in_flight = bool(self._batches) or bool(self._redactions)
        return in_flight and not (self._batches.any_finished or self._redactions.any_finished)

    # Reports of workers.

    def _turn(self, timeout: float) -> bool:
        """Read, write, expire, replace, dispatch. Return whether a worker did something."""
        events = self._selector.select(timeout)
        for key, mask in events:
            if mask & selectors.EVENT_WRITE:
                self._flush(key.data)
            if mask & selectors.EVENT_READ:
                self._read(key.data)
        now = self._clock.monotonic()
        for worker in [worker for worker in self._workers if now >= worker.deadline]:
            if worker.jobs or not worker.ready:
                self._lose(worker, invocation.TIMEOUT)
        self._dying = [dying for dying in self._dying if not _reaped(dying)]
        if self._started:
            self._start_workers()
        self._dispatch()
        return bool(events)

    def _until_due(self) -> float:
        """Return the seconds until something is due although no worker reports."""
        dues = [worker.deadline for worker in self._workers if worker.jobs or not worker.ready]
        if len(self._workers) < self._size:
            dues.append(self._next_start)
        return max(0.0, min(dues, default=float("inf")) - self._clock.monotonic())

    def _flush(self, worker: _Worker) -> None:
        worker.process.flush()
        if len(worker.jobs) == 1:  # it still reads this job, so the first invocation has not begun
            worker.deadline = self._clock.monotonic() + self._config.timeout_seconds
        self._watch(worker)

    def _watch(self, worker: _Worker) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.process.sending else 0)
        self._selector.modify(worker.process.socket, wanted, worker)

    def _read(self, worker: _Worker) -> None:
        frames, alive = worker.process.receive()
        # Part of an answer has arrived: the detector is done, and must not be killed while it is sent.
        if alive and not frames:
            worker.deadline = max(worker.deadline, self._clock.monotonic() + _GRACE)
        for frame in frames:
            try:
                understood = self._handle(worker, wire.decode_report(frame))
            except msgspec.DecodeError:
                understood = False
            if worker not in self._workers:
                return
            if not understood:
                alive = False
                break
        if not alive:
            self._lose(worker, invocation.CRASH)

    def _handle(self, worker: _Worker, report: wire.Report) -> bool:
        """Take in a worker's report. Return False when it makes no sense."""
        match report:
            case wire.BuildFailed(message=message):
                self._lose(worker, invocation.CRASH, message)
                return True
            case wire.Ready(versions=versions):
                if worker.ready or len(versions) != len(self._specs):
                    return False
                known = self._batches.versions
                # The ledger names one version per detector, so all workers must run the same.
                if known and versions != known:
                    self._lose(
                        worker, invocation.CRASH, "detector files changed since the start; restart riskmon"
                    )
                    return True
                self._batches.versions = versions
                self._failed_starts = 0
                worker.ready = True
                return True
            case wire.InvocationResult() | wire.RedactionResult():
                return self._answered(worker, report)

    def _answered(self, worker: _Worker, answer: wire.InvocationResult | wire.RedactionResult) -> bool:
        job = worker.jobs[0] if worker.jobs else None
        worker.deadline = self._clock.monotonic() + self._config.timeout_seconds
        if isinstance(job, Job) and isinstance(answer, wire.InvocationResult):
            if not self._batches.is_sound(job, answer):
                return False
            self._retire(worker, answer.memory, done=job.done + 1 == len(job.detectors))
            self._batches.answered(job, answer)
        elif isinstance(job, RedactionJob) and isinstance(answer, wire.RedactionResult):
            if not self._redactions.is_sound(job, answer):
                return False
            self._retire(worker, answer.memory, done=True)
            self._redactions.answered(job, answer)
        else:
            return False
        if worker.retiring and not worker.jobs:
            self._dismiss(worker, "memory")
        return True

    def _retire(self, worker: _Worker, memory: int, *, done: bool) -> None:
        """End a job if it is done; a worker that has grown is replaced then: nothing is judged twice."""
        if done:
            worker.jobs.popleft()
            worker.retiring = worker.retiring or memory > self._config.max_worker_bytes

    def _lose(self, worker: _Worker, reason: str, message: str = "") -> None:
        """Replace a worker that hangs, died or failed to start; its current job failed for `reason`."""
        if not worker.ready:
            self._dismiss(worker, "startup")
            if not self._started:
                raise ConfigError(message or _no_start(reason, self._config.startup_seconds))
            self._back_off(message)
            return
        jobs = worker.jobs
        if not jobs:
            self._dismiss(worker, reason)
            return
        job = jobs.popleft()
        name = job.name if isinstance(job, RedactionJob) else self._specs[job.next_detector].name
        self._dismiss(worker, reason, name)
        self._batches.give_back([each for each in jobs if isinstance(each, Job)])
        self._redactions.give_back([each for each in jobs if isinstance(each, RedactionJob)])
        if isinstance(job, RedactionJob):
            self._redactions.failed(job, reason)
        else:
            self._batches.interrupted(job, reason)

    # Starting and ending workers.

    def _ready(self) -> int:
        return sum(worker.ready for worker in self._workers)

    def _dispatch(self) -> None:
        """Hand pending jobs to the workers with the least to do, redactions first."""
        while pending := self._redactions.pending or self._large_pending() or self._batches.pending:
            worker = min(
                (worker for worker in self._workers if worker.has_room()),
                key=lambda worker: len(worker.jobs),
                default=None,
            )
            if worker is None:
                return
            job = pending.popleft()
            self._jobs += 1
            job.number = self._jobs
            if isinstance(job, Job):
                job.done = 0
            if not worker.jobs:
                worker.deadline = self._clock.monotonic() + self._config.timeout_seconds
            worker.jobs.append(job)
            worker.process.send(job.order())
            if worker.process.sending:
                self._watch(worker)

    def _for_large(self) -> int:
        """Return how many workers may judge large traces at a time: one is left to the others."""
        return min(self._ready(), max(1, self._ready() - 1))

    def _large_pending(self) -> deque[Job]:
        busy = sum(any(isinstance(job, Job) and job.batch.large for job in w.jobs) for w in self._workers)
        return self._batches.large if busy < self._for_large() else deque()

    def _start_workers(self) -> None:
        """Start missing workers, unless the last ones failed to start just now."""
        while len(self._workers) < self._size and self._clock.monotonic() >= self._next_start:
            setup = self._setup()
            try:
                process = WorkerProcess()
            except OSError as error:
                if not self._started:
                    raise ConfigError(
                        f"pool.workers: cannot start a process ({error}); ask for fewer"
                    ) from None
                self._back_off(type(error).__name__)
                return
            worker = _Worker(process, self._clock.monotonic() + self._config.startup_seconds)
            self._workers.append(worker)
            self._selector.register(process.socket, selectors.EVENT_READ, worker)
            process.send(setup)

    def _setup(self) -> bytes:
        try:
            return wire.encode(wire.Setup(self._specs))
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"detectors.*.options: {error}; use plain YAML values") from None

    def _back_off(self, message: str) -> None:
        self._failed_starts += 1
        seconds = min(2.0 ** (self._failed_starts - 1), LONGEST_BACKOFF)
        self._next_start = self._clock.monotonic() + seconds
        log.error("detector_worker_did_not_start", message=message, seconds=seconds)

    def _dismiss(self, worker: _Worker, cause: str, detector: str = "") -> None:
        """Kill a worker and count why, except at the end."""
        self._selector.unregister(worker.process.socket)
        self._workers.remove(worker)
        worker.process.kill()
        self._dying.append(_Dying(worker.process, cause, detector))
        if cause != "close":
            self._restarts[cause] += 1


def _reaped(dying: _Dying) -> bool:
    code = dying.process.exit_status()
    if code is None:
        return False
    log.warning(
        "detector_worker_ended", cause=dying.cause, detector=dying.detector, pid=dying.process.pid, code=code
    )
    return True


def _no_start(reason: str, seconds: float) -> str:
    if reason == invocation.TIMEOUT:
        return f"pool.startup_seconds: detectors took longer than {seconds} s to load; allow more"
    return (
        "detectors: the worker process ended while it loaded them; look at memory limits and native libraries"
    )


def _cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
