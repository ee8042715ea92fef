"""Take rows from the outbox and hand them to senders: leases, retries, one thread per destination.

Each destination has a lane of its own, so a slow or dead one delays no other and never the engine. A lane
leases a batch, sends it, and records the outcome of every row:

    delivered   done
    retry       due again after an exponential back-off with full jitter; never given up
    rejected    set aside with its reason, for an operator to send again: the receiver calls it malformed

A lane whose sends all fail backs off as a whole, so a dead destination is not hammered row by row. Rows that
nobody has tried yet then go first, and a destination that answers is asked again soon: rows that it refuses
for ever must not keep others back. The lease outlasts the longest send by `LEASE_MARGIN`; only a crash, or a
ledger that is busy for longer than that, repeats a row, and then under the same key. A turn that raises what
nobody planned for is reported and, after a wait, followed by the next one: no lane ends before it is told to.
"""

import functools
import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from monitor.clock import Clock, Deadline
from monitor.deliver.results import REFUSALS, Delivered, Outcome, Reason, Rejected, Retry, Sender
from monitor.errors import Retryable
from monitor.records import Leased

BASE_SECONDS = 0.5  # upper end of the first back-off; doubles with each further try
IDLE_SECONDS = 1.0  # how often an idle lane looks for rows of other daemons and for retries come due
PENDING_SECONDS = 5.0  # how often the waiting rows are counted; a third of a usual scrape interval
LEASE_MARGIN = 5.0  # seconds a lease outlasts its send, for the ledger to record the outcome
REFUSED_SECONDS = 5.0  # longest wait of a lane whose destination answers: another row may be taken
LEDGER_SECONDS = 1.0  # longest wait for a busy ledger; several fit into LEASE_MARGIN
_MAX_DOUBLINGS = 32  # 0.5 s * 2**32 is beyond any cap, and larger powers overflow a float

log = structlog.get_logger(__name__)


class Outbox(Protocol):
    """The ledger's side. Thread-safe: every lane calls it. Each method may raise Retryable when busy."""

    def lease(
        self, destination: str, limit: int, until: float, now: float, *, untried: bool = False
    ) -> list[Leased]:
        """Lease at most `limit` rows that are due at `now` and not leased, until `until`.

        With `untried`, rows that were never tried go before all others, the newest first.
        """
        ...

    def delivered(self, ids: Sequence[int], now: float) -> None:
        """Record that rows are done. Idempotent."""
        ...

    def failed(self, ids: Sequence[int], retry_at: float, reason: str, now: float) -> None:
        """End the lease of rows, count a failed try and make them due at `retry_at`."""
        ...

    def rejected(self, ids: Sequence[int], reason: str, now: float) -> None:
        """Set rows aside: kept, counted, visible, not leased until an operator says so."""
        ...

    def backlog(self) -> tuple[dict[str, tuple[int, float]], dict[tuple[str, str, str], int]]:
        """Return what waits, and what has failed.

        The former is how many rows, and the age of the oldest in seconds, by destination; the latter how
        many, by destination, state (`waiting`, `rejected`) and reason of the last try.
        """
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
        """Rows were set aside."""
        ...

    def lane_restarted(self, destination: str) -> None:
        """A bug ended a turn of a lane, which goes on after a wait."""
        ...

    def pending(
        self, waiting: Mapping[str, tuple[int, float]], troubles: Mapping[tuple[str, str, str], int]
    ) -> None:
        """Rows waiting and age of the oldest in seconds, per destination; and see `Outbox.backlog`."""
        ...


