"""An outbox in memory, and an observer that counts what becomes of its rows."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.errors import Retryable
from monitor.records import Leased


@dataclass
class Row:
    """A row as the fake ledger keeps it."""

    leased: Leased
    due: float = 0.0
    lease_ends: float = 0.0
    state: str = "waiting"
    reason: str = ""


@dataclass
class FakeOutbox:
    """An outbox in memory; says Retryable where `busy` yields true."""

    busy: Iterator[bool] = field(default_factory=lambda: iter(()))
    rows: dict[int, Row] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    delays: list[float] = field(default_factory=list)

    def add(self, destination: str, n: int) -> None:
        """Write rows as the engine's transaction does."""
        with self.lock:
            for _ in range(n):
                row = Leased(len(self.rows), destination, f"key-{len(self.rows)}", {}, 0, 0.0)
                self.rows[row.id] = Row(row)

    def lease(
        self, destination: str, limit: int, until: float, now: float, *, untried: bool = False
    ) -> list[Leased]:
        """See Outbox."""
        with self.lock:
            self._maybe_busy()
            free = [
                row
                for row in self.rows.values()
                if row.leased.destination == destination and row.state == "waiting"
                if row.due <= now and row.lease_ends <= now
            ]
            fresh = [row for row in free if not row.leased.attempts] if untried else []
            free = sorted(fresh or free, key=lambda row: row.due, reverse=bool(fresh))[:limit]
            for row in free:
                row.lease_ends = until
            return [row.leased for row in free]

    def delivered(self, ids: Sequence[int], now: float) -> None:
        """See Outbox."""
        self._end(ids, "delivered", "", now)

    def rejected(self, ids: Sequence[int], reason: str, now: float) -> None:
        """See Outbox."""
        self._end(ids, "rejected", reason, now)

    def failed(self, ids: Sequence[int], retry_at: float, reason: str, now: float) -> None:
        """See Outbox."""
        with self.lock:
            self._maybe_busy()
            self.delays.append(retry_at - now)
            for row in map(self.rows.__getitem__, ids):
                row.leased = row.leased._replace(attempts=row.leased.attempts + 1)
                row.due, row.lease_ends, row.reason = retry_at, 0.0, reason

    def backlog(self) -> tuple[dict[str, tuple[int, float]], dict[tuple[str, str, str], int]]:
        """See Outbox."""
        with self.lock:
            rows = [(row.leased.destination, row.state, row.reason) for row in self.rows.values()]
            waiting = Counter(destination for destination, state, _ in rows if state == "waiting")
            failed = Counter(row for row in rows if row[2] and row[1] != "delivered")
            return {d: (n, 1.0) for d, n in waiting.items()}, dict(failed)

    def states(self) -> Counter[str]:
        """How many rows are in which state."""
        with self.lock:
            return Counter(row.state for row in self.rows.values())

    def _end(self, ids: Sequence[int], state: str, reason: str, now: float) -> None:
        with self.lock:
            self._maybe_busy()
            assert now > 0.0
            for row in map(self.rows.__getitem__, ids):
                row.state, row.reason = state, reason

    def _maybe_busy(self) -> None:
        if next(self.busy, False):
            raise Retryable("ledger is busy")


class FakeObserver:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting: Mapping[str, tuple[int, float]] = {}
        self.troubles: Mapping[tuple[str, str, str], int] = {}

    def delivered(self, destination: str, n: int) -> None:
        """See Observer."""
        self.counts[f"{destination} delivered"] += n

    def failed(self, destination: str, reason: str, n: int) -> None:
        """See Observer."""
        self.counts[f"{destination} failed {reason}"] += n

    def rejected(self, destination: str, reason: str, n: int) -> None:
        """See Observer."""
        self.counts[f"{destination} rejected {reason}"] += n

    def lane_restarted(self, destination: str) -> None:
        """See Observer."""
        self.counts[f"{destination} restarted"] += 1

    def pending(
        self, waiting: Mapping[str, tuple[int, float]], troubles: Mapping[tuple[str, str, str], int]
    ) -> None:
        """See Observer."""
        self.waiting, self.troubles = waiting, troubles
