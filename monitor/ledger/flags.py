"""Listing flags for people: the newest first, page by page, without ever keeping the daemon waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from monitor.clock import Clock, Deadline
from monitor.config import SecretUrl
from monitor.ledger import schema as t
from monitor.ledger.database import Purpose, connect
from monitor.ledger.reader import LedgerReader
from monitor.ledger.rows import detectors_column, flag_row
from monitor.records import FLAG_FIELDS, FlagFilter, FlagPage

_STEPS = 1000  # of SQLite's virtual machine between two checks of the clock


class FlagReader:
    """Finds flags through connections of its own that can only read, each query within `seconds`."""

    def __init__(self, url: str | SecretUrl | sa.URL, clock: Clock, seconds: float) -> None:
        self._ledger = LedgerReader(connect(url, Purpose.READ), clock)
        self._clock = clock
        self._seconds = seconds

    def close(self) -> None:
        """Close the connections."""
        self._ledger.close()

    def find(self, wanted: FlagFilter, limit: int) -> FlagPage:
        """Return at most `limit` flags, newest first. Raises Retryable when the ledger is away or slow."""
        c = t.flags.c
        order = (c.time.desc(), c.id.desc())
        # First the keys, then the bodies: the bodies of all matches may be far too much to sort.
        chosen = sa.select(c.id).where(*self._conditions(wanted)).order_by(*order).limit(limit + 1)
        query = sa.select(t.flags).where(c.id.in_(chosen.subquery().select())).order_by(*order)
        with self._ledger.view() as connection, self._limited(connection):
            rows = connection.execute(query).all()
        return FlagPage(tuple(map(flag_row, rows[:limit])), more=len(rows) > limit)

    def _conditions(self, wanted: FlagFilter) -> Iterator[sa.ColumnElement[bool]]:
        c = t.flags.c
        on_sqlite = self._ledger.engine.name == "sqlite"
        for name in FLAG_FIELDS:
            if name in wanted.equal:
                bounded = name == "rule" and wanted.since is not None
                # SQLite prefers the index of rules even for a short time range; a plus forbids it.
                column = sa.literal_column("+flags.rule") if bounded and on_sqlite else c[name]
                yield column.in_(wanted.equal[name])
        if wanted.detector:
            position_of = sa.func.instr if on_sqlite else sa.func.strpos
            yield position_of(c.detectors, detectors_column([wanted.detector])) > 0
        if wanted.since is not None:
            yield c.time >= wanted.since
        if wanted.until is not None:
            yield c.time <= wanted.until
        if wanted.before is not None:
            yield sa.tuple_(c.time, c.id) < wanted.before

    @contextmanager
    def _limited(self, connection: sa.Connection) -> Iterator[None]:
        """Cancel slow queries: PostgreSQL by its own time-out, SQLite by a callback that checks the clock."""
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(self._seconds * 1000))}")
            yield
            return
        deadline = Deadline(self._clock, self._seconds)
        own: Any = connection.connection.driver_connection
        own.set_progress_handler(deadline.expired, _STEPS)
        try:
            yield
        finally:
            own.set_progress_handler(None, 0)