def next_try(attempts: int, now: float, base: float, cap: float, rng: random.Random) -> float:
    """Return when to try again after `attempts` failed tries before this one: at most `cap` seconds from now.

    Exponential back-off with full jitter: uniform in [0, min(cap, base * 2**attempts)], after M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return now + rng.uniform(0.0, min(cap, base * 2.0 ** min(attempts, _MAX_DOUBLINGS)))


def longest_wait(senders: Mapping[str, Sender], max_backoff: float) -> float:
    """Return the longest time in seconds that any row is leased or put off for."""
    return max([max_backoff, *(sender.timeout + LEASE_MARGIN for sender in senders.values())])


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
        self._crashes = 0
        self._owed: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._deadline: Deadline | None = None

    @property
    def sound(self) -> bool:
        """Return whether the last turn ended as planned."""
        return not self._crashes

    def turn(self) -> float | None:
        """Settle what is owed, lease, send and settle; return the seconds to back off, None when idle."""
        try:
            self._settle()
            now = self._clock.now()
            rows = self._outbox.lease(
                self.destination,
                self._sender.batch,
                now + self._sender.timeout + LEASE_MARGIN,
                now,
                untried=self._misses > 0,
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
            try:
                pause = self.turn()
                self._crashes = 0
            except Exception as error:  # noqa: BLE001 - a bug, here or in the ledger: others' alerts must go on
                self._crashes += 1
                log.critical("delivery_lane_ended", destination=self.destination, error=type(error).__name__)
                self._observer.lane_restarted(self.destination)
                pause = self._pause(self._crashes, self._cap)
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
        try:
            while self._owed and not self._late():
                try:
                    self._settle()
                except Retryable:
                    self._clock.sleep(0.05)
        finally:
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
        answers = all(retry.reason in REFUSALS for retry, _ in failed)
        return max(
            longest, self._pause(self._misses, min(self._cap, REFUSED_SECONDS) if answers else self._cap)
        )

    def _send(self, rows: Sequence[Leased]) -> Outcome:
        bugs: list[str] = []
        results = self._attempt(rows, Deadline(self._clock, self._sender.timeout), bugs)
        if bugs:
            log.critical("delivery_bug", destination=self.destination, error=bugs[0], rows=len(bugs))
        return results

    def _attempt(self, rows: Sequence[Leased], deadline: Deadline, bugs: list[str]) -> Outcome:
        """Send rows, and halve a batch that a bug of the sender spoils until the row at fault is alone."""
        try:
            results = self._sender.send(rows)
            bug = "" if len(results) == len(rows) else "wrong number of results"
        except Exception as error:  # noqa: BLE001 - a sender's bug must not end the lane: report and retry
            bug = type(error).__name__  # the type only: a message could quote a body
        if not bug:
            return results
        if len(rows) == 1 or deadline.expired():
            bugs += [bug] * len(rows)
            return [Retry(Reason.INTERNAL)] * len(rows)
        half = len(rows) // 2
        first = self._attempt(rows[:half], deadline, bugs)
        return [*first, *self._attempt(rows[half:], deadline, bugs)]

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
        self._counting = True

    @property
    def running(self) -> bool:
        """Return whether every lane turns as planned, and the waiting rows are counted."""
        alive = all(thread.is_alive() for thread in self._threads.values())
        return alive and self._counting and all(lane.sound for lane in self._lanes)

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
        lane.run(wake)
        lane.finish()

    def _count(self) -> None:
        while not self._stopping.is_set():
            try:
                waiting, troubles = self._outbox.backlog()
            except Retryable:
                log.info("delivery_pending_unknown")
            except Exception as error:  # noqa: BLE001 - a bug of the ledger: counting goes on, and says so
                self._counting = False
                log.critical("delivery_count_failed", error=type(error).__name__)
            else:
                self._counting = True
                self._observer.pending(waiting, troubles)
                self._name_orphans(waiting)
            self._stopping.wait(PENDING_SECONDS)

    def _name_orphans(self, waiting: Mapping[str, tuple[int, float]]) -> None:
        known = {lane.destination for lane in self._lanes}
        for destination in sorted(waiting.keys() - known - self._orphans):
            self._orphans.add(destination)
            log.warning("delivery_destination_unknown", destination=destination, rows=waiting[destination][0])
