"""Take rows from the outbox and hand them to senders: leases, retries, one thread per destination.

Each destination has a lane of its own, so a slow or dead one delays no other and never the engine. A lane
leases a batch, sends it, and records the outcome of every row:

    delivered   done
    retry       due again after an exponential back-off with full jitter; never given up
    rejected    parked with its reason: the receiver said that the same row would always fail

A lane whose sends all fail backs off as a whole, so a dead destination is not hammered row by row. The lease
outlasts the longest send by `LEASE_MARGIN`; only a crash, or a ledger that is busy for longer than that,
repeats a row, and then under the same key.
"""

import functools
import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

import structlog

from monitor.clock import Clock, Deadline
from monitor.errors import Retryable
from monitor.records import Leased

BASE_SECONDS = 0.5  # upper end of the first back-off; doubles with each further try
IDLE_SECONDS = 1.0  # how often an idle lane looks for rows of other daemons and for retries come due
PENDING_SECONDS = 5.0  # how often the waiting rows are counted; a third of a usual scrape interval
LEASE_MARGIN = 5.0  # seconds a lease outlasts its send, for the ledger to record the outcome
LEDGER_SECONDS = 1.0  # longest wait for a busy ledger; several fit into LEASE_MARGIN
_MAX_DOUBLINGS = 32  # 0.5 s * 2**32 is beyond any cap, and larger powers overflow a float

log = structlog.get_logger(__name__)


class Outbox(Protocol):
    """The ledger's side. Thread-safe: every lane calls it. Each method may raise Retryable when busy."""

    def lease(self, destination: str, limit: int, until: float, now: float) -> list[Leased]:
        """Lease at most `limit` rows that are due at `now` and not leased, until `until`."""
        ...

    def delivered(self, ids: Sequence[int], now: float) -> None:
        """Record that rows are done. Idempotent."""
        ...

    def failed(self, ids: Sequence[int], retry_at: float, reason: str, now: float) -> None:
        """End the lease of rows, count a failed try and make them due at `retry_at`."""
        ...

    def rejected(self, ids: Sequence[int], reason: str, now: float) -> None:
        """Park rows for good: kept, counted, visible, never leased again."""
        ...

    def pending(self) -> dict[str, tuple[int, float]]:
        """Return, per destination, how many rows wait and the age of the oldest in seconds."""
        ...


class Reason(StrEnum):
    """Why a row was not delivered. A metric label, hence bounded."""

    DNS = "dns"
    FORBIDDEN_ADDRESS = "forbidden_address"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    BROKER = "broker"
    INVALID = "invalid"
    REFUSED = "refused"
    REDIRECTED = "redirected"
    TOO_LARGE = "too_large"
    STOPPED = "stopped"
    INTERNAL = "internal"


class Delivered(NamedTuple):
    """The receiver has the row."""


class Retry(NamedTuple):
    """The failure may pass: send again, not before `after` seconds from now if the cap allows it."""

    reason: Reason
    after: float = 0.0


class Rejected(NamedTuple):
    """The same row would always fail."""

    reason: Reason


Result: TypeAlias = Delivered | Retry | Rejected
Outcome: TypeAlias = Sequence[Result]  # one per row of the batch, in order


class Sender(Protocol):
    """Sends rows to one destination. The sender alone decides whether a failure is worth another try.

    Used from one thread. `batch` is the most rows one `send` takes, `timeout` about the longest it may last
    in seconds.
    """

    @property
    def batch(self) -> int:
        """Most rows of one send."""
        ...

    @property
    def timeout(self) -> float:
        """Longest time of one send, in seconds."""
        ...

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Send rows; return the outcome of each. Expected failures are outcomes, not exceptions."""
        ...

    def close(self) -> None:
        """Close connections, within a second or two. Idempotent."""
        ...


class DeliveryObserver(Protocol):
    """Delivery's reports to telemetry. Calls are cheap, thread-safe, never raise and never block."""

    def delivered(self, destination: str, n: int) -> None:
        """Rows were delivered."""
        ...

    def failed(self, destination: str, reason: str, n: int) -> None:
        """Rows were not delivered and will be tried again."""
        ...

    def rejected(self, destination: str, reason: str, n: int) -> None:
        """Rows were parked for good."""
        ...

    def pending(self, waiting: Mapping[str, tuple[int, float]]) -> None:
        """Rows waiting and age of the oldest in seconds, per destination."""
        ...


