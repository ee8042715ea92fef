"""The databases that keep a ledger: SQLite, and PostgreSQL for daemons on several machines.

On both, one transaction writes at a time, and read-only transactions never wait. Whatever PostgreSQL is told
is told in each transaction: PgBouncer may run the next one in another session.
"""

import sqlite3
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy as sa

from monitor.clock import Clock, SystemClock
from monitor.config import SecretUrl
from monitor.errors import ConfigError, Retryable
from monitor.ledger import postgresql
from monitor.ledger.faults import Fault
from monitor.ledger.postgresql import Patience
from monitor.private_files import make_private_file, make_private_folder

READS: Final = "riskmon_reads"  # option of a connection whose transactions only read
AHEAD: Final = "riskmon_ahead"  # in a connection's `info`: how far the database's clock is ahead of ours
LEAST_AHEAD: Final = 1.0  # less is the time that an answer takes, or does no harm
BUSY_SECONDS: Final = 5.0  # how long to wait for another daemon's transaction; ours take milliseconds
IDLE_SECONDS: Final = 3.0  # PostgreSQL ends a transaction idle for this long; less than others wait for it
READ_IDLE_SECONDS: Final = 30.0  # the same for one that only reads, which keeps nobody waiting
_WRITERS: Final = 0x7269736B6D6F6E  # "riskmon": PostgreSQL's advisory lock, for SQLite's write lock
# Serializable transactions would do, too, but every two writers conflict, since both append to one chain: one
# of them would be refused at its end, with its work done, and this again and again. A lock makes it wait.


class Purpose(Enum):
    """What a connection is for."""

    MAKE = auto()  # a ledger that may have to be made
    WRITE = auto()  # one that exists
    READ = auto()  # beside connections of this process that write
    INSPECT = auto()  # from outside: nothing is written, not even beside the ledger


def connect(
    url: str | SecretUrl | sa.URL,
    purpose: Purpose = Purpose.MAKE,
    patience: Patience | None = None,
    machine: Clock | None = None,
) -> sa.Engine:
    """Make the engine of a ledger URL. Raises ConfigError for a URL that cannot be one, else Retryable.

    With READ and INSPECT the database itself refuses every change. `machine` is this machine's clock, with
    which the database's is compared.
    """
    try:
        parsed = _parsed(url)
        database = _DATABASES.get(parsed.get_backend_name())
        engine = sa.create_engine(parsed, hide_parameters=True, future=True, **_options(parsed, purpose))
        if parsed.get_backend_name() == "postgresql":
            postgresql.require(parsed)
            postgresql.bound(engine, patience or Patience())
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError) as error:
        raise ConfigError(
            f"ledger.url: cannot be used ({type(error).__name__}); write sqlite:////path/to/ledger.db, or "
            "postgresql://user@host/name with the extra `postgresql` installed"
        ) from None
    if database is None:
        raise ConfigError("ledger.url: only sqlite and postgresql keep a ledger; choose one of them")
    if path := file_of(parsed):
        _open_file(engine, path, purpose)
    reads = purpose in {Purpose.READ, Purpose.INSPECT}
    sa.event.listen(engine, "connect", database.forbid_writing if reads else database.prepare)

    def begin(connection: sa.Connection) -> None:
        reading = reads or connection.get_execution_options().get(READS)
        now = (database.begin_reading if reading else database.begin_writing)(connection)
        connection.info[AHEAD] = _ahead(now, machine or SystemClock())

    sa.event.listen(engine, "begin", begin)
    return engine


def _options(url: sa.URL, purpose: Purpose) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite" and not file_of(url):
        return {}
    if purpose is Purpose.INSPECT:
        return {"poolclass": sa.NullPool}
    # As many connections as threads: none waits for one that hangs.
    if url.get_backend_name() == "sqlite":
        return {"max_overflow": -1}
    # Whatever the server's default: a writer must see, once it has the lock, what those before it wrote.
    return {"max_overflow": -1, "isolation_level": "READ COMMITTED"}


def _ahead(database_now: float | None, machine: Clock) -> float:
    ahead = 0.0 if database_now is None else database_now - machine.now()
    return ahead if abs(ahead) >= LEAST_AHEAD else 0.0


