"""Queries of the ledger: the audit's proof, dead letters, feedback items, flags, positions."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from monitor.errors import NotFound
from monitor.events import OffsetRange
from monitor.ledger import audit, chain
from monitor.ledger import schema as t
from monitor.ledger.reader import LedgerReader
from monitor.ledger.rows import dead_letter_context, flag_digest, origin, repeats_body
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.trace import Origin

_PAGE = 1000

_letter_decoder = msgspec.msgpack.Decoder(tuple[bytes | None, bytes | None, list[tuple[str, bytes]]])


class LetterRow(NamedTuple):
    """A dead letter as listed: everything but its content."""

    id: int
    topic: str
    partition: int
    offset: int
    time: float
    created: float
    reason: str
    detail: str
    requeued: float | None
    incarnation: int = 0


class Letter(NamedTuple):
    """A dead letter's original content."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Cancelled(Exception):  # noqa: N818 - an answer to whoever cancelled, not an error
    """A verification was cancelled before it had a result."""


def verify(ledger: LedgerReader, cancelled: Callable[[], bool] = lambda: False) -> audit.AuditReport:
    """Verify the chain, and that positions, flags and the chain's head agree with it.

    Reads one view of the ledger, which keeps no daemon waiting. Raises Retryable, and Cancelled once
    `cancelled` is true.
    """
    with ledger.view() as connection:
        report = audit.verify(_entries(connection, cancelled))
        head = connection.execute(sa.select(t.head.c.seq, t.head.c.hash)).one()
        if head.seq != report.entries or bytes(head.hash).hex() != report.head:
            report.problems.append(
                f"the chain ends at entry {report.entries}, the head says {head.seq}: its tail was cut"
            )
        known: set[str] = set()
        for row in connection.execute(sa.select(t.positions)):
            name = f"{row.topic}/{row.partition}"
            known.add(name)
            covered = report.positions.get(name)
            if covered != row.next_offset:
                report.problems.append(
                    f"{name}: the position is {row.next_offset}, the chain covers up to {covered}"
                )
        report.problems += [
            f"{name}: the position is gone" for name in sorted(report.positions.keys() - known)
        ]
        unseen = dict(report.flag_digests)
        for row in connection.execute(sa.select(t.flags).execution_options(yield_per=_PAGE)):
            expected = unseen.pop(row.id, None)
            if expected is None:
                report.problems.append(f"flag {row.id} is not on the chain")
            elif flag_digest(row._asdict()) != expected or not repeats_body(row._asdict()):
                report.problems.append(f"flag {row.id} was altered")
        report.problems += [f"flag {flag} is on the chain but was removed" for flag in unseen]
        dead = connection.execute(sa.select(sa.func.count()).select_from(t.dead_letters)).scalar_one()
        if dead < report.letters:
            report.problems.append(f"{report.letters} dead letters are on the chain, {dead} are kept")
    return report


def _entries(connection: sa.Connection, cancelled: Callable[[], bool]) -> Iterator[audit.ChainEntry]:
    query = sa.select(t.chain).order_by(t.chain.c.seq).execution_options(yield_per=_PAGE)
    for row in connection.execute(query):
        if cancelled():
            raise Cancelled
        yield audit.ChainEntry(row.seq, row.time, row.kind, row.body, bytes(row.hash))


def new_gaps(ledger: LedgerReader, after: int) -> tuple[int, int]:
    """Return the number of the last entry of the chain, and how many gaps follow entry `after`.

    Ranges that an operator skipped count, too.
    """
    c = t.chain.c
    added = sa.select(c.kind, c.body).where(c.seq > after, c.kind.in_(("gap", "moved")))
    with ledger.view() as connection:
        last = connection.execute(sa.select(t.head.c.seq)).scalar_one()
        entries = [(row.kind, json.loads(row.body)) for row in connection.execute(added)]
    return last, sum(kind == "gap" or body["to"] > body["from"] for kind, body in entries)


def letters(ledger: LedgerReader, *, reason: str | None = None, limit: int = 1000) -> list[LetterRow]:
    """List dead letters, oldest first."""
    columns = [t.dead_letters.c[name] for name in LetterRow._fields]
    query = sa.select(*columns).order_by(t.dead_letters.c.id).limit(limit)
    if reason:
        query = query.where(t.dead_letters.c.reason == reason)
    with ledger.view() as connection:
        return [LetterRow(*row) for row in connection.execute(query)]


