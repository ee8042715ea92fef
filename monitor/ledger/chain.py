"""Append to the audit chain. `monitor.ledger.audit` defines its hashes and verifies it."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from monitor.ledger import audit
from monitor.ledger import schema as t

NewEntry: TypeAlias = tuple[str, Mapping[str, Any]]
"""Kind and body of an entry to append."""

# Built once: building a statement takes longer than SQLite takes to execute it.
_HEAD = sa.select(t.head.c.seq, t.head.c.hash, t.chain.c.time).select_from(
    t.head.outerjoin(t.chain, t.chain.c.seq == t.head.c.seq)
)
_MOVE_HEAD = t.head.update()
_APPEND = t.chain.insert()


def append(connection: sa.Connection, entries: Sequence[NewEntry], now: float) -> int:
    """Append entries in the caller's transaction, and return the number of the chain's last entry.

    The transaction must hold the write lock: two that read the same head would fork the chain. Times never
    run backwards: an entry bears the time of the one before it where the clock was set back since.
    """
    head = connection.execute(_HEAD).one()
    seq, previous = int(head.seq), bytes(head.hash)
    if not entries:
        return seq
    time = f"{now if head.time is None else max(now, float(head.time)):.6f}"
    rows = []
    for kind, body in entries:
        seq += 1
        text = audit.canonical(body)
        previous = audit.link(previous, seq, time, kind, text)
        rows.append({"seq": seq, "time": time, "kind": kind, "body": text, "hash": previous})
    connection.execute(_APPEND, rows)
    connection.execute(_MOVE_HEAD, {"seq": seq, "hash": previous})
    return seq
