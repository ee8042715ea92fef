"""Writing the ledger: claims, one transaction per batch, the audit chain.

Several daemons may share a ledger. A partition is claimed with an epoch; a transaction names the epoch and
version it builds on and is refused (`Fenced`) when another daemon has claimed the partition since. So a
daemon that was paused for an hour cannot write what its successor has judged already.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from monitor.clock import Clock
from monitor.errors import ConfigError, Fenced, Retryable
from monitor.events import Assigned, TopicPartition
from monitor.findings import Assessment
from monitor.ledger import audit, claims
from monitor.ledger import schema as t
from monitor.ledger.claims import Claim, Hand, Holding, mark_columns
from monitor.ledger.database import READS, connect, once_unlocked
from monitor.outcome.transaction import EngineVersion, KeptTrace, Transaction
from monitor.outcome.verdict import VERDICTS, Verdict
from monitor.privacy.vault import Vault
from monitor.progress import Placement
from monitor.records import Coverage, DeadLetter, FlagRow
from monitor.spool import is_spool

# What every transaction executes, built once: building a statement takes longer than SQLite takes for it.
_ORIGIN = ("topic", "partition", "offset", "part", "incarnation")
_CLAIMED = sa.select(t.positions.c.epoch, t.positions.c.version).where(
    t.positions.c.topic == sa.bindparam("topic"), t.positions.c.partition == sa.bindparam("partition")
)
_ADVANCE = t.positions.update().where(
    t.positions.c.topic == sa.bindparam("of_topic"), t.positions.c.partition == sa.bindparam("of_partition")
)
_HEAD = sa.select(t.head.c.seq, t.head.c.hash)
_MOVE_HEAD = t.head.update()
_APPEND = t.chain.insert()
_KEEP = t.assessments.insert()
_FORGET = t.assessments.delete().where(
    *(t.assessments.c[name] == sa.bindparam(f"old_{name}") for name in _ORIGIN)
)


class Ledger:
    """A ledger opened by one daemon. Thread-safe; every call is its own transaction.

    Raises Retryable when the database is busy, full or away for now.
    """

    def __init__(self, engine: sa.Engine, vault: Vault, clock: Clock, owner: str) -> None:
        self.engine = engine
        self._vault = vault
        self._clock = clock
        self._owner = owner
        self._judge = ""

    @classmethod
    def open(cls, url: str, vault: Vault, clock: Clock, owner: str) -> "Ledger":
        """Open or create a ledger and bring its schema up to date. Raises ConfigError when that fails."""
        ledger = cls(connect(url), vault, clock, owner)
        try:
            once_unlocked(ledger._migrate)
        except ConfigError:
            ledger.close()
            raise
        except Retryable as error:
            ledger.close()
            raise ConfigError(
                f"ledger.url: the ledger cannot be opened: {error}; is its folder writable, its server up?"
            ) from None
        return ledger

    def _migrate(self) -> None:
        with self.begin() as connection:
            t.migrate(connection)

    def read_only(self) -> "Ledger":
        """The same ledger through connections of their own that can only read; to be closed by itself."""
        return Ledger(connect(self.engine.url, read_only=True), self._vault, self._clock, self._owner)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction that holds the write lock from its beginning; translates database errors."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise Retryable(_describe(error)) from None
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Retryable(_describe(error)) from None
            raise

    @contextmanager
    def view(self) -> Iterator[sa.Connection]:
        """One consistent view for reading, however long: nobody waits for it. Raises Retryable."""
        options = {READS: True} if self.engine.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with self._translated(), self.engine.connect() as connection:
            reading = connection.execution_options(**options)
            with reading.begin():
                yield reading

    def claim(self, assigned: Assigned, *, latest: bool, waited: bool = False) -> Claim | Placement:
        """Claim an assigned partition and say where to read on, see `monitor.ledger.claims.claim`."""
        with self.begin() as connection:
            return claims.claim(self._hand(connection), assigned, latest=latest, waited=waited)

    def first_look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Remember what the topics held when this ledger was used first, see `monitor.ledger.claims`."""
        with self.begin() as connection:
            claims.first_look(connection, ends)

    def holdings(self) -> dict[TopicPartition, Holding]:
        """Who may write each partition that was ever claimed. Waits for nobody."""
        with self.view() as connection:
            return claims.holdings(connection)

    def position(self, topic: str, partition: int) -> int | None:
        """Next offset of a partition, None when it was never claimed."""
        here = sa.and_(t.positions.c.topic == topic, t.positions.c.partition == partition)
        with self.begin() as connection:
            found = connection.execute(sa.select(t.positions.c.next_offset).where(here)).scalar()
        return int(found) if found is not None else None

    def move(self, topic: str, partition: int, to: int, reason: str) -> None:
        """Put a partition's position elsewhere, on record. Work under earlier claims is refused from now on.

        The daemon that owns the partition notices within seconds and reads on from there. Raises ConfigError
        when the partition was never claimed.
        """
        with self.begin() as connection:
            claims.move(self._hand(connection), topic, partition, to, reason)

    def _hand(self, connection: sa.Connection) -> Hand:
        append = partial(self._append, connection)
        return Hand(connection, append, self._owner, self._clock.now())

    def record(self, transaction: Transaction) -> None:
        """Write a batch: all of it or nothing, at most once.

        Calling again with the same transaction after Retryable is safe even if the first call did commit.
        Raises Fenced when another daemon owns one of its partitions, Retryable when it may succeed later.
        """
        with self.begin() as connection:
            if self._already_written(connection, transaction):
                return
            self._advance(connection, transaction)
            entries: list[tuple[str, Mapping[str, Any]]] = []
            if transaction.version.id != self._judge:
                entries.append(("judge", _version_body(transaction.version, self._owner)))
            flag_rows = self._new_flags(connection, transaction.flags)
            entries += [("coverage", _coverage_body(c, transaction)) for c in transaction.coverage]
            digests = {row.flag.id: _flag_body(row) for row in flag_rows}
            entries += [("flag", _flag_entry(row, digests[row.flag.id])) for row in flag_rows]
            seqs = self._append(connection, entries)
            if flag_rows:
                first = seqs - len(flag_rows) + 1
                connection.execute(
                    t.flags.insert(),
                    [_flag_columns(row, first + i, digests[row.flag.id]) for i, row in enumerate(flag_rows)],
                )
                self._write_feedback(connection, transaction, frozenset(digests))
            if transaction.verdicts:
                self._write_verdicts(connection, transaction.verdicts)
            self._write_rest(connection, transaction)
        self._judge = transaction.version.id

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Put an event that is not about a trace on the chain (daemon started, stopped, letter requeued)."""
        with self.begin() as connection:
            self._append(connection, [(kind, body)])

    def restore(self) -> dict[str, bytes]:
        """Snapshots of this daemon, by name."""
        with self.begin() as connection:
            rows = connection.execute(
                sa.select(t.snapshots.c.name, t.snapshots.c.body).where(t.snapshots.c.owner == self._owner)
            )
            return {row.name: bytes(row.body) for row in rows}

    def _already_written(self, connection: sa.Connection, transaction: Transaction) -> bool:
        """Check ownership of every partition. True when this very transaction was committed before."""
        fenced: set[TopicPartition] = set()
        written: set[TopicPartition] = set()
        for (topic, partition), claimed in transaction.marks.items():
            here = {"topic": topic, "partition": partition}
            row = connection.execute(_CLAIMED, here).one_or_none()
            if (
                row is None
                or row.epoch != claimed.epoch
                or row.version not in {claimed.version, claimed.version + 1}
            ):
                fenced.add((topic, partition))
            elif row.version == claimed.version + 1:
                written.add((topic, partition))
        if fenced:
            raise Fenced(frozenset(fenced))
        return bool(written)

    def _advance(self, connection: sa.Connection, transaction: Transaction) -> None:
        now = self._clock.now()
        rows = [
            {
                "of_topic": topic,
                "of_partition": partition,
                **mark_columns(claimed.mark),
                "version": claimed.version + 1,
                "updated": now,
            }
            for (topic, partition), claimed in transaction.marks.items()
        ]
        if rows:
            connection.execute(_ADVANCE, rows)
        for (topic, _), claimed in transaction.marks.items():
            if is_spool(topic):
                judged = sa.and_(t.spool.c.topic == topic, t.spool.c.offset < claimed.mark.next_offset)
                connection.execute(t.spool.delete().where(judged))

    def _append(self, connection: sa.Connection, entries: list[tuple[str, Mapping[str, Any]]]) -> int:
        """Append to the chain; returns the last number."""
        row = connection.execute(_HEAD).one()
        seq, previous = int(row.seq), bytes(row.hash)
        if not entries:
            return seq
        time = f"{self._clock.now():.6f}"
        rows = []
        for kind, body in entries:
            seq += 1
            text = audit.canonical(body)
            previous = audit.link(previous, seq, time, kind, text)
            rows.append({"seq": seq, "time": time, "kind": kind, "body": text, "hash": previous})
        connection.execute(_APPEND, rows)
        connection.execute(_MOVE_HEAD, {"seq": seq, "hash": previous})
        return seq

    def _new_flags(self, connection: sa.Connection, rows: list[FlagRow]) -> list[FlagRow]:
        """Leave out flags that are on record: an operator moved the position back and they fired again."""
        ids = [row.flag.id for row in rows]
        if not ids:
            return []
        known = set(connection.execute(sa.select(t.flags.c.id).where(t.flags.c.id.in_(ids))).scalars())
        return [row for row in rows if row.flag.id not in known]

    def _write_feedback(
        self, connection: sa.Connection, transaction: Transaction, new: frozenset[str]
    ) -> None:
        now = self._clock.now()
        items = [
            {"id": item.id, "created": now, "body": audit.canonical(item.body)}
            for item in transaction.feedback
            if item.id in new
        ]
        if items:
            connection.execute(t.feedback.insert(), items)
        outgoing = [
            _outbox_columns(message.destination, message.key, audit.canonical(message.body), now)
            for message in transaction.outgoing
            if message.key in new
        ]
        if outgoing:
            connection.execute(t.outbox.insert(), outgoing)

    def _write_verdicts(self, connection: sa.Connection, verdicts: list[Verdict]) -> None:
        """Put verdicts in the outbox, except those that wait there: their trace was judged again."""
        bodies = {verdict.id: msgspec.json.encode(verdict).decode() for verdict in verdicts}
        same = sa.and_(t.outbox.c.destination == VERDICTS, t.outbox.c.key.in_(bodies))
        for key in connection.execute(sa.select(t.outbox.c.key).where(same)).scalars().all():
            del bodies[key]
        now = self._clock.now()
        rows = [_outbox_columns(VERDICTS, key, body, now) for key, body in bodies.items()]
        if rows:
            connection.execute(t.outbox.insert(), rows)

    def _write_rest(self, connection: sa.Connection, transaction: Transaction) -> None:
        now = self._clock.now()
        for letter in transaction.dead_letters:
            self._put_dead_letter(connection, letter, now)
        kept = [_kept_columns(item) for item in transaction.kept]
        if kept:
            old = [{f"old_{name}": row[name] for name in _ORIGIN} for row in kept]
            connection.execute(_FORGET, old)  # judged again after a move back
            connection.execute(_KEEP, kept)
        for name, body_bytes in transaction.snapshots.items():
            mine = sa.and_(t.snapshots.c.owner == self._owner, t.snapshots.c.name == name)
            connection.execute(t.snapshots.delete().where(mine))
            connection.execute(
                t.snapshots.insert().values(owner=self._owner, name=name, body=body_bytes, updated=now)
            )

    def _put_dead_letter(self, connection: sa.Connection, letter: DeadLetter, now: float) -> None:
        where = {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "incarnation": letter.incarnation,
        }
        same = sa.and_(*(t.dead_letters.c[name] == value for name, value in where.items()))
        if connection.execute(sa.select(t.dead_letters.c.id).where(same)).first():
            return
        plain = msgspec.msgpack.encode((letter.key, letter.value, letter.headers))
        context = dead_letter_context(letter.topic, letter.partition, letter.offset, letter.incarnation)
        sealed = self._vault.encrypt(plain, context)
        connection.execute(
            t.dead_letters.insert().values(
                **where,
                time=letter.time,
                created=now,
                reason=letter.reason,
                detail=letter.detail,
                sealed=sealed,
                requeued=None,
            )
        )


def dead_letter_context(topic: str, partition: int, offset: int, incarnation: int) -> bytes:
    """What a dead letter's encryption is bound to, so that rows cannot be swapped."""
    place = f"{topic}/{partition}/{offset}"
    return (f"{place}/{incarnation}" if incarnation else place).encode()


