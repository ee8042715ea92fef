"""The ledger's outbox: outgoing messages, leased by the dispatcher."""

import json
import math
from collections.abc import Sequence

import sqlalchemy as sa

from monitor.clock import Clock
from monitor.ledger import schema as t
from monitor.ledger.store import Ledger
from monitor.outcome.verdict import VERDICTS
from monitor.records import Leased

KEEP_DELIVERED_SECONDS = 7 * 86_400.0  # long enough to answer "was this alert sent?" after a weekend
PURGE_SECONDS = 3600.0  # between two purges of older rows: each passes over a week of rows


class LedgerOutbox:
    """Implements the dispatcher's `Outbox` port on a ledger that several daemons may share."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._purged = -math.inf

    def lease(self, destination: str, limit: int, until: float, now: float) -> list[Leased]:
        """Lease rows, the longest due first; no other daemon gets them before `until` (Unix seconds)."""
        query = (
            sa.select(t.outbox)
            .where(
                t.outbox.c.destination == destination, t.outbox.c.state == "waiting", t.outbox.c.due <= now
            )
            # In index order: any other would sort all waiting rows for every row sent.
            .order_by(t.outbox.c.due, t.outbox.c.id)
            .limit(limit)
        )
        with self._ledger.begin() as connection:
            rows = connection.execute(query).all()
            ids = [row.id for row in rows]
            if ids:
                update = t.outbox.update().where(t.outbox.c.id.in_(ids))
                connection.execute(update.values(due=until))
        return [
            Leased(
                id=row.id,
                destination=row.destination,
                key=row.key,
                body=json.loads(row.body),
                attempts=row.attempts,
                created=row.created,
            )
            for row in rows
        ]

    def delivered(self, ids: Sequence[int], now: float) -> None:
        """Mark rows as delivered. Clears bodies; deletes verdict rows, since there is one per trace."""
        purge = now - self._purged >= PURGE_SECONDS
        with self._ledger.begin() as connection:
            verdicts = sa.and_(t.outbox.c.id.in_(ids), t.outbox.c.destination == VERDICTS)
            connection.execute(t.outbox.delete().where(verdicts))
            chosen = t.outbox.update().where(t.outbox.c.id.in_(ids))
            connection.execute(chosen.values(state="delivered", body="{}", due=now, reason=""))
            if purge:
                _purge_delivered(connection, now)
        if purge:
            self._purged = now

    def failed(self, ids: Sequence[int], retry_at: float, reason: str, now: float) -> None:
        """Release rows to be retried at `retry_at`."""
        del now
        with self._ledger.begin() as connection:
            chosen = t.outbox.update().where(t.outbox.c.id.in_(ids), t.outbox.c.state == "waiting")
            connection.execute(chosen.values(due=retry_at, reason=reason, attempts=t.outbox.c.attempts + 1))

    def rejected(self, ids: Sequence[int], reason: str, now: float) -> None:
        """Mark rows as rejected for good; they are kept and counted."""
        with self._ledger.begin() as connection:
            chosen = t.outbox.update().where(t.outbox.c.id.in_(ids), t.outbox.c.state == "waiting")
            connection.execute(chosen.values(state="rejected", reason=reason, due=now))

    def pending(self) -> dict[str, tuple[int, float]]:
        """Destination to (rows waiting, age of the oldest in seconds)."""
        query = (
            sa.select(t.outbox.c.destination, sa.func.count(), sa.func.min(t.outbox.c.created))
            .where(t.outbox.c.state == "waiting")
            .group_by(t.outbox.c.destination)
        )
        now = self._clock.now()
        with self._ledger.view() as connection:
            rows = connection.execute(query).all()
        return {name: (int(count), max(0.0, now - oldest)) for name, count, oldest in rows}


def _purge_delivered(connection: sa.Connection, now: float) -> None:
    """Delete delivered rows whose retention has ended."""
    old = sa.and_(t.outbox.c.state == "delivered", t.outbox.c.due < now - KEEP_DELIVERED_SECONDS)
    connection.execute(t.outbox.delete().where(old))