def file_of(url: str | SecretUrl | sa.URL) -> Path | None:
    """Return the file of a ledger in SQLite; None for a server, or a ledger in memory."""
    try:
        parsed = _parsed(url)
    except (sa.exc.ArgumentError, ValueError):
        return None
    name = parsed.database or ""
    if parsed.get_backend_name() != "sqlite" or name in {"", ":memory:"} or "memory" in parsed.query.values():
        return None
    # A URI of SQLite's own, https://sqlite.org/uri.html
    return Path(unquote(urlsplit(name).path) if "uri" in parsed.query else name)


def _parsed(url: str | SecretUrl | sa.URL) -> sa.URL:
    return sa.make_url(url.get_secret_value() if isinstance(url, SecretUrl) else url)


def exists(path: Path) -> bool:
    """Return whether there is such a file. Raises Retryable where that cannot be known for now."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unopened(path, error) from None
    return True


def _unopened(path: Path, error: OSError) -> ConfigError | Retryable:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return ConfigError(f"ledger.url: {path}: its folder is a file; choose another one")
    return Retryable(f"{Fault.UNOPENED}: {path} ({type(error).__name__})", Fault.UNOPENED)


def log_of(path: Path) -> Path:
    """Return where SQLite keeps a ledger's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def _open_file(engine: sa.Engine, path: Path, purpose: Purpose) -> None:
    """Open SQLite's file as `purpose` wants it; only MAKE makes it, and its folder, for their owner.

    Reading a write-ahead log needs an index beside it, which SQLite makes if there is none. To INSPECT makes
    no files: without a log all is in the ledger's own file, and `immutable` reads just that.
    """
    if purpose is Purpose.MAKE:
        try:
            make_private_folder(path.parent)
            make_private_file(path)
        except OSError as error:
            raise _unopened(path, error) from None
        return
    mode = "rw" if purpose is Purpose.WRITE else "ro"

    def connect(_dialect: Any, _record: Any, args: list[Any], parameters: dict[str, Any]) -> None:
        alone = purpose is Purpose.INSPECT and not exists(log_of(path))
        args[0] = f"file:{quote(str(path))}?mode={mode}{'&immutable=1' if alone else ''}"
        parameters["uri"] = True

    sa.event.listen(engine, "do_connect", connect)


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


def _forbid_on_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # as above
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    connection.execute("PRAGMA query_only = ON")


def _write_on_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _read_on_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """Nothing is set for a session."""


def _forbid_on_postgresql(connection: Any, _record: Any) -> None:
    connection.read_only = True  # each transaction begins as READ ONLY


def _write_on_postgresql(connection: sa.Connection) -> float:
    _driver(connection).begins(writing=True)
    return _begin_on_postgresql(connection, IDLE_SECONDS, f"pg_advisory_xact_lock({_WRITERS}), ")


def _read_on_postgresql(connection: sa.Connection) -> float:
    _driver(connection).begins(writing=False)
    return _begin_on_postgresql(connection, READ_IDLE_SECONDS)


def _driver(connection: sa.Connection) -> Any:
    """Return the connection that `postgresql.bound` made."""
    return connection.connection.driver_connection


def _begin_on_postgresql(connection: sa.Connection, idle_seconds: float, lock: str = "") -> float:
    """Set a transaction's limits, take the lock and read the clock, in this order and one round trip."""
    limits = {"lock_timeout": BUSY_SECONDS, "idle_in_transaction_session_timeout": idle_seconds}
    setting = ", ".join(
        f"set_config('{name}', '{int(seconds * 1000)}', true)" for name, seconds in limits.items()
    )
    # Constants, all of them.
    query = f"SELECT {setting}, {lock}extract(epoch FROM clock_timestamp())::float8"  # noqa: S608
    return float(connection.exec_driver_sql(query).one()[-1])


class _Database(NamedTuple):
    """How to prepare a database's connections, and to begin a transaction.

    Beginning returns the database's time in Unix seconds; None where it is this machine's.
    """

    prepare: Callable[[Any, Any], None]
    forbid_writing: Callable[[Any, Any], None]
    begin_writing: Callable[[sa.Connection], float | None]
    begin_reading: Callable[[sa.Connection], float | None]


_DATABASES: Mapping[str, _Database] = {
    "sqlite": _Database(_prepare_sqlite, _forbid_on_sqlite, _write_on_sqlite, _read_on_sqlite),
    "postgresql": _Database(
        _prepare_postgresql, _forbid_on_postgresql, _write_on_postgresql, _read_on_postgresql
    ),
}