def _describe(error: DBAPIError) -> str:
    # SQLite's own message names tables and conditions, never values (parameters are hidden).
    return f"{type(error.orig).__name__}: {error.orig}"[:200]


def _version_body(version: EngineVersion, owner: str) -> dict[str, Any]:
    return {"id": version.id, "detectors": version.detectors, "rules": version.rules, "instance": owner}


def _coverage_body(coverage: Coverage, transaction: Transaction) -> dict[str, Any]:
    claimed = transaction.marks.get((coverage.topic, coverage.partition))
    # A first incarnation is left out: the entries of most ledgers are of no other.
    another = {"incarnation": claimed.incarnation} if claimed is not None and claimed.incarnation else {}
    return another | {
        "topic": coverage.topic,
        "partition": coverage.partition,
        "ranges": [[span.start, span.end] for span in coverage.ranges],
        "records": coverage.records,
        "dead": coverage.dead,
        "traces": coverage.traces,
        "statuses": coverage.statuses,
        "flags": coverage.flags,
        "judge": transaction.version.id,
    }


def _flag_body(row: FlagRow) -> str:
    return msgspec.json.encode(
        {
            "rule_version": row.flag.rule_version,
            "actions": row.flag.actions,
            "detectors": row.flag.detectors,
            "labels": row.flag.labels,
            "annotations": row.flag.annotations,
            "controls": row.flag.controls,
            "prompt": row.prompt,
            "response": row.response,
            "evidence": row.evidence,
            "assessments": [_without_vector(a) for a in row.assessments],
        },
        order="sorted",
    ).decode()


