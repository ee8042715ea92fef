"""Migrations: a ledger of any version becomes one of this version, and keeps what it has."""

import json
import re
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from ledgers import VAULT, Database, claimed, on_every_database

from monitor.clock import SystemClock
from monitor.ledger import queries
from monitor.ledger import schema as t
from monitor.ledger.database import connect
from monitor.ledger.rows import dead_letter_context
from monitor.ledger.trial import LedgerTrial

FLAG = {
    "id": "f",
    "seq": 1,
    "topic": "t",
    "partition": 0,
    "offset": 2,
    "part": 0,
    "trace_id": "trace",
    "time": 1.0,
    "app": "shop",
    "environment": "",
    "model": "m",
    "rule": "Leak",
    "severity": "warning",
    "body": json.dumps({"detectors": ["pii", "toxicity"]}),
}
DETECTORS = {"detectors": "+pii+toxicity+"}  # since the fifth version
LETTER = {
    "topic": "t",
    "partition": 0,
    "offset": 1,
    "time": 1.0,
    "created": 1.0,
    "reason": "not_json",
    "detail": "",
    "sealed": VAULT.encrypt(b"\x93\xc0\xc4\x01{\x90", dead_letter_context("t", 0, 1, 0)),
}
ASSESSMENT = {"topic": "t", "partition": 0, "offset": 2, "part": 0, "trace_id": "trace", "time": 1.0} | {
    "why": "flagged",
    "body": "[]",
}


def shape(connection: sa.Connection) -> dict[str, Any]:
    """Columns, keys and indexes of every table, without the numbers that a database gives to sequences."""
    inspector = sa.inspect(connection)
    return {
        table: (
            [
                (
                    column["name"],
                    str(column["type"]),
                    column["nullable"],
                    re.sub(r"_seq\d*", "_seq", column["default"] or ""),
                )
                for column in inspector.get_columns(table)
            ],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(unique["column_names"] for unique in inspector.get_unique_constraints(table)),
            sorted(
                (str(index["name"]), [str(name) for name in index["column_names"]])
                for index in inspector.get_indexes(table)
                if not index.get("duplicates_constraint")
            ),
        )
        for table in sorted(inspector.get_table_names())
    }


@on_every_database
def test_the_migrations_end_at_the_present_tables(database: Database) -> None:
    """What released migrations spell out and what the code reads and writes is the same in the end."""
    with database.opened() as ledger, ledger.begin() as connection:
        migrated = shape(connection)
        for table in migrated:
            connection.execute(sa.text(f"DROP TABLE {table}"))
        t.metadata.create_all(connection)
        assert shape(connection) == migrated


def insert(connection: sa.Connection, table: str, values: dict[str, Any]) -> None:
    """Insert a row as a version would that knew these columns alone."""
    columns: list[Any] = [sa.column(name) for name in values]
    connection.execute(sa.table(table, *columns).insert().values(values))


@on_every_database
@pytest.mark.parametrize("version", range(1, len(t.MIGRATIONS)))
def test_a_ledger_of_each_old_version_opens(database: Database, version: int) -> None:
    """Its rows are found as this version looks for them, and new work is recorded beside them."""
    engine = connect(database.url)
    with engine.begin() as connection:
        assert t.migrate(connection, t.MIGRATIONS[:version]) == version
        insert(connection, "flags", FLAG | (DETECTORS if version >= 5 else {}))
        insert(connection, "dead_letters", LETTER)
        insert(connection, "assessments", ASSESSMENT)
        insert(connection, "feedback", {"id": "f", "created": 1.0, "body": "{}"})
    engine.dispose()
    with database.opened() as ledger:
        claimed(ledger)
        assert queries.row_counts(ledger, "flags", "dead_letters", "assessments") == dict.fromkeys(
            ("flags", "dead_letters", "assessments"), 1
        )
        with ledger.view() as connection:
            (flag,) = connection.execute(sa.select(t.flags)).all()
        assert (flag.id, flag.incarnation, flag.provider, flag.detectors) == ("f", 0, "", "+pii+toxicity+")
        ((letter,), content) = (queries.letters(ledger), queries.open_letter(ledger, VAULT, 1)[1])
        assert (letter.offset, letter.incarnation, content.value) == (1, 0, b"{")
        assert list(queries.feedback_items(ledger)) == [{}]


@on_every_database
@pytest.mark.parametrize("version", range(1, len(t.MIGRATIONS)))
def test_a_ledger_of_each_old_version_can_be_tried_out(database: Database, version: int) -> None:
    """Before an upgrade `check` says what it finds, and leaves it as it is."""
    engine = connect(database.url)
    with engine.begin() as connection:
        t.migrate(connection, t.MIGRATIONS[:version])
        before = shape(connection)
    with closing(LedgerTrial.at(database.url, SystemClock())) as trial:
        assert trial.run() == version
    with engine.begin() as connection:
        assert shape(connection) == before
    engine.dispose()
