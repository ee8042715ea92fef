"""What an operator sees of the outbox, and does with it while daemons deliver."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from monitor.errors import NotFound
from monitor.ledger import chain
from monitor.ledger import schema as t
from monitor.ledger.reader import LedgerReader
from monitor.ledger.store import Ledger

AT_ONCE: Final = 0.0  # a time that is over on every clock
_PAGE: Final = 1000  # ids in a statement, whose variables databases bound, and keys in an entry on the chain
_c = t.outbox.c
_UNDELIVERED: Final = _c.state.in_(("waiting", "rejected"))


class Undelivered(NamedTuple):
    """A message that was not delivered, `set_aside` or waiting for its next try at `due`; Unix seconds.

    `attempts` have failed so far, the last one for `reason`. While it is being sent, `due` is when another
    daemon may send it, if this one dies.
    """

    id: int
    destination: str
    key: str
    set_aside: bool
    attempts: int
    reason: str
    created: float
    due: float


def messages(
    ledger: LedgerReader, *, destination: str = "", set_aside: bool = False, limit: int = 1000
) -> list[Undelivered]:
    """List what was not delivered, oldest first; with `set_aside` only what was set aside.

    Times are this machine's, not the ledger's.
    """
    chosen = _c.state == "rejected" if set_aside else _UNDELIVERED
    query = sa.select(t.outbox).where(chosen).order_by(_c.id).limit(limit)
    if destination:
        query = query.where(_c.destination == destination)
    with ledger.view() as connection:
        ahead = ledger.ahead(connection)
        rows = connection.execute(query).all()
    return [
        Undelivered(
            row.id,
            row.destination,
            row.key,
            row.state == "rejected",
            row.attempts,
            row.reason,
            row.created - ahead,
            row.due - ahead,
        )
        for row in rows
    ]


def retry(ledger: Ledger, ids: Sequence[int] = (), destination: str = "") -> int:
    """Have messages sent again at once, chosen by id, by destination, or all; returns how many.

    What was set aside waits again. One that is just being sent may be sent twice, under its key. Raises
    NotFound, and changes nothing, when an id is not that of an undelivered message.
    """
    with ledger.begin() as connection:
        chosen = _chosen(connection, ids, destination)
        for page in _pages([row.id for row in chosen]):
            # One that was never tried is due already, or on its way.
            tried = sa.or_(_c.state == "rejected", _c.attempts > 0)
            update = t.outbox.update().where(_c.id.in_(page), tried)
            connection.execute(update.values(state="waiting", due=AT_ONCE, attempts=0))
    return len(chosen)


def drop(ledger: Ledger, why: str, ids: Sequence[int] = (), destination: str = "") -> int:
    """Delete messages that nobody is to get, chosen as in `retry`; returns how many.

    The chain keeps their destinations and keys, and an operator's reason.
    """
    with ledger.begin() as connection:
        chosen = _chosen(connection, ids, destination)
        entries: list[chain.NewEntry] = []
        for name, rows in groupby(chosen, key=lambda row: row.destination):
            for page in _pages(list(rows)):
                connection.execute(t.outbox.delete().where(_c.id.in_([row.id for row in page])))
                body = {"destination": name, "keys": [row.key for row in page], "reason": why}
                entries.append(("dropped", body))
        chain.append(connection, entries, ledger.now(connection))
    return len(chosen)


def _chosen(connection: sa.Connection, ids: Sequence[int], destination: str) -> list[Any]:
    """Return id, destination and key of what is undelivered, sorted by destination and id."""
    query = sa.select(_c.id, _c.destination, _c.key).where(_UNDELIVERED)
    if destination:
        query = query.where(_c.destination == destination)
    pages = [query.where(_c.id.in_(page)) for page in _pages(sorted(set(ids)))] if ids else [query]
    rows = [row for page in pages for row in connection.execute(page)]
    missing = set(ids) - {row.id for row in rows}
    if missing:
        raise NotFound(f"no message {min(missing)} waits or is set aside; `riskmon outbox list` shows those")
    return sorted(rows, key=lambda row: (row.destination, row.id))


def _pages(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _PAGE] for start in range(0, len(items), _PAGE))
