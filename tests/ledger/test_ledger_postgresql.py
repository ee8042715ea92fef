"""A ledger in PostgreSQL: what sets it apart from the ledgers of test_ledger.py."""

from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from ledgers import VAULT, Database, on_postgresql
from patience import PATIENCE

from monitor.clock import SystemClock
from monitor.errors import Retryable
from monitor.ledger.flags import FlagReader
from monitor.ledger.store import Ledger
from monitor.testing import ManualClock


@on_postgresql
def test_a_daemon_that_is_late_waits_and_tries_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that another daemon holds up is busy, not broken."""
    monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", 0.1)
    with database.opened("a") as first, database.opened("b") as second:
        with first.begin(), pytest.raises(Retryable, match="LockNotAvailable"):
            second.position("t", 0)
        assert second.position("t", 0) is None


@on_postgresql
def test_a_daemon_that_stands_still_does_not_hold_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction of a stopped process is ended by the server, and the process may try again."""
    monkeypatch.setattr("monitor.ledger.database.BUSY_SECONDS", PATIENCE)
    waited: list[int | None] = []
    with database.opened("a") as stopped, database.opened("b") as other:
        stopped.engine.dispose()  # only its next connection may not stand still for long
        with monkeypatch.context() as hurried:
            hurried.setattr("monitor.ledger.database.IDLE_SECONDS", 0.2)
            with pytest.raises(Retryable), stopped.begin():
                waited.append(other.position("t", 0))
        assert waited == [None]
        assert stopped.position("t", 0) is None


@on_postgresql
def test_a_query_that_takes_too_long_is_ended(database: Database) -> None:
    """The server ends a reader's query after the reader's time, and the reader may ask again."""
    with database.opened() as written:
        hurried = FlagReader(written.engine.url, SystemClock(), 0.05)
        try:
            for _ in range(2):
                with (
                    pytest.raises(Retryable, match="QueryCanceled"),
                    hurried._ledger.view() as connection,
                    hurried._limited(connection),
                ):
                    connection.execute(sa.text("SELECT pg_sleep(30)"))
        finally:
            hurried.close()


def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """A ledger that cannot be reached at the start may be there later."""
    with pytest.raises(Retryable, match="cannot be reached"):
        Ledger.open(
            f"postgresql://riskmon@/postgres?host={quote(str(tmp_path))}",
            VAULT,
            ManualClock(),
            "d0",
        )
