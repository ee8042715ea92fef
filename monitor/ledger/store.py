"""The ledger: claims of partitions, and one transaction per batch of judged records.

Several daemons may share a ledger. A partition is claimed with an epoch; a transaction names the epoch and
version it builds on and is refused (`Fenced`) when another daemon has claimed the partition since. So a
daemon that was paused for an hour cannot write what its successor has judged already.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import uuid4

import msgspec
import sqlalchemy as sa

from monitor.clock import Clock
from monitor.config import SecretUrl
from monitor.errors import Fenced
from monitor.events import Assigned, TopicPartition
from monitor.ledger import attempts, audit, chain, claims, rows
from monitor.ledger import schema as t
from monitor.ledger.claims import Claim, Holding, Writer, mark_columns
from monitor.ledger.database import Purpose, connect
from monitor.ledger.postgresql import Patience
from monitor.ledger.reader import Faults, LedgerReader
from monitor.outcome.transaction import Transaction
from monitor.outcome.verdict import VERDICTS, Verdict
from monitor.privacy.vault import Vault
from monitor.progress import StartPosition
from monitor.records import DeadLetter, FlagRow
from monitor.spool import is_spool

MIGRATION_SECONDS: Final = 600.0  # for each of its statements: some copy a table

# Built once: building a statement takes longer than SQLite takes to execute it.
_CLAIMED = sa.select(t.positions.c.epoch, t.positions.c.version).where(
    t.positions.c.topic == sa.bindparam("topic"), t.positions.c.partition == sa.bindparam("partition")
)
_ADVANCE = t.positions.update().where(
    t.positions.c.topic == sa.bindparam("of_topic"), t.positions.c.partition == sa.bindparam("of_partition")
)
_INSERT_ASSESSMENTS = t.assessments.insert()
_DELETE_ASSESSMENTS = t.assessments.delete().where(
    *(t.assessments.c[name] == sa.bindparam(f"old_{name}") for name in rows.ORIGIN)
)


class Ledger(LedgerReader):
    """A ledger that is written; see `LedgerReader`. Its times are the database's."""

    def __init__(
        self,
        engine: sa.Engine,
        vault: Vault | None,
        clock: Clock,
        owner: str,
        *,
        patience: Patience | None = None,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(engine, clock, faults)
        self.patience = patience or Patience()
        self._vault = vault
        self._owner = owner
        self._run = uuid4().hex  # tells this life of a daemon from those before it
        self._version_id = ""  # of the last transaction: the chain names a version once

    @classmethod
    def open(
        cls,
        url: str | SecretUrl,
        vault: Vault | None,
        clock: Clock,
        owner: str,
        *,
        make: bool = True,
        patience: Patience | None = None,
        faults: Faults | None = None,
        machine: Clock | None = None,
    ) -> "Ledger":
        """Open a ledger to write to it. Raises Retryable, or ConfigError for one that cannot be used.

        With `make` it is made, or its schema brought up to date; else it must exist and have that schema.
        Without a `vault` all but dead letters can be written. `machine` is this machine's clock, by default
        the system's.
        """
        patience = patience or Patience()
        purpose = Purpose.MAKE if make else Purpose.WRITE
        engine = connect(url, purpose, patience, machine)
        ledger = cls(engine, vault, clock, owner, patience=patience, faults=faults)
        try:
            if make:
                ledger._migrate()
            else:
                ledger.require_schema()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _migrate(self) -> None:
        with self.view() as connection:
            version = t.version(connection)
        if version != t.NEWEST:
            with self.patience.longer(MIGRATION_SECONDS), self.begin() as connection:
                t.migrate(connection)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Begin a transaction that holds the write lock from its beginning; translates database errors."""
        with self._translated(), self.engine.begin() as connection:
            yield connection
        if self._faults.cause:
            self._faults.ended()

    def claim(
        self, assigned: Assigned, *, latest: bool, waited_at: int | None = None
    ) -> Claim | StartPosition:
        """Claim an assigned partition and say where to read on, see `monitor.ledger.claims.claim`."""
        with self.begin() as connection:
            return claims.claim(self._writer(connection), assigned, latest=latest, waited_at=waited_at)

    def first_look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Remember the ends of the topics when this ledger was first used, see `monitor.ledger.claims`."""
        with self.begin() as connection:
            claims.first_look(connection, ends)

    def holdings(self) -> dict[TopicPartition, Holding]:
        """Return the current claim of each partition that was ever claimed. Waits for no writer."""
        with self.view() as connection:
            return claims.holdings(connection)

    def position(self, topic: str, partition: int) -> int | None:
        """Return the next offset of a partition, None when it was never claimed."""
        same = sa.and_(t.positions.c.topic == topic, t.positions.c.partition == partition)
        with self.begin() as connection:
            offset = connection.execute(sa.select(t.positions.c.next_offset).where(same)).scalar()
        return int(offset) if offset is not None else None

    def move(self, topic: str, partition: int, to: int, reason: str) -> None:
        """Move a partition's position, on record. Work under earlier claims is refused from now on.

        The daemon that owns the partition notices within seconds and reads on from there. Raises NotFound
        when the partition was never claimed, Conflict for an offset of a spool that is deleted.
        """
        with self.begin() as connection:
            claims.move(self._writer(connection), topic, partition, to, reason)

    def alone(self, topic: str, partition: int, version: int, offset: int) -> None:
        """Note that a record of a claimed partition is in hand alone, before anything is done with it."""
        with self.begin() as connection:
            attempts.alone(connection, (topic, partition), self._run, version, offset)

    def calm(self, topic: str, partition: int) -> None:
        """Note that the records that came after deaths were taken with care, and are not their cause."""
        with self.begin() as connection:
            attempts.calm(connection, (topic, partition), self._run)

    def give_back(self, names: Iterable[TopicPartition]) -> None:
        """Note that this daemon leaves partitions alive; those that another one has claimed stay its own."""
        with self.begin() as connection:
            attempts.give_back(connection, names, self._run)

    def _writer(self, connection: sa.Connection) -> Writer:
        return Writer(connection, self._owner, self.now(connection), self._run)

    def record(self, transaction: Transaction) -> None:
        """Write a batch: all of it or nothing, at most once.

        Calling again with the same transaction after Retryable is safe even if the first call did commit.
        Raises Fenced when another daemon owns one of its partitions, Retryable when it may succeed later.
        """
        with self.begin() as connection:
            if self._already_written(connection, transaction):
                return
            self._advance(connection, transaction)
            new_flags = self._new_flags(connection, transaction.flags)
            flags = [(row, rows.flag_columns(row)) for row in new_flags]
            entries: list[chain.NewEntry] = []
            if transaction.version.id != self._version_id:
                entries.append(("judge", rows.version_entry(transaction.version, self._owner)))
            entries += [("coverage", rows.coverage_entry(c, transaction)) for c in transaction.coverage]
            entries += [("flag", rows.flag_entry(row, columns)) for row, columns in flags]
            # The flags are the last entries, so theirs are the last numbers.
            last = chain.append(connection, entries, self.now(connection))
            if flags:
                first = last - len(flags) + 1
                numbered = [{**columns, "seq": seq} for seq, (_, columns) in enumerate(flags, first)]
                connection.execute(t.flags.insert(), numbered)
                self._write_feedback(connection, transaction, frozenset(row.flag.id for row in new_flags))
            if transaction.verdicts:
                self._write_verdicts(connection, transaction.verdicts)
            for letter in transaction.dead_letters:
                self._write_dead_letter(connection, letter)
            self._write_assessments(connection, transaction)
            self._write_snapshots(connection, transaction)
        # Not before the commit: a transaction that is rolled back names no version.
        self._version_id = transaction.version.id

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Append an event not about a trace to the chain (daemon started, stopped, letter requeued)."""
        with self.begin() as connection:
            chain.append(connection, [(kind, body)], self.now(connection))

    def restore(self) -> dict[str, bytes]:
        """Return the snapshots of this daemon, by name."""
        with self.view() as connection:
            snapshots = connection.execute(
                sa.select(t.snapshots.c.name, t.snapshots.c.body).where(t.snapshots.c.owner == self._owner)
            )
            return {row.name: bytes(row.body) for row in snapshots}

    def _already_written(self, connection: sa.Connection, transaction: Transaction) -> bool:
        """Check ownership of every partition. True when this very transaction was committed before."""
        fenced: set[TopicPartition] = set()
        written: set[TopicPartition] = set()
        for (topic, partition), claimed in transaction.marks.items():
            place = {"topic": topic, "partition": partition}
            row = connection.execute(_CLAIMED, place).one_or_none()
            if (
                row is None
                or row.epoch != claimed.epoch
                or row.version not in {claimed.version, claimed.version + 1}
            ):
                fenced.add((topic, partition))
            # Nobody else writes under this epoch: it was this transaction, and only the answer was lost.
            elif row.version == claimed.version + 1:
                written.add((topic, partition))
        # One lost partition refuses all: the caller drops it, and writes the others anew.
        if fenced:
            raise Fenced(frozenset(fenced))
        return bool(written)

    def _advance(self, connection: sa.Connection, transaction: Transaction) -> None:
        now = self.now(connection)
        positions = [
            {
                "of_topic": topic,
                "of_partition": partition,
                **mark_columns(claimed.mark),
                "version": claimed.version + 1,
                "updated": now,
            }
            for (topic, partition), claimed in transaction.marks.items()
        ]
        if positions:
            connection.execute(_ADVANCE, positions)
        # The spool holds the only copy of a received body: it goes with the transaction that records its end.
        for (topic, _), claimed in transaction.marks.items():
            if is_spool(topic):
                judged = sa.and_(t.spool.c.topic == topic, t.spool.c.offset < claimed.mark.next_offset)
                connection.execute(t.spool.delete().where(judged))

    def _new_flags(self, connection: sa.Connection, flags: list[FlagRow]) -> list[FlagRow]:
        """Drop flags already recorded (after an operator moved the position back)."""
        ids = [row.flag.id for row in flags]
        if not ids:
            return []
        known = set(connection.execute(sa.select(t.flags.c.id).where(t.flags.c.id.in_(ids))).scalars())
        return [row for row in flags if row.flag.id not in known]

    def _write_feedback(
        self, connection: sa.Connection, transaction: Transaction, new: frozenset[str]
    ) -> None:
        """Write the feedback items and messages of flags that are new."""
        now = self.now(connection)
        items = [
            {"id": item.id, "created": now, "body": audit.canonical(item.body)}
            for item in transaction.feedback
            if item.id in new
        ]
        if items:
            connection.execute(t.feedback.insert(), items)
        outgoing = [
            rows.outbox_columns(message.destination, message.key, audit.canonical(message.body), now)
            for message in transaction.outgoing
            if message.key in new
        ]
        if outgoing:
            connection.execute(t.outbox.insert(), outgoing)

    def _write_verdicts(self, connection: sa.Connection, verdicts: list[Verdict]) -> None:
        """Put verdicts in the outbox, except those that already wait there: their trace was judged again."""
        bodies = {verdict.id: msgspec.json.encode(verdict).decode() for verdict in verdicts}
        same = sa.and_(t.outbox.c.destination == VERDICTS, t.outbox.c.key.in_(bodies))
        for key in connection.execute(sa.select(t.outbox.c.key).where(same)).scalars().all():
            del bodies[key]
        now = self.now(connection)
        outgoing = [rows.outbox_columns(VERDICTS, key, body, now) for key, body in bodies.items()]
        if outgoing:
            connection.execute(t.outbox.insert(), outgoing)

    def _write_dead_letter(self, connection: sa.Connection, letter: DeadLetter) -> None:
        """Write a dead letter, encrypted, unless its record is one already."""
        place = {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "incarnation": letter.incarnation,
        }
        same = sa.and_(*(t.dead_letters.c[name] == value for name, value in place.items()))
        if connection.execute(sa.select(t.dead_letters.c.id).where(same)).first():
            return
        assert self._vault is not None, "whoever judges has a key"
        plain = msgspec.msgpack.encode((letter.key, letter.value, letter.headers))
        context = rows.dead_letter_context(letter.topic, letter.partition, letter.offset, letter.incarnation)
        connection.execute(
            t.dead_letters.insert().values(
                **place,
                time=letter.time,
                created=self.now(connection),
                reason=letter.reason,
                detail=letter.detail,
                sealed=self._vault.encrypt(plain, context),
                requeued=None,
            )
        )

    def _write_assessments(self, connection: sa.Connection, transaction: Transaction) -> None:
        assessments = [rows.assessment_columns(trace) for trace in transaction.kept_traces]
        if assessments:
            # A trace judged again after a move back replaces its old assessments.
            old = [{f"old_{name}": row[name] for name in rows.ORIGIN} for row in assessments]
            connection.execute(_DELETE_ASSESSMENTS, old)
            connection.execute(_INSERT_ASSESSMENTS, assessments)

    def _write_snapshots(self, connection: sa.Connection, transaction: Transaction) -> None:
        now = self.now(connection)
        for name, body in transaction.snapshots.items():
            previous = sa.and_(t.snapshots.c.owner == self._owner, t.snapshots.c.name == name)
            connection.execute(t.snapshots.delete().where(previous))
            connection.execute(
                t.snapshots.insert().values(owner=self._owner, name=name, body=body, updated=now)
            )
