"""The detector pool: worker processes, time-outs, repair. See `Pool`."""

import os
import selectors
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import msgspec
import structlog

from monitor.clock import Clock, Deadline
from monitor.config import PoolConfig
from monitor.detect import Spec, step, wire
from monitor.detect.pace import Pace
from monitor.detect.process import WorkerProcess
from monitor.detect.repair import Admission, Breaker, Part, Repair
from monitor.errors import Busy, ConfigError
from monitor.findings import Assessment, Status
from monitor.ports import PoolStats, Verdicts
from monitor.trace import Trace

QUEUE = 2  # batches per worker: one runs and one lies ready, so that no worker waits for the engine
BUDGET = 8  # time-outs that one step of one batch may lose: with the first, 9 x 30 s = 4.5 min by default
MAX_WORK_BYTES = 64 * 2**20  # of traces in one frame; a larger batch goes in several
LONGEST_BACKOFF = 60.0  # seconds between attempts to start a worker that does not come up
REAP_SECONDS = 5.0
MAX_TIERS = 10
_GRACE = 1.0  # seconds for a worker that is in the middle of sending its answer

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Batch:
    """A submitted batch. `columns` holds per detector the assessments found, `due` how many are not."""

    ticket: int
    traces: Sequence[Trace]
    columns: list[list[Assessment | None]]
    due: int
    effort: float


