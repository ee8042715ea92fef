"""Tables as they are now, and the migrations that lead to them from the first version on."""

import json
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from monitor.errors import ConfigError
from monitor.ledger import released
from monitor.ledger.audit import GENESIS

_PAGE: Final = 1000  # rows that a migration holds at once

metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
head = sa.Table(
    "head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
chain = sa.Table(
    "chain",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
positions = sa.Table(
    "positions",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    sa.Column("beyond", sa.LargeBinary, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("updated", sa.Double, nullable=False),
    sa.Column("topic_id", sa.Text, nullable=False, server_default=""),  # empty: none was known yet
    sa.Column("incarnation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("leader_epoch", sa.BigInteger, nullable=False, server_default="-1"),
    sa.Column("witness_offset", sa.BigInteger),
    sa.Column("witness_time", sa.Double),
    sa.Column("moved", sa.BigInteger, nullable=False, server_default="0"),  # epoch of an operator's last move
)
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),  # of the daemon that has it; empty: given back
    sa.Column("version", sa.BigInteger, nullable=False),  # of the position when it was claimed
    sa.Column("deaths", sa.Integer, nullable=False),
    sa.Column("alone", sa.BigInteger),  # the offset of the record that was in hand alone
    sa.Column("alone_deaths", sa.Integer, nullable=False),
)
flags = sa.Table(
    "flags",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False, index=True),
    sa.Column("time", sa.Double, nullable=False, index=True),
    sa.Column("app", sa.Text, nullable=False),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False, index=True),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("incarnation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("provider", sa.Text, nullable=False, server_default=""),
    sa.Column("model_version", sa.Text, nullable=False, server_default=""),
    sa.Column("prompt_name", sa.Text, nullable=False, server_default=""),
    sa.Column("prompt_version", sa.Text, nullable=False, server_default=""),
    sa.Column("detectors", sa.Text, nullable=False, server_default=""),
)
feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created", sa.Double, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
)
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.UniqueConstraint("destination", "key"),
    sa.Index("outbox_due", "destination", "state", "due"),
)
dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("requeued", sa.Double),
    sa.Column("incarnation", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("topic", "partition", "offset", "incarnation"),
)
assessments = sa.Table(
    "assessments",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True),
    sa.Column("trace_id", sa.Text, nullable=False, index=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("incarnation", sa.Integer, primary_key=True, autoincrement=False, server_default="0"),
)
snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("updated", sa.Double, nullable=False),
)
spool = sa.Table(
    "spool",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("through", sa.BigInteger, nullable=False),  # sum of `size` so far, this one included
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)


LATER_FLAG_COLUMNS: Final = (
    "incarnation",
    "provider",
    "model_version",
    "prompt_name",
    "prompt_version",
    "detectors",
)
"""Columns of flags that ledgers of earlier versions were written without.

A new column of flags must be named here: otherwise the digest of every older flag covers it, and all of them
look altered.
"""


def _first(connection: sa.Connection) -> None:
    released.FIRST.create_all(connection)
    connection.execute(released.HEAD_1.insert().values(id=1, seq=0, hash=GENESIS))


def _snapshots_by_detector(connection: sa.Connection) -> None:
    """Only drift had snapshots; now their names begin with the detector's."""
    table = released.SNAPSHOTS_1
    connection.execute(table.update().values(name=sa.literal("drift/") + table.c.name))


def _spool(connection: sa.Connection) -> None:
    released.SPOOL_3.create(connection)


def _incarnations(connection: sa.Connection) -> None:
    """Distinguish equal offsets of two logs of one name."""
    for table in released.ADDED_4:
        _add_columns(connection, table)
    # Here it is part of a key, which SQLite cannot alter.
    for table in (released.DEAD_LETTERS_4, released.ASSESSMENTS_4):
        old = f"old_{table.name}"
        for index in sa.inspect(connection).get_indexes(table.name):
            if not index.get("duplicates_constraint"):
                connection.execute(sa.text(f"DROP INDEX {index['name']}"))
        connection.execute(sa.text(f"ALTER TABLE {table.name} RENAME TO {old}"))
        table.create(connection)
        names = [column.name for column in table.columns if column.name != "incarnation"]
        rows: Any = sa.select(*(sa.column(name) for name in names)).select_from(sa.table(old))
        connection.execute(table.insert().from_select(names, rows))
        connection.execute(sa.text(f"DROP TABLE {old}"))
    if connection.dialect.name == "postgresql":
        greatest = sa.func.max(released.DEAD_LETTERS_4.c.id)
        following = sa.select(sa.func.coalesce(greatest, 0) + 1).scalar_subquery()
        sequence = sa.func.pg_get_serial_sequence("dead_letters", "id")
        connection.execute(sa.select(sa.func.setval(sequence, following, False)))


def _traffic(connection: sa.Connection) -> None:
    """Give flags the traffic fields, and their detectors in a searchable column."""
    _add_columns(connection, released.ADDED_5)
    table = sa.table("flags", sa.column("id"), sa.column("body"), sa.column("detectors"))
    c = table.c
    columns = sa.select(c.id, c.body).order_by(c.id).limit(_PAGE)
    update = table.update().where(c.id == sa.bindparam("flag"))
    last = ""
    while page := connection.execute(columns.where(c.id > last)).all():
        connection.execute(update, [{"flag": row.id, "detectors": _detectors(row.body)} for row in page])
        last = page[-1].id


def _attempts(connection: sa.Connection) -> None:
    """Remember which daemons died with which records in hand."""
    released.ATTEMPTS_6.create(connection)


def _detectors(body: str) -> str:
    return "".join(f"+{name}" for name in json.loads(body)["detectors"]) + "+"


def _add_columns(connection: sa.Connection, table: sa.Table) -> None:
    for column in table.columns:
        definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    _first,
    _snapshots_by_detector,
    _spool,
    _incarnations,
    _traffic,
    _attempts,
)
"""The n-th brings the schema from version n to n + 1. Never changed once released, only added to.

What they make is spelled out in `monitor.ledger.released`: the tables above may change, it may not.
"""


NEWEST: Final = len(MIGRATIONS)
"""The version of the tables above."""


def version(connection: sa.Connection) -> int:
    """Return the version of a ledger's schema, 0 where there is none."""
    if not sa.inspect(connection).has_table(meta.name):
        return 0
    row = connection.execute(sa.select(meta.c.value).where(meta.c.key == "schema")).scalar()
    return int(row) if row is not None else 0


def refuse_newer(found: int, known: int = NEWEST) -> None:
    """Raise ConfigError for a ledger that a newer riskmon wrote."""
    if found > known:
        raise ConfigError(
            f"the ledger has schema {found}, this riskmon knows {known}: upgrade riskmon, "
            "or point ledger.url to another ledger"
        )


def migrate(
    connection: sa.Connection, migrations: tuple[Callable[[sa.Connection], None], ...] = MIGRATIONS
) -> int:
    """Bring the schema to the newest version inside the caller's transaction; returns that version.

    Raises ConfigError when the ledger was written by a newer riskmon.
    """
    found = version(connection)
    refuse_newer(found, len(migrations))
    meta.create(connection, checkfirst=True)
    for step in migrations[found:]:
        step(connection)
    if not found:
        connection.execute(meta.insert().values(key="schema", value=str(len(migrations))))
    elif found < len(migrations):
        connection.execute(meta.update().where(meta.c.key == "schema").values(value=str(len(migrations))))
    return len(migrations)
