"""The ledger's outbox: outgoing messages, leased by the dispatcher."""

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from monitor.ledger import schema as t
from monitor.ledger.reader import LedgerReader
from monitor.ledger.store import Ledger
from monitor.outcome.verdict import VERDICTS
from monitor.records import Leased

KEEP_DELIVERED_SECONDS = 7 * 86_400.0  # long enough to answer "was this alert sent?" after a weekend
DAMAGED: Final = "damaged"  # reason of a row whose body cannot be read
LONGEST_WAIT: Final = 60.0  # that a row is put off for, with the default settings
RECENT_ROWS: Final = 2_000  # looked through for untried ones, in some 20 ms
PURGE_SECONDS = 3600.0  # between two purges of older rows: each passes over a week of rows


class LedgerOutbox:
    """Implements the dispatcher's `Outbox` port on a ledger that several daemons may share.

    Callers give and get the times of their machine; rows keep the ledger's, which all daemons share.
    """

    def __init__(self, ledger: Ledger, longest_wait: float = LONGEST_WAIT) -> None:
        self._ledger = ledger
        self._longest_wait = longest_wait
        self._purged = -math.inf

    def lease(
        self, destination: str, limit: int, until: float, now: float, *, untried: bool = False
    ) -> list[Leased]:
        """Lease rows, the longest due first; no other daemon gets them before `until` (Unix seconds).

        With `untried`, rows that were never tried go first, the newest of them before others. A row that is
        due later than any is ever put off for was written under a clock that has been set back since: it is
        due.
        """
        due = t.outbox.c.due
        with self._ledger.begin() as connection:
            ahead = self._ledger.ahead(connection)
            ledger_now = now + ahead
            rows = _untried(connection, destination, limit, ledger_now) if untried else []
            if not rows:
                rows = _waiting(connection, destination, limit, due <= ledger_now)
            if len(rows) < limit:
                never = due > ledger_now + 2.0 * self._longest_wait
                rows += _waiting(connection, destination, limit - len(rows), never)
            ids = [row.id for row in rows]
            if ids:
                update = t.outbox.update().where(t.outbox.c.id.in_(ids))
                connection.execute(update.values(due=until + ahead))
        leased = [each for each in (_leased(row, ahead) for row in rows) if each is not None]
        if len(leased) < len(rows):  # never to be sent, and its neighbours would wait with it
            readable = {row.id for row in leased}
            self.rejected([row.id for row in rows if row.id not in readable], DAMAGED, now)
        return leased

    def delivered(self, ids: Sequence[int], now: float) -> None:
        """Mark rows as delivered. Clears bodies; deletes verdict rows, since there is one per trace."""
        purge = now - self._purged >= PURGE_SECONDS
        with self._ledger.begin() as connection:
            ledger_now = now + self._ledger.ahead(connection)
            verdicts = sa.and_(t.outbox.c.id.in_(ids), t.outbox.c.destination == VERDICTS)
            connection.execute(t.outbox.delete().where(verdicts))
            chosen = t.outbox.update().where(t.outbox.c.id.in_(ids))
            connection.execute(chosen.values(state="delivered", body="{}", due=ledger_now, reason=""))
            if purge:
                _purge_delivered(connection, ledger_now)
        if purge:
            self._purged = now

    def failed(self, ids: Sequence[int], retry_at: float, reason: str, now: float) -> None:
        """Release rows to be retried at `retry_at`."""
        del now
        with self._ledger.begin() as connection:
            chosen = t.outbox.update().where(t.outbox.c.id.in_(ids), t.outbox.c.state == "waiting")
            due = retry_at + self._ledger.ahead(connection)
            connection.execute(chosen.values(due=due, reason=reason, attempts=t.outbox.c.attempts + 1))

    def rejected(self, ids: Sequence[int], reason: str, now: float) -> None:
        """Set rows aside; they are kept and counted, and see `monitor.ledger.messages`."""
        with self._ledger.begin() as connection:
            chosen = t.outbox.update().where(t.outbox.c.id.in_(ids), t.outbox.c.state == "waiting")
            due = now + self._ledger.ahead(connection)
            connection.execute(chosen.values(state="rejected", reason=reason, due=due))

    def backlog(self) -> tuple[dict[str, tuple[int, float]], dict[tuple[str, str, str], int]]:
        """Return what waits, and what has failed, see `monitor.deliver.outbox.Outbox`."""
        return backlog(self._ledger)


def backlog(ledger: LedgerReader) -> tuple[dict[str, tuple[int, float]], dict[tuple[str, str, str], int]]:
    """Return what waits, and what has failed, see `monitor.deliver.outbox.Outbox`."""
    c = t.outbox.c
    query = (
        sa.select(c.destination, c.state, c.reason, sa.func.count(), sa.func.min(c.created))
        .where(c.state.in_(("waiting", "rejected")))
        .group_by(c.destination, c.state, c.reason)
    )
    with ledger.view() as connection:
        now = ledger.now(connection)
        rows = connection.execute(query).all()
    waiting: dict[str, tuple[int, float]] = {}
    for name, state, _, count, oldest in rows:
        if state == "waiting":
            before, age = waiting.get(name, (0, 0.0))
            waiting[name] = before + int(count), max(age, now - oldest)
    failed = {(name, state, reason): int(count) for name, state, reason, count, _ in rows if reason}
    return waiting, failed


def _leased(row: Any, ahead: float) -> Leased | None:
    """Return a row as senders get it; None where its body is not what the engine wrote."""
    try:
        body = json.loads(row.body)
    except ValueError:
        return None
    return Leased(row.id, row.destination, row.key, body, row.attempts, row.created - ahead)


def _waiting(
    connection: sa.Connection, destination: str, limit: int, due: sa.ColumnElement[bool]
) -> list[Any]:
    c = t.outbox.c
    query = sa.select(t.outbox).where(c.destination == destination, c.state == "waiting", due)
    # In index order: any other would sort all waiting rows for every row sent.
    return list(connection.execute(query.order_by(c.due, c.id).limit(limit)).all())


def _untried(connection: sa.Connection, destination: str, limit: int, now: float) -> list[Any]:
    """Return rows that were never tried, of those that came due last: no index knows of attempts."""
    c = t.outbox.c
    latest = sa.select(c.id, c.due, c.attempts).where(
        c.destination == destination, c.state == "waiting", c.due <= now
    )
    recent = latest.order_by(c.due.desc()).limit(RECENT_ROWS).subquery()
    chosen = sa.select(t.outbox).join(recent, recent.c.id == c.id).where(recent.c.attempts == 0)
    return list(connection.execute(chosen.order_by(c.due.desc(), c.id.desc()).limit(limit)).all())


def _purge_delivered(connection: sa.Connection, now: float) -> None:
    """Delete delivered rows whose retention has ended."""
    old = sa.and_(t.outbox.c.state == "delivered", t.outbox.c.due < now - KEEP_DELIVERED_SECONDS)
    connection.execute(t.outbox.delete().where(old))
