"""What a database's error means: the one place that reads SQLSTATE classes and SQLite's result codes.

A database that is away, full or read-only, or that denies something, is waited for: whoever looks after it
can change that while riskmon runs. Only what no state of the database excuses is a bug.
"""

import sqlite3
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from sqlalchemy.exc import DBAPIError, OperationalError

from monitor.errors import Damaged, Retryable

RESTORE: Final = "stop riskmon and restore a backup of the ledger"
_MOST_CHARS: Final = 300  # of a database's message


class Fault(StrEnum):
    """Why a database did not do what it was asked for."""

    AWAY = "the database cannot be reached"
    SILENT = "the database does not answer in time"
    BUSY = "another transaction is in the way"
    READ_ONLY = "the database takes no writes"
    FULL = "the database has no room left"
    CROWDED = "the database has no connection or memory to spare"
    REFUSED = "the database refuses the login"
    ABSENT = "the database does not exist"
    DENIED = "the database user lacks a right"
    UNOPENED = "the ledger's file or folder cannot be opened or made"
    BROKEN = "the database's disk fails"
    NO_TABLES = "the ledger's tables are missing"
    DAMAGED = "the database is damaged"
    OTHER = "the database failed"


_STATES: Final[Mapping[str, Fault]] = {
    "08": Fault.AWAY,
    "57": Fault.AWAY,  # shut down, crashed, not up yet
    "57014": Fault.SILENT,  # cancelled, by `statement_timeout` or an operator
    "25006": Fault.READ_ONLY,
    "25": Fault.BUSY,  # ended while it was idle in a transaction
    "40": Fault.BUSY,
    "55": Fault.BUSY,
    "53": Fault.CROWDED,
    "53100": Fault.FULL,
    "28": Fault.REFUSED,
    "3D": Fault.ABSENT,
    "3F": Fault.NO_TABLES,
    "42P01": Fault.NO_TABLES,
    "42501": Fault.DENIED,
    "58": Fault.BROKEN,
    "XX001": Fault.DAMAGED,
    "XX002": Fault.DAMAGED,
    "XX": Fault.OTHER,
    "F0": Fault.OTHER,
    "26": Fault.OTHER,  # a pooler that mixes up prepared statements
}
"""By the longest prefix of SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html."""

_CODES: Final[Mapping[int, Fault]] = {
    sqlite3.SQLITE_PERM: Fault.DENIED,
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
    sqlite3.SQLITE_PROTOCOL: Fault.BUSY,
    sqlite3.SQLITE_SCHEMA: Fault.BUSY,
    sqlite3.SQLITE_NOMEM: Fault.CROWDED,
    sqlite3.SQLITE_READONLY: Fault.READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: Fault.SILENT,
    sqlite3.SQLITE_IOERR: Fault.BROKEN,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_CANTOPEN: Fault.UNOPENED,
    sqlite3.SQLITE_AUTH: Fault.DENIED,
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
}
"""By SQLite's primary result codes, https://sqlite.org/rescode.html."""

_SAID: Final[Mapping[str, Fault]] = {
    "too many": Fault.CROWDED,
    "connection slots": Fault.CROWDED,
    "password": Fault.REFUSED,
    "pg_hba.conf": Fault.REFUSED,
    "is not permitted to log in": Fault.REFUSED,
    "authentication": Fault.REFUSED,
    'role "': Fault.REFUSED,
    "permission denied": Fault.DENIED,
    'database "': Fault.ABSENT,
    "timeout expired": Fault.SILENT,
    "no answer within": Fault.SILENT,
    "no time is left": Fault.SILENT,
}
"""Words of a server that refuses a connection, and of ours: libpq passes no SQLSTATE on. Others mean AWAY."""


def translate(error: DBAPIError) -> Retryable | RuntimeError:
    """Return the error to raise instead: Retryable, Damaged, or for a bug RuntimeError.

    Its text names the state and repeats the database's own words, but no value: PostgreSQL keeps those of
    rows for the detail, and of statements for errors of class 22.
    """
    cause = _cause(error)
    if cause is None:
        return RuntimeError(f"the database refused a statement of riskmon: {_said(error)}")
    text = f"{cause}: {_said(error)}"
    if cause is Fault.DAMAGED:
        return Damaged(f"{text}; {RESTORE}", cause)
    return Retryable(text, cause)


def _cause(error: DBAPIError) -> Fault | None:
    if isinstance(error.orig, sqlite3.Error):
        return _cause_on_sqlite(error.orig)
    if state := _state(error):
        return next((_STATES[state[:length]] for length in (5, 2) if state[:length] in _STATES), None)
    if isinstance(error, OperationalError) or error.connection_invalidated:
        said = str(error.orig).lower()
        return next((cause for words, cause in _SAID.items() if words in said), Fault.AWAY)
    return None


def _cause_on_sqlite(error: sqlite3.Error) -> Fault | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # the error is of Python's module, not of SQLite
        return Fault.DAMAGED if str(error).startswith("Could not decode to UTF-8") else None
    known = _CODES.get(code & 0xFF)
    if str(error) == "unsupported file format":
        return Fault.DAMAGED
    if known is None and str(error).startswith(("no such table", "no such column")):
        return Fault.NO_TABLES
    return known


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _said(error: DBAPIError) -> str:
    original, state = error.orig, _state(error)
    name = type(original).__name__
    if isinstance(original, sqlite3.Error):
        # SQLite names tables and conditions, never values; Python's module quotes what it cannot decode.
        words = original if hasattr(original, "sqlite_errorcode") else "a text that is no UTF-8"
        return f"{name}: {words}"[:_MOST_CHARS]
    if state.startswith("22"):
        return f"{name} (SQLSTATE {state})"
    primary = getattr(getattr(original, "diag", None), "message_primary", None)
    words = " ".join(str(primary or original).split())[:_MOST_CHARS]
    return f"{name}: {words} (SQLSTATE {state})" if state else f"{name}: {words}"