def open_letter(ledger: LedgerReader, vault: Vault, letter_id: int) -> tuple[LetterRow, Letter]:
    """Decrypt one dead letter. Raises NotFound, or Tampered when it was altered or the key is another one."""
    query = sa.select(t.dead_letters).where(t.dead_letters.c.id == letter_id)
    with ledger.view() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"dead letter {letter_id} does not exist; `riskmon dlq list` shows them")
    plain = vault.decrypt(
        bytes(row.sealed), dead_letter_context(row.topic, row.partition, row.offset, row.incarnation)
    )
    key, value, headers = _letter_decoder.decode(plain)
    listed = LetterRow(*(getattr(row, name) for name in LetterRow._fields))
    return listed, Letter(key, value, tuple(headers))


def mark_requeued(ledger: Ledger, letter_ids: list[int], now: float) -> None:
    """Record that dead letters were sent to their topic again, and on the chain, in one transaction."""
    with ledger.begin() as connection:
        now += ledger.ahead(connection)
        chosen = t.dead_letters.update().where(t.dead_letters.c.id.in_(letter_ids))
        connection.execute(chosen.values(requeued=now))
        chain.append(connection, [("requeued", {"letters": sorted(letter_ids)})], now)


def feedback_items(ledger: LedgerReader) -> Iterator[dict[str, Any]]:
    """Yield feedback items, oldest first, in pages: no view stays open while the caller uses them."""
    last: tuple[float, str] = (0.0, "")
    while True:
        after = sa.tuple_(t.feedback.c.created, t.feedback.c.id) > last
        query = (
            sa.select(t.feedback).where(after).order_by(t.feedback.c.created, t.feedback.c.id).limit(_PAGE)
        )
        with ledger.view() as connection:
            rows = connection.execute(query).all()
            bodies = [json.loads(row.body) for row in rows]
        yield from bodies
        if len(rows) < _PAGE:
            return
        last = (rows[-1].created, rows[-1].id)


class FlagSeen(NamedTuple):
    """A flag on record: where, which rule, how severe, on which trace, by which detectors."""

    origin: Origin
    rule: str
    severity: str
    trace_id: str
    detectors: tuple[str, ...]


def recorded_flags(ledger: LedgerReader, topic: str, partition: int, span: OffsetRange) -> list[FlagSeen]:
    """List the flags of a range of a partition, in order; none of a log that the current one replaced."""
    c = t.flags.c
    since = _incarnations(ledger, topic, partition)
    there = sa.and_(c.topic == topic, c.partition == partition, c.offset >= span.start, c.offset < span.end)
    query = sa.select(t.flags).where(there).order_by(c.offset, c.part, c.rule)
    with ledger.view() as connection:
        rows = connection.execute(query).all()
    return [
        FlagSeen(
            origin(row),
            row.rule,
            row.severity,
            row.trace_id,
            tuple(json.loads(row.body)["detectors"]),
        )
        for row in rows
        if row.incarnation == max((n for n, first in enumerate(since, 1) if first <= row.offset), default=0)
    ]


def _incarnations(ledger: LedgerReader, topic: str, partition: int) -> list[int]:
    """First offset of each further log of a partition, in order."""
    query = sa.select(t.chain.c.body).where(t.chain.c.kind == "incarnation").order_by(t.chain.c.seq)
    with ledger.view() as connection:
        bodies = [json.loads(body) for body in connection.execute(query).scalars()]
    return [b["to"] for b in bodies if (b["topic"], b["partition"]) == (topic, partition)]


def row_counts(ledger: LedgerReader, *names: str) -> dict[str, int]:
    """Count the rows of the tables named, or of all that grow."""
    tables = (t.chain, t.flags, t.feedback, t.outbox, t.dead_letters, t.assessments)
    with ledger.view() as connection:
        return {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in tables
            if not names or table.name in names
        }


def positions(ledger: LedgerReader) -> list[dict[str, Any]]:
    """List the positions of all partitions."""
    names = ("topic", "partition", "next_offset", "epoch", "owner", "updated", "topic_id", "incarnation")
    query = sa.select(*(t.positions.c[name] for name in names)).order_by(
        t.positions.c.topic, t.positions.c.partition
    )
    with ledger.view() as connection:
        return [dict(zip(names, row, strict=True)) for row in connection.execute(query)]
