"""Reading a ledger: one consistent view after the other, without writing or keeping anybody waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock, Deadline, SystemClock
from monitor.config import SecretUrl
from monitor.errors import ConfigError, Damaged, NotFound, Retryable
from monitor.ledger import schema as t
from monitor.ledger.database import AHEAD, READS, Purpose, connect, exists, file_of, log_of
from monitor.ledger.faults import RESTORE, Fault, translate

LOG_SECONDS: Final = 60.0  # between two lines about the same cause
SPARE_SECONDS: Final = 1.0  # after a long wait in vain, other calls do not wait for so long once more
_LONG_SECONDS: Final = 1.0


class Faults:
    """What is wrong with a ledger. `cause` is a sentence of a bounded set, empty after a success.

    Failures are logged where there is a log; those of a command end it, and it tells them itself.
    """

    def __init__(self, log: FilteringBoundLogger | None = None) -> None:
        self.cause = ""
        self._log = log
        self._logged: dict[str, Deadline] = {}

    def failed(self, error: Retryable) -> None:
        """Note a failure, and log it unless its cause was just logged, or is another's transaction."""
        self.cause = error.cause
        if self._log is None:
            return
        logged = self._logged.get(error.cause)
        if error.cause != Fault.BUSY and (logged is None or logged.expired()):
            self._logged[error.cause] = Deadline(SystemClock(), LOG_SECONDS)
            self._log.warning("ledger_unavailable", reason=str(error))

    def ended(self) -> None:
        """Note a success."""
        self.cause = ""
        if self._log is not None and self._logged:
            self._logged = {}
            self._log.info("ledger_available")


class LedgerReader:
    """A ledger that is read. Thread-safe; every call is its own transaction.

    Raises Retryable when the database is busy, away or denies something for now, Damaged when it is broken.
    """

    def __init__(self, engine: sa.Engine, clock: Clock, faults: Faults | None = None) -> None:
        self.engine = engine
        self._clock = clock
        self._faults = faults or Faults()
        self._spared: tuple[Deadline, Retryable] | None = None
        self._inspected: Path | None = None  # SQLite's file, which is read without locks while it is at rest

    @classmethod
    def inspect(cls, url: str | SecretUrl, clock: Clock) -> Self:
        """Open a ledger from outside. Raises NotFound without one, ConfigError for another schema."""
        reader = cls(connect(url, Purpose.INSPECT), clock)
        reader._inspected = file_of(url)
        try:
            reader.require_schema()
        except BaseException:
            reader.close()
            raise
        return reader

    def require_schema(self) -> None:
        """Raise NotFound or ConfigError unless the ledger has the schema that this riskmon uses."""
        where = SecretUrl(self.engine.url.render_as_string(hide_password=False))
        path = file_of(self.engine.url)
        version = 0
        if path is None or exists(path):
            with self.view() as connection:
                version = t.version(connection)
        if not version:
            raise NotFound(
                f"{where}: there is no ledger yet; run `riskmon run` first, or name its configuration with"
                " --config"
            )
        if version < t.NEWEST:
            raise ConfigError(
                f"{where}: this ledger has an older schema, {version} instead of {t.NEWEST}; only `riskmon"
                " run` of this version changes it: start that, or use the riskmon that wrote it"
            )
        t.refuse_newer(version)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def view(self) -> Iterator[sa.Connection]:
        """Open one consistent view for reading; no writer waits for it, however long."""
        # PostgreSQL's default would give each statement a newer view than the one before.
        level = {} if self.engine.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with self._undisturbed(), self._translated(), self.engine.connect() as connection:
            reading = connection.execution_options(**{READS: True, **level})
            with reading.begin(), _readable():
                yield reading

    def now(self, connection: sa.Connection) -> float:
        """Return the time of the ledger in Unix seconds: the same for daemons whose clocks differ."""
        return self._clock.now() + self.ahead(connection)

    def ahead(self, connection: sa.Connection) -> float:
        """Return by how many seconds the ledger's clock was ahead of ours when this transaction began."""
        ahead: float = connection.info[AHEAD]
        return ahead

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Refuse what was read of a file that was taken to be at rest, and was written to meanwhile."""
        resting = self._inspected is not None and not exists(log_of(self._inspected))
        before = _state(self._inspected) if resting else None
        try:
            yield
        finally:
            if resting and before != _state(self._inspected):
                raise Retryable(f"{Fault.BUSY}: a daemon began to write meanwhile", Fault.BUSY)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._spared is not None and not self._spared[0].expired():
            raise self._spared[1]
        long = Deadline(SystemClock(), _LONG_SECONDS)
        try:
            yield
        except DBAPIError as error:
            raised = translate(error)
            if isinstance(raised, Retryable):
                self._failed(raised, late=long.expired())
            raise raised from None

    def _failed(self, error: Retryable, *, late: bool) -> None:
        self._faults.failed(error)
        if late and error.cause in {Fault.SILENT, Fault.AWAY}:
            self._spared = (Deadline(SystemClock(), SPARE_SECONDS), error)
        if isinstance(error, Damaged):
            self.engine.dispose()  # open files would outlive the file that replaces them


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what cannot be decoded into Damaged: riskmon and SQLite wrote it as valid text."""
    try:
        yield
    except ValueError as error:
        raise Damaged(f"{Fault.DAMAGED}: {type(error).__name__}; {RESTORE}", Fault.DAMAGED) from None


def _state(path: Path | None) -> tuple[int, int, bool] | None:
    """Return what any write to an SQLite file changes; None if there is no file."""
    if path is None or not exists(path):
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size, exists(log_of(path))