def next_try(attempts: int, now: float, base: float, cap: float, rng: random.Random) -> float:
    """Return when to try again after `attempts` failed tries before this one: at most `cap` seconds from now.

    Exponential back-off with full jitter: uniform in [0, min(cap, base * 2**attempts)], after M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return now + rng.uniform(0.0, min(cap, base * 2.0 ** min(attempts, _MAX_DOUBLINGS)))


class Lane:
    """One destination's loop. `turn` is one step, so a test can drive it without a thread."""

    def __init__(
        self,
        destination: str,
        sender: Sender,
        outbox: Outbox,
        clock: Clock,
        observer: DeliveryObserver,
        cap: float,
        rng: random.Random,
    ) -> None:
        self.destination = destination
        self._sender = sender
        self._outbox = outbox
        self._clock = clock
        self._observer = observer
        self._cap = cap
        self._rng = rng
        self._misses = 0
        self._busy = 0
        self._owed: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._deadline: Deadline | None = None

    def turn(self) -> float | None:
        """Settle what is owed, lease, send and settle; return the seconds to back off, None when idle."""
        try:
            self._settle()
            now = self._clock.now()
            rows = self._outbox.lease(
                self.destination, self._sender.batch, now + self._sender.timeout + LEASE_MARGIN, now
            )
            if not rows:
                return None
            if self._stopping.is_set():
                self._release(rows)
                return None
            pause = self._deliver(rows)
            self._settle()
        except Retryable:
            self._busy += 1
            return self._pause(self._busy, LEDGER_SECONDS)
        self._busy = 0
        return pause

    def run(self, wake: threading.Event) -> None:
        """Turn until `stop`. Back-off ignores `wake`: new rows do not revive a dead receiver."""
        while True:
            wake.clear()
            if self._stopping.is_set():  # checked after clearing, or the wake of `stop` could be lost
                return
            pause = self.turn()
            if pause is None:
                wake.wait(IDLE_SECONDS)
            elif pause > 0:
                self._stopping.wait(pause)

    def stop(self, deadline: Deadline) -> None:
        """Begin no further send, and leave the outbox alone once the deadline has passed."""
        self._deadline = deadline
        self._stopping.set()

    def finish(self) -> None:
        """Record the last outcomes and close the sender; called by the lane's own thread after `stop`.

        Rows not recorded before the deadline stay leased, and are sent again once the lease has ended.
        """
        while self._owed and not self._late():
            try:
                self._settle()
            except Retryable:
                self._clock.sleep(0.05)
        self._sender.close()

    def _deliver(self, rows: Sequence[Leased]) -> float:
        results = self._send(rows)
        now = self._clock.now()
        delivered = [
            row.id for row, result in zip(rows, results, strict=True) if isinstance(result, Delivered)
        ]
        rejected: defaultdict[Reason, list[int]] = defaultdict(list)
        failed: defaultdict[tuple[Retry, int], list[int]] = defaultdict(list)
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Rejected):
                rejected[result.reason].append(row.id)
            elif isinstance(result, Retry):
                failed[result, row.attempts].append(row.id)
        if delivered:
            self._owe(self._outbox.delivered, delivered, now)
            self._observer.delivered(self.destination, len(delivered))
        for reason, ids in rejected.items():
            self._owe(self._outbox.rejected, ids, reason.value, now)
            self._observer.rejected(self.destination, reason.value, len(ids))
        longest = 0.0
        for (retry, attempts), ids in failed.items():
            # Rows that failed together come due together, so that they can share a batch again.
            after = min(retry.after, self._cap)  # a receiver cannot silence a pager for a day
            retry_at = max(next_try(attempts, now, BASE_SECONDS, self._cap, self._rng), now + after)
            self._owe(self._outbox.failed, ids, retry_at, retry.reason.value, now)
            self._observer.failed(self.destination, retry.reason.value, len(ids))
            longest = max(longest, after)
        if delivered or rejected:
            self._misses = 0
            return longest
        self._misses += 1
        return max(longest, self._pause(self._misses, self._cap))

    def _send(self, rows: Sequence[Leased]) -> Outcome:
        try:
            results = self._sender.send(rows)
        except Exception as error:  # noqa: BLE001 - a sender's bug must not end the lane: report and retry
            # The type only: a message could quote a body.
            log.critical("delivery_bug", destination=self.destination, error=type(error).__name__)
            return [Retry(Reason.INTERNAL)] * len(rows)
        if len(results) != len(rows):
            log.critical("delivery_bug", destination=self.destination, error="wrong number of results")
            return [Retry(Reason.INTERNAL)] * len(rows)
        return results

    def _pause(self, misses: int, cap: float) -> float:
        return next_try(misses - 1, 0.0, BASE_SECONDS, cap, self._rng)

    def _release(self, rows: Sequence[Leased]) -> None:
        now = self._clock.now()
        self._owe(self._outbox.failed, [row.id for row in rows], now, Reason.STOPPED.value, now)
        self._settle()

    def _owe(self, record: Callable[..., None], *args: Any) -> None:
        self._owed.append(functools.partial(record, *args))

    def _settle(self) -> None:
        while self._owed and not self._late():
            self._owed[0]()  # stays owed if the ledger is busy: a row sent must not be sent again for that
            self._owed.popleft()

    def _late(self) -> bool:
        return self._deadline is not None and self._deadline.expired()