def _flag_columns(row: FlagRow, seq: int, body: str) -> dict[str, Any]:
    origin = dict(zip(_ORIGIN, row.origin, strict=True))
    return {
        "id": row.flag.id,
        "seq": seq,
        **origin,
        "trace_id": row.trace_id,
        "time": row.time,
        "app": row.app,
        "environment": row.environment,
        "model": row.model,
        "rule": row.flag.rule,
        "severity": row.flag.severity.value,
        "body": body,
    }


def flag_digest(columns: Mapping[str, Any]) -> str:
    """Digest of a flag as stored, which its chain entry vouches for; `seq` is left out.

    So is a first incarnation: digests are older than it.
    """
    left_out = {"seq"} if columns["incarnation"] else {"seq", "incarnation"}
    kept = {name: columns[name] for name in t.flags.c.keys() if name not in left_out}  # noqa: SIM118 - not a dict
    return hashlib.sha256(audit.canonical(kept).encode()).hexdigest()


def _flag_entry(row: FlagRow, body: str) -> dict[str, Any]:
    columns = _flag_columns(row, 0, body)
    return {
        "id": row.flag.id,
        "rule": row.flag.rule,
        "rule_version": row.flag.rule_version,
        "severity": row.flag.severity.value,
        "origin": list(row.origin if row.origin.incarnation else row.origin[:4]),
        "trace_id": row.trace_id,
        "digest": flag_digest(columns),
    }


def _outbox_columns(destination: str, key: str, body: str, now: float) -> dict[str, Any]:
    return {
        "destination": destination,
        "key": key,
        "body": body,
        "created": now,
        "attempts": 0,
        "due": now,
        "state": "waiting",
        "reason": "",
    }


def _kept_columns(kept: KeptTrace) -> dict[str, Any]:
    return {
        **dict(zip(_ORIGIN, kept.origin, strict=True)),
        "trace_id": kept.trace_id,
        "time": kept.time,
        "why": kept.why.value,
        "body": msgspec.json.encode([_without_vector(a) for a in kept.assessments]).decode(),
    }


def _without_vector(assessment: Assessment) -> Assessment:
    return msgspec.structs.replace(assessment, vector=b"") if assessment.vector else assessment