@dataclass(slots=True, eq=False)
class _Job:
    """Some traces of a batch and the steps to take with them; `done` of these are taken."""

    batch: _Batch
    part: Part
    steps: tuple[int, ...]
    payload: msgspec.Raw
    repair: Repair | None = None
    number: int = 0
    done: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker, its jobs (the first runs) and when it is overdue with what it does now."""

    process: WorkerProcess
    deadline: float
    ready: bool = False
    retiring: bool = False
    jobs: deque[_Job] = field(default_factory=deque)

    def has_room(self) -> bool:
        # Nothing is queued behind a repair, which may hang, nor behind bytes the worker has not taken.
        busy = len(self.jobs) >= QUEUE or any(job.repair for job in self.jobs)
        return self.ready and not self.retiring and not busy and not self.process.sending


class _Dying(NamedTuple):
    """A worker that was killed but not reaped yet, and what was running when it was."""

    process: WorkerProcess
    cause: str
    detector: str


class Pool:
    """Runs detectors in worker processes; fulfils `monitor.ports.Detectors`.

    Every trace gets one assessment per detector, in the order of `specs`. A detector that hangs, raises,
    kills its process or answers nonsense costs the other detectors nothing: the step is repeated with fewer
    traces until those that cause it stand alone (`monitor.detect.repair`), and they get status timeout or
    error. A step may take `config.timeout_seconds`, counted from when the worker could begin it.
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
        self._versions: tuple[str, ...] = ()
        self._batches: dict[int, _Batch] = {}
        self._pending: deque[_Job] = deque()
        self._finished: list[Verdicts] = []
        self._jobs = 0
        self._breakers = [Breaker(clock) for _ in self._specs]
        self._pace = Pace(len(self._specs), config.target_batch_seconds, config.max_batch)
        self._restarts: Counter[str] = Counter()
        self._decisions: Counter[tuple[str, int, str]] = Counter()
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
        """Detector name to version, in the order of assessments. Empty before `start`."""
        return {spec.name: version for spec, version in zip(self._specs, self._versions, strict=False)}

    @property
    def batch_size(self) -> int:
        """How many traces the next batch should hold."""
        return self._pace.batch_size()

    def submit(self, ticket: int, traces: Sequence[Trace], effort: float = 1.0) -> None:
        """Begin a batch. Raises Busy when two batches per ready worker are in flight."""
        if len(self._batches) >= QUEUE * self._ready():
            raise Busy("all detector workers have work")
        columns: list[list[Assessment | None]] = [[None] * len(traces) for _ in self._specs]
        batch = _Batch(ticket, traces, columns, len(traces) * len(self._specs), effort)
        self._batches[ticket] = batch
        pieces = self._pieces(batch, Part(0, len(traces)))
        if pieces:
            steps = self._admit(batch, tuple(part for part, _ in pieces))
            if steps:
                self._pending.extend(_Job(batch, part, steps, payload) for part, payload in pieces)
        self._finish_if_complete(batch)
        self._dispatch()

    def collect(self, timeout: float) -> Sequence[Verdicts]:
        """Return finished batches, waiting at most `timeout` seconds for the first if one is in flight."""
        deadline = Deadline(self._clock, timeout)
        waited = 0.0  # bounds the wait where the clock stands still
        self._turn(0.0)
        while self._batches and not self._finished and not deadline.expired() and waited < timeout:
            wait = min(deadline.remaining(), timeout - waited, self._until_due())
            waited += 0.0 if self._turn(wait) else wait
        finished, self._finished = self._finished, []
        return finished

    def stats(self) -> PoolStats:
        """Current state. `restarts` counts by cause: timeout, crash, memory, startup."""
        return PoolStats(
            self._size,
            self._ready(),
            len(self._batches),
            self.batch_size,
            dict(self._restarts),
            dict(self._decisions),
        )

    def close(self) -> None:
        """Kill all workers. What was in flight is forgotten. Idempotent."""
        for worker in list(self._workers):
            self._dismiss(worker, "close")
        for dying in self._dying:
            dying.process.wait(REAP_SECONDS)
        self._dying.clear()
        self._pending.clear()
        self._batches.clear()
        self._selector.close()

    # What the workers do.

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
                self._lose(worker, step.TIMEOUT)
        self._dying = [dying for dying in self._dying if not _reaped(dying)]
        if self._started:
            self._start_workers()
        self._dispatch()
        return bool(events)

    def _until_due(self) -> float:
        """Seconds until something must be done though no worker speaks."""
        dues = [worker.deadline for worker in self._workers if worker.jobs or not worker.ready]
        if len(self._workers) < self._size:
            dues.append(self._next_start)
        return max(0.0, min(dues, default=float("inf")) - self._clock.monotonic())

    def _flush(self, worker: _Worker) -> None:
        worker.process.flush()
        if len(worker.jobs) == 1:  # it is still taking this job in, so its first step has not begun
            worker.deadline = self._clock.monotonic() + self._config.timeout_seconds
        self._watch(worker)

    def _watch(self, worker: _Worker) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.process.sending else 0)
        self._selector.modify(worker.process.socket, wanted, worker)

    def _read(self, worker: _Worker) -> None:
        frames, alive = worker.process.receive()
        if alive and not frames:
            worker.deadline = max(worker.deadline, self._clock.monotonic() + _GRACE)
        for frame in frames:
            try:
                understood = self._heard(worker, wire.decode_report(frame))
            except msgspec.DecodeError:
                understood = False
            if worker not in self._workers:
                return
            if not understood:
                alive = False
                break
        if not alive:
            self._lose(worker, step.CRASH)

    def _heard(self, worker: _Worker, report: wire.Ready | wire.Refused | wire.Answer) -> bool:
        """Take in what a worker says. Return False when it makes no sense."""
        match report:
            case wire.Refused(message=message):
                self._lose(worker, step.CRASH, message)
                return True
            case wire.Ready(versions=versions):
                if worker.ready or len(versions) != len(self._specs):
                    return False
                if self._versions and versions != self._versions:
                    self._lose(worker, step.CRASH, "detector files changed since the start; restart riskmon")
                    return True
                self._versions = versions
                self._failed_starts = 0
                worker.ready = True
                return True
            case wire.Answer():
                return self._answered(worker, report)

    def _answered(self, worker: _Worker, answer: wire.Answer) -> bool:
        if not worker.jobs:
            return False
        job = worker.jobs[0]
        number = job.steps[job.done]
        size = job.part.hi - job.part.lo
        if (answer.job, answer.step) != (job.number, number):
            return False
        if answer.reason:
            sound = step.is_reason(answer.reason)
        else:
            sound = len(answer.index) == size and _is_sound(
                answer, self._specs[number].name, self._versions[number]
            )
        if not sound:
            return False
        job.done += 1
        worker.deadline = self._clock.monotonic() + self._config.timeout_seconds
        if job.done == len(job.steps):
            worker.jobs.popleft()
            worker.retiring = worker.retiring or answer.memory > self._config.max_worker_bytes
        if answer.reason:
            self._failed(job, number, answer.reason, answer.seconds)
        else:
            self._succeeded(job, number, answer)
        if worker.retiring and not worker.jobs:
            self._dismiss(worker, "memory")
        return True

    def _lose(self, worker: _Worker, reason: str, message: str = "") -> None:
        """A worker hangs, died or did not come up: replace it; what it was doing failed for `reason`."""
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
        number, later = job.steps[job.done], job.steps[job.done + 1 :]
        self._dismiss(worker, reason, self._specs[number].name)
        self._pending.extendleft(reversed(jobs))
        if later:
            self._pending.appendleft(_Job(job.batch, job.part, later, job.payload))
        self._failed(job, number, reason, self._config.timeout_seconds)

    # What becomes of batches.

    def _pieces(self, batch: _Batch, part: Part) -> list[tuple[Part, msgspec.Raw]]:
        """Serialise a new batch in as few pieces as their size allows, without traces too large for any."""
        lo, hi = part
        payload = wire.encode(batch.traces[lo:hi])
        if len(payload) <= MAX_WORK_BYTES:
            return [(part, msgspec.Raw(payload))] if hi > lo else []
        if hi - lo > 1:
            middle = (lo + hi) // 2
            return self._pieces(batch, Part(lo, middle)) + self._pieces(batch, Part(middle, hi))
        for number in range(len(self._specs)):
            self._condemn(batch, number, part, Status.ERROR, step.TOO_LARGE)
        return []

    def _admit(self, batch: _Batch, parts: tuple[Part, ...]) -> tuple[int, ...]:
        """Return the steps to take with a new batch; begin a trial of, or give up, those of open breakers."""
        steps = []
        for number, breaker in enumerate(self._breakers):
            match breaker.admit():
                case Admission.RUN:
                    steps.append(number)
                case Admission.TRIAL:
                    self._try_next(batch, number, Repair(BUDGET * self._config.timeout_seconds, parts))
                case Admission.SKIP:
                    for part in parts:
                        self._condemn(batch, number, part, breaker.status, step.BREAKER_OPEN)
        return tuple(steps)

    def _succeeded(self, job: _Job, number: int, answer: wire.Answer) -> None:
        lo, hi = job.part
        job.batch.columns[number][lo:hi] = [answer.distinct[place] for place in answer.index]
        job.batch.due -= hi - lo
        self._decisions.update(step.decisions(self._specs[number].name, answer.tallies))
        self._breakers[number].succeeded()
        if job.repair is None:
            self._pace.took(number, hi - lo, answer.seconds)
        else:
            self._try_next(job.batch, number, job.repair)
        self._finish_if_complete(job.batch)

    def _failed(self, job: _Job, number: int, reason: str, seconds: float) -> None:
        repair = job.repair or Repair(BUDGET * self._config.timeout_seconds)
        breaker = self._breakers[number]
        status = Status.TIMEOUT if reason == step.TIMEOUT else Status.ERROR
        if reason == step.TIMEOUT and job.repair is None:
            self._pace.timed_out(number, job.part.hi - job.part.lo)
        if repair.failed(job.part, reason, seconds):
            self._condemn(job.batch, number, job.part, status, reason, seconds)
            breaker.failed(status)
        if repair.exhausted:
            breaker.trip()
        self._try_next(job.batch, number, repair)
        self._finish_if_complete(job.batch)

    def _try_next(self, batch: _Batch, number: int, repair: Repair) -> None:
        """Go on with a repair, or give the rest of it up if the detector's breaker is open."""
        breaker = self._breakers[number]
        if breaker.refuses:
            for rest in repair.abandon():
                self._condemn(batch, number, rest, breaker.status, step.BREAKER_OPEN)
            return
        part = repair.take(far=breaker.suspicious)
        if part is not None:
            payload = msgspec.Raw(wire.encode(batch.traces[part.lo : part.hi]))
            self._pending.appendleft(_Job(batch, part, (number,), payload, repair))

    def _condemn(
        self, batch: _Batch, number: int, part: Part, status: Status, reason: str, seconds: float = 0.0
    ) -> None:
        spec, version = self._specs[number], self._versions[number]
        size = part.hi - part.lo
        verdict = Assessment(
            detector=spec.name, version=version, status=status, reason=reason, seconds=seconds / max(size, 1)
        )
        batch.columns[number][part.lo : part.hi] = [verdict] * size
        batch.due -= size

    def _finish_if_complete(self, batch: _Batch) -> None:
        if batch.due == 0 and batch.ticket in self._batches:
            del self._batches[batch.ticket]
            rows = zip(*batch.columns, strict=True) if batch.columns else ((),) * len(batch.traces)
            self._finished.append(Verdicts(batch.ticket, cast("list[tuple[Assessment, ...]]", list(rows))))

    # Which workers there are.

    def _ready(self) -> int:
        return sum(worker.ready for worker in self._workers)

    def _dispatch(self) -> None:
        """Hand pending jobs to the workers with the least to do."""
        while self._pending:
            worker = min(
                (worker for worker in self._workers if worker.has_room()),
                key=lambda worker: len(worker.jobs),
                default=None,
            )
            if worker is None:
                return
            job = self._pending.popleft()
            self._jobs += 1
            job.number, job.done = self._jobs, 0
            if not worker.jobs:
                worker.deadline = self._clock.monotonic() + self._config.timeout_seconds
            worker.jobs.append(job)
            work = wire.Work(job.number, job.steps, job.payload, job.batch.effort)
            worker.process.send(wire.encode(work))
            if worker.process.sending:
                self._watch(worker)

    def _start_workers(self) -> None:
        """Bring the number of workers up to its size, unless the last ones did not come up just now."""
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


def _is_sound(answer: wire.Answer, name: str, version: str) -> bool:
    """Whether a detector of this name and version can have answered so."""
    return (
        all(one.detector == name and one.version == version for one in answer.distinct)
        and min(answer.index) >= 0
        and max(answer.index) < len(answer.distinct)
        and all(0 < tally.tier < MAX_TIERS and min(tally) >= 0 for tally in answer.tallies)
    )


def _reaped(dying: _Dying) -> bool:
    code = dying.process.exit_status()
    if code is None:
        return False
    log.warning(
        "detector_worker_ended", cause=dying.cause, detector=dying.detector, pid=dying.process.pid, code=code
    )
    return True


def _no_start(reason: str, seconds: float) -> str:
    if reason == step.TIMEOUT:
        return f"pool.startup_seconds: detectors took longer than {seconds} s to load; allow more"
    return (
        "detectors: the worker process ended while it loaded them; look at memory limits and native libraries"
    )


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
