"""The databases that keep a ledger: SQLite, and PostgreSQL for daemons on several machines.

On both, one transaction writes at a time, and read-only transactions never wait.
"""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from monitor.config import SecretUrl
from monitor.errors import ConfigError, Retryable
from monitor.private_files import make_private_file, make_private_folder

READS: Final = "riskmon_reads"  # option of a connection whose transactions only read
BUSY_SECONDS: Final = 5.0  # how long to wait for another daemon's transaction; ours take milliseconds
_LOCKED: Final = "database is locked"  # SQLite's words for SQLITE_BUSY, https://sqlite.org/rescode.html
IDLE_SECONDS: Final = 30.0  # PostgreSQL aborts a transaction idle for this long
_WRITERS: Final = 0x7269736B6D6F6E  # "riskmon": PostgreSQL's advisory lock, for SQLite's write lock
# Serializable transactions would do, too, but every two writers conflict, since both append to one chain: one
# of them would be refused at its end, with its work done, and this again and again. A lock makes it wait.


def connect(url: str | SecretUrl | sa.URL, *, read_only: bool = False) -> sa.Engine:
    """Make the engine of a ledger URL. Raises ConfigError for a URL that cannot be one.

    With `read_only` the database itself refuses every change.
    """
    try:
        parsed = sa.make_url(url.get_secret_value() if isinstance(url, SecretUrl) else url)
        is_path = parsed.get_backend_name() == "sqlite" and "uri" not in parsed.query
        if is_path and parsed.database and parsed.database != ":memory:" and not read_only:
            make_private_folder(Path(parsed.database).parent)
            make_private_file(Path(parsed.database))
        engine = sa.create_engine(parsed, hide_parameters=True, future=True)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, OSError, ValueError) as error:
        raise ConfigError(
            f"ledger.url: cannot be used ({type(error).__name__}); write sqlite:////path/to/ledger.db, or "
            "postgresql://user@host/name with the extra `postgresql` installed"
        ) from None
    database = _DATABASES.get(parsed.get_backend_name())
    if database is None:
        raise ConfigError("ledger.url: only sqlite and postgresql keep a ledger; choose one of them")
    sa.event.listen(engine, "connect", database.prepare)
    sa.event.listen(engine, "begin", database.begin_reading if read_only else database.begin)
    if read_only:
        sa.event.listen(engine, "connect", database.forbid_writing)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: pysqlite would begin too late
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    _keep_a_write_ahead_log(cursor)
    # At NORMAL, a power cut may take the last commits of a write-ahead log back, of which Kafka has heard and
    # whose alerts are sent.
    cursor.execute("PRAGMA synchronous = FULL")
    # Overwrite what is deleted: bodies and messages must not stay readable in the file's free pages.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _keep_a_write_ahead_log(cursor: Any) -> None:
    """Switch to a write-ahead log, and retry: while another process writes, SQLite refuses at once.

    Switching takes a lock that its busy handler does not wait for, https://sqlite.org/c3ref/busy_handler.html;
    a transaction does wait, and once the other has switched there is nothing left to do. Raises ConfigError
    where SQLite answers that it keeps another journal: readers would wait for writers, and a network's files
    cannot be shared between daemons at all, https://sqlite.org/wal.html.
    """
    for tries_left in reversed(range(6)):
        try:
            (journal,) = cursor.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not tries_left or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("ROLLBACK")
        else:
            if journal not in {"wal", "memory"}:  # a database in memory has but one connection
                raise ConfigError(
                    f"ledger.url: SQLite cannot keep a write-ahead log here (it says {journal}); "
                    "put the ledger on a local disk, or use PostgreSQL"
                )
            return


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    connection.autocommit = True  # what is set within a transaction is unset with it
    for name, seconds in (
        ("lock_timeout", BUSY_SECONDS),
        ("idle_in_transaction_session_timeout", IDLE_SECONDS),
    ):
        connection.execute(f"SET {name} = {int(seconds * 1000)}")
    connection.autocommit = False


def once_unlocked(work: Callable[[], None]) -> None:
    """Run a step of the start. Waits up to a minute for a lock; anything else raises Retryable.

    SQLite's lock has no queue: daemons that write without a pause sometimes keep another out for longer than
    BUSY_SECONDS (`make soak CASE=million`), and that must not prevent a start.
    """
    for tries_left in reversed(range(12)):
        try:
            return work()
        except Retryable as error:
            if not tries_left or _LOCKED not in str(error):
                raise
    return None


def _forbid_on_sqlite(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA query_only = ON")


def _forbid_on_postgresql(connection: Any, _record: Any) -> None:
    connection.autocommit = True  # as above
    connection.execute("SET default_transaction_read_only = on")
    connection.autocommit = False


class _Database(NamedTuple):
    """A database's statements: to prepare a connection, and to begin a writing or a read-only transaction."""

    prepare: Callable[[Any, Any], None]
    forbid_writing: Callable[[Any, Any], None]
    to_write: str
    to_read: str

    def begin(self, connection: sa.Connection) -> None:
        if connection.get_execution_options().get(READS):
            self.begin_reading(connection)
        else:
            connection.exec_driver_sql(self.to_write)

    def begin_reading(self, connection: sa.Connection) -> None:
        if self.to_read:
            connection.exec_driver_sql(self.to_read)


_DATABASES: Mapping[str, _Database] = {
    "sqlite": _Database(_prepare_sqlite, _forbid_on_sqlite, "BEGIN IMMEDIATE", "BEGIN"),
    "postgresql": _Database(
        _prepare_postgresql, _forbid_on_postgresql, f"SELECT pg_advisory_xact_lock({_WRITERS})", ""
    ),
}