class Dispatcher:
    """Runs a lane per destination, and counts the waiting rows. Construction starts nothing."""

    def __init__(
        self,
        outbox: Outbox,
        senders: Mapping[str, Sender],
        clock: Clock,
        observer: DeliveryObserver,
        max_backoff: float = 60.0,
        rng: random.Random | None = None,
    ) -> None:
        chance = rng or random.SystemRandom()
        self._outbox = outbox
        self._clock = clock
        self._observer = observer
        self._lanes = [
            Lane(destination, sender, outbox, clock, observer, max_backoff, chance)
            for destination, sender in senders.items()
        ]
        self._wakes = [threading.Event() for _ in self._lanes]
        self._threads: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()
        self._orphans: set[str] = set()
        self._failure: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """The bug that ended a lane, if one did; the process must then end too."""
        return self._failure

    def start(self) -> None:
        """Start delivering. Call once."""
        self._spawn("", self._count)
        for lane, wake in zip(self._lanes, self._wakes, strict=True):
            self._spawn(lane.destination, functools.partial(self._run, lane, wake))

    def wake(self) -> None:
        """Wake the lanes: rows were written. Never blocks."""
        for wake in self._wakes:
            wake.set()

    def stop(self, deadline: Deadline) -> tuple[str, ...]:
        """Begin no further send, wait for those under way until the deadline, and release unsent rows.

        Returns the destinations whose send did not end in time. Their rows stay leased, because the receiver
        may have them already, and are sent again under the same key when the lease has ended.
        """
        self._stopping.set()
        for lane in self._lanes:
            lane.stop(deadline)
        self.wake()
        for thread in self._threads.values():
            thread.join(deadline.remaining())
        return tuple(name for name, thread in self._threads.items() if name and thread.is_alive())

    def _spawn(self, destination: str, target: Callable[[], None]) -> None:
        # Daemon threads: a receiver that hangs past the deadline must not keep the process.
        thread = threading.Thread(target=target, name=f"deliver {destination or 'count'}", daemon=True)
        self._threads[destination] = thread
        thread.start()

    def _run(self, lane: Lane, wake: threading.Event) -> None:
        try:
            lane.run(wake)
            lane.finish()
        except Exception as error:  # noqa: BLE001 - handed to the owner, who stops the process
            log.critical("delivery_lane_ended", destination=lane.destination, error=type(error).__name__)
            self._failure = error

    def _count(self) -> None:
        while not self._stopping.is_set():
            try:
                waiting = self._outbox.pending()
            except Retryable:
                log.info("delivery_pending_unknown")
            except Exception as error:  # noqa: BLE001 - see _run
                log.critical("delivery_count_ended", error=type(error).__name__)
                self._failure = error
                return
            else:
                self._observer.pending(waiting)
                self._name_orphans(waiting)
            self._stopping.wait(PENDING_SECONDS)

    def _name_orphans(self, waiting: Mapping[str, tuple[int, float]]) -> None:
        known = {lane.destination for lane in self._lanes}
        for destination in sorted(waiting.keys() - known - self._orphans):
            self._orphans.add(destination)
            log.warning("delivery_destination_unknown", destination=destination, rows=waiting[destination][0])
