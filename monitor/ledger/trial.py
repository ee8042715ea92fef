"""Try a ledger out: do what a daemon does to it, in a transaction that is rolled back."""

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from monitor.clock import Clock
from monitor.config import SecretUrl
from monitor.errors import Retryable
from monitor.ledger import schema as t
from monitor.ledger.database import Purpose, connect
from monitor.ledger.faults import Fault, translate
from monitor.ledger.reader import LedgerReader

_USES: Final[dict[str, Callable[[sa.TableClause], sa.Executable]]] = {
    "SELECT": lambda table: sa.select(table).where(sa.false()),
    "INSERT": lambda table: table.insert().from_select(
        [column.name for column in table.columns], sa.select(table).where(sa.false())
    ),
    "UPDATE": lambda table: table.update().values({c.name: c for c in table.columns}).where(sa.false()),
    "DELETE": lambda table: table.delete().where(sa.false()),
}
"""A statement that needs a right, and changes no row."""


class LedgerTrial(LedgerReader):
    """A ledger that is tried out. Raises Retryable, whose message names a right that is missing."""

    @classmethod
    def at(cls, url: str | SecretUrl, clock: Clock) -> "LedgerTrial":
        """Prepare to try the ledger at a URL; SQLite's file must exist. Raises ConfigError."""
        return cls(connect(url, Purpose.WRITE), clock)

    def run(self) -> int:
        """Do it, and return the version of the schema; 0 where a daemon would have to make the tables.

        Raises ConfigError for a schema of a newer riskmon.
        """
        with self._translated(), self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                found = t.version(connection)
                t.refuse_newer(found)
                if found:
                    self._use(connection)
                elif self.engine.name != "sqlite":
                    self._make(connection)
            finally:
                transaction.rollback()
        return found

    def _make(self, connection: sa.Connection) -> None:
        try:
            t.migrate(connection)
        except sa.exc.ProgrammingError as error:
            raise self._lacking("CREATE in its schema", error) from None

    def _use(self, connection: sa.Connection) -> None:
        """Use the tables and columns that are there: an older schema lacks some until a daemon adds them."""
        inspector = sa.inspect(connection)
        for name in sorted(t.metadata.tables.keys() & set(inspector.get_table_names())):
            table = sa.table(name, *(sa.column(each["name"]) for each in inspector.get_columns(name)))
            for right, statement in _USES.items():
                try:
                    connection.execute(statement(table))
                except sa.exc.ProgrammingError as error:
                    raise self._lacking(f"{right} on {name}", error) from None
        if self.engine.name != "sqlite":
            for table in (t.outbox, t.dead_letters):
                sequence = sa.func.pg_get_serial_sequence(table.name, "id")
                usable = sa.select(sequence, sa.func.has_sequence_privilege(sequence, "USAGE"))
                name, allowed = connection.execute(usable).one()
                if not allowed:
                    raise Retryable(f"{Fault.DENIED}: USAGE on {name} (SQLSTATE 42501)", Fault.DENIED)

    def _lacking(self, right: str, error: sa.exc.DBAPIError) -> Exception:
        translated = translate(error)
        if isinstance(translated, Retryable) and translated.cause == Fault.DENIED:
            return Retryable(f"{translated}; it needs {right}", Fault.DENIED)
        return translated
