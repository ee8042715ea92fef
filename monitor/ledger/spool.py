"""The spool: bodies from clients that no position has passed yet, encrypted, in the ledger.

It is a small log like a Kafka partition: offsets are consecutive, and `Ledger.record` deletes the bodies that
it moves a position past, in the same transaction. So an accepted body is either here or judged.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import sqlalchemy as sa

from monitor.errors import Tampered
from monitor.ledger import schema as t
from monitor.ledger.reader import LedgerReader
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.spool import Received, SpoolUsage
from monitor.trace import Record

CONTENT_TYPE = "content-type"


class LedgerSpool:
    """One instance's topics of the spool. Thread-safe: receivers write while the engine reads.

    `max_records` and `max_bytes` bound all of its topics together. Every method may raise Retryable.
    """

    def __init__(
        self, ledger: Ledger, vault: Vault, topics: Sequence[str], *, max_records: int, max_bytes: int
    ) -> None:
        self.topics = topics
        self._ledger = ledger
        self._vault = vault
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._ends: Mapping[str, int] = {}
        self._grown = threading.Event()

    def append(self, bodies: Sequence[Received]) -> int:
        """Write bodies in one transaction; return how many of them, from the first on, had room.

        They are on disk when this returns.
        """
        with self._ledger.begin() as connection:
            usage = {topic: _usage(connection, topic) for topic in self.topics}
            records = sum(waiting.end - waiting.begin for waiting in usage.values())
            size = sum(waiting.bytes for waiting in usage.values())
            ends = {topic: waiting.end for topic, waiting in usage.items()}
            through = {topic: _through(connection, topic) for topic in self.topics}
            rows = []
            taken = 0
            for body in bodies:
                records, size = records + 1 + len(body.rest), size + body.size
                if records > self._max_records or size > self._max_bytes:
                    break
                topic = body.topic
                for value in (body.value, *body.rest):
                    through[topic] += len(value)
                    rows.append(
                        {
                            "topic": topic,
                            "offset": ends[topic],
                            "time": body.time,
                            "content_type": body.content_type,
                            "size": len(value),
                            "through": through[topic],
                            "sealed": self._vault.encrypt(value, _context(topic, ends[topic])),
                        }
                    )
                    ends[topic] += 1
                taken += 1
            if rows:
                connection.execute(t.spool.insert(), rows)
        self._saw(ends)
        self._grown.set()
        return taken

    def read(self, topic: str, offset: int, max_records: int, max_bytes: int) -> Sequence[Record]:
        """Read from the first record at or after an offset on; at least one record if there is any.

        Raises Tampered when the first cannot be decrypted; a later one only ends the result.
        """
        c = t.spool.c
        from_offset = sa.and_(c.topic == topic, c.offset >= offset)
        with self._ledger.view() as connection:
            first = connection.execute(_FIRST.where(from_offset)).one_or_none()
            if first is None:
                return ()
            last = first.through - first.size + max(max_bytes, first.size)
            query = (
                sa.select(t.spool).where(from_offset, c.through <= last).order_by(c.offset).limit(max_records)
            )
            rows = connection.execute(query).all()
        records: list[Record] = []
        for row in rows:
            try:
                value = self._vault.decrypt(row.sealed, _context(topic, row.offset))
            except Tampered:
                if not records:
                    raise
                break
            headers = ((CONTENT_TYPE, row.content_type.encode()),)
            records.append(Record(topic, 0, row.offset, row.time, None, value, headers))
        return records

    def usage(self) -> Mapping[str, SpoolUsage]:
        """Return the usage of each topic."""
        with self._ledger.view() as connection:
            usage = {topic: _usage(connection, topic) for topic in self.topics}
        self._saw({topic: waiting.end for topic, waiting in usage.items()})
        return usage

    def end(self, topic: str) -> int:
        """Return the next offset to be written, as last seen; `usage` also sees other processes' appends."""
        if not self._ends:
            self.usage()
        return self._ends[topic]

    def _saw(self, ends: Mapping[str, int]) -> None:
        """Remember ends. Two threads may see them out of order, but they only grow."""
        self._ends = {topic: max(end, self._ends.get(topic, 0)) for topic, end in ends.items()}

    def wait(self, seconds: float) -> None:
        """Wait until something was written since the last call, at most this long."""
        if self._grown.wait(seconds):
            self._grown.clear()


def sealed_bodies(ledger: LedgerReader, vault: Vault, count: int) -> list[Callable[[], bytes]]:
    """Return how to decrypt some of the oldest bodies of all instances; calls raise Tampered."""
    query = sa.select(t.spool).order_by(t.spool.c.time, t.spool.c.topic, t.spool.c.offset).limit(count)
    with ledger.view() as connection:
        rows = connection.execute(query).all()
    return [partial(vault.decrypt, row.sealed, _context(row.topic, row.offset)) for row in rows]


def usage_by_topic(ledger: LedgerReader) -> dict[str, tuple[SpoolUsage, float]]:
    """Return the usage of the spools of all instances, and since when bodies wait (Unix seconds)."""
    c = t.spool.c
    query = sa.select(c.topic, sa.func.min(c.time)).group_by(c.topic).order_by(c.topic)
    with ledger.view() as connection:
        return {topic: (_usage(connection, topic), oldest) for topic, oldest in connection.execute(query)}


_FIRST = sa.select(t.spool.c.offset, t.spool.c.size, t.spool.c.through).order_by(t.spool.c.offset).limit(1)
_LAST = (
    sa.select(t.spool.c.offset, t.spool.c.size, t.spool.c.through).order_by(t.spool.c.offset.desc()).limit(1)
)


def _usage(connection: sa.Connection, topic: str) -> SpoolUsage:
    """Two look-ups, whatever the spool's size. When it is empty, the position gives the next offset."""
    first = connection.execute(_FIRST.where(t.spool.c.topic == topic)).one_or_none()
    last = connection.execute(_LAST.where(t.spool.c.topic == topic)).one_or_none()
    if first is None or last is None:
        partition = sa.and_(t.positions.c.topic == topic, t.positions.c.partition == 0)
        position = connection.execute(sa.select(t.positions.c.next_offset).where(partition)).scalar() or 0
        return SpoolUsage(position, position, 0)
    return SpoolUsage(first.offset, last.offset + 1, last.through - first.through + first.size)


def _through(connection: sa.Connection, topic: str) -> int:
    last = connection.execute(_LAST.where(t.spool.c.topic == topic)).one_or_none()
    return last.through if last is not None else 0


def _context(topic: str, offset: int) -> bytes:
    """Return the context a body's encryption is bound to: rows cannot be swapped, nor with dead letters."""
    return f"spool/{topic}/{offset}".encode()
