"""Claims and positions of partitions, and their entries on the chain.

Several daemons may share a ledger. A partition is claimed with an epoch; a transaction names the epoch and
version it builds on and is refused when the partition was claimed, or moved by an operator, since.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from monitor.errors import Conflict, NotFound
from monitor.events import Assigned, OffsetRange, TopicPartition
from monitor.ledger import attempts, chain
from monitor.ledger import schema as t
from monitor.progress import Attempt, Mark, StartPosition, StartReason, Stored, Witness, start_position
from monitor.spool import is_spool

_FIRST_LOOK: Final = "first_look"  # key in `meta`
_REPLACED: Final = "replaced_ids/"  # keys in `meta`: the ids that a topic had before, by its name
_KEPT_IDS: Final = 100  # of one topic: no metadata can be older than so many recreations
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[list[tuple[int, int]], dict[int, list[int]]])


class Claim(NamedTuple):
    """A partition claimed by this daemon, and where to read on."""

    epoch: int
    version: int
    mark: Mark
    start: StartPosition
    incarnation: int = 0
    attempt: Attempt = Attempt()


class Holding(NamedTuple):
    """The current claim of a partition: its epoch, and whether an operator's move made it."""

    epoch: int
    moved: bool


class Writer(NamedTuple):
    """A transaction that may write, the instance it writes for, its time in Unix seconds.

    `run` names the life of this process, unlike any other's of the same instance.
    """

    connection: sa.Connection
    owner: str
    now: float
    run: str = ""

    def append(self, entries: list[chain.NewEntry]) -> None:
        """Append entries to the chain."""
        chain.append(self.connection, entries, self.now)


def claim(
    writer: Writer, assigned: Assigned, *, latest: bool, waited_at: int | None
) -> Claim | StartPosition:
    """Claim an assigned partition and say where to read on.

    From now on transactions of earlier claims are refused. The same transaction records a gap that will never
    be judged, a log that was replaced, and a ledger that is behind the group's commit. `latest`: a partition
    that was never read begins at its end, if it existed when the ledger was first used, see `first_look`.
    Claims nothing and returns only the start position when it is BEYOND_END or OUTDATED; `waited_at` is the
    position at which the caller has waited for the end to catch up.
    """
    # Kafka never gives an id twice, so one that was replaced comes from metadata of before. Taken for a new
    # log, it would have the topic's records judged again, once under each id.
    if assigned.topic_id in _replaced_ids(writer.connection, assigned.topic):
        return StartPosition(-1, StartReason.OUTDATED)
    same = _is_position(assigned.topic, assigned.partition)
    row = writer.connection.execute(sa.select(t.positions).where(same)).one_or_none()
    if row is None:
        return _first_claim(writer, assigned, latest=latest)
    start = start_position(_stored(row), assigned, waited_at=waited_at)
    if start.reason is StartReason.BEYOND_END:
        return start
    # A recreated log shares nothing with the old one; a truncated one keeps what lies before the cut.
    anew = start.reason is StartReason.RECREATED
    mark = Mark(start.offset) if anew else _restored(row, start.offset, start.since)
    incarnation = row.incarnation + (start.since is not None)
    attempt = attempts.begin(
        writer.connection, assigned[:2], writer.run, row, owner=writer.owner, anew=start.since is not None
    )
    made = Claim(row.epoch + 1, row.version, mark, start, incarnation, attempt)
    columns = {
        "epoch": made.epoch,
        "owner": writer.owner,
        "updated": writer.now,
        # A broker that names no ids must not erase a known one: it tells a recreated topic apart.
        "topic_id": assigned.topic_id or row.topic_id,
        "incarnation": made.incarnation,
    }
    writer.connection.execute(t.positions.update().where(same).values(**mark_columns(mark), **columns))
    if row.topic_id not in {"", columns["topic_id"]}:
        _replace_id(writer.connection, assigned.topic, row.topic_id)
    writer.append(_claim_entries(assigned, row, made))
    return made


def _first_claim(writer: Writer, assigned: Assigned, *, latest: bool) -> Claim:
    # A group that has committed was here before: what came since then is unread, not old.
    latest_from = None
    if latest and assigned.committed is None:
        looked = _first_looked(writer.connection)
        name = _name(assigned.topic, assigned.partition)
        # A partition that was created later is read from its beginning: none of its records is old.
        latest_from = assigned.end if looked is None else looked.get(name)
    start = start_position(None, assigned, latest_from=latest_from)
    mark = Mark(start.offset)
    where = {"topic": assigned.topic, "partition": assigned.partition}
    columns = {
        "epoch": 1,
        "version": 0,
        "owner": writer.owner,
        "updated": writer.now,
        "topic_id": assigned.topic_id,
    }
    writer.connection.execute(t.positions.insert().values(**where, **mark_columns(mark), **columns))
    # Coverage begins where the gap does, so that the gap entry that follows is what skips it.
    first = start.gap.start if start.gap else start.offset
    body = {**where, "offset": first, "reason": start.reason, "topic_id": assigned.topic_id}
    attempts.begin(writer.connection, assigned[:2], writer.run, None, owner=writer.owner, anew=True)
    writer.append([("start", body), *_gap_entries(where, start)])
    return Claim(1, 0, mark, start)


def first_look(connection: sa.Connection, ends: Mapping[TopicPartition, int]) -> None:
    """Remember the ends of the topics when this ledger was first used; later calls change nothing.

    `kafka.start: latest` holds for these partitions alone, from these offsets on. A ledger that was used
    before without remembering them has had its first look: then it holds for none.
    """
    if _first_looked(connection) is not None:
        return
    topics = connection.execute(sa.select(t.positions.c.topic)).scalars()
    used = any(not is_spool(topic) for topic in topics)
    remembered = {} if used else {_name(*key): end for key, end in ends.items()}
    connection.execute(t.meta.insert().values(key=_FIRST_LOOK, value=json.dumps(remembered)))


def _first_looked(connection: sa.Connection) -> dict[str, int] | None:
    value = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == _FIRST_LOOK)).scalar()
    ends: dict[str, int] | None = None if value is None else json.loads(value)
    return ends


def _replaced_ids(connection: sa.Connection, topic: str) -> list[str]:
    value = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == _REPLACED + topic)).scalar()
    ids: list[str] = [] if value is None else json.loads(value)
    return ids


def _replace_id(connection: sa.Connection, topic: str, topic_id: str) -> None:
    """Remember that a topic's id was replaced by another one."""
    replaced = _replaced_ids(connection, topic)
    if topic_id not in replaced:
        connection.execute(t.meta.delete().where(t.meta.c.key == _REPLACED + topic))
        ids = json.dumps([*replaced, topic_id][-_KEPT_IDS:])
        connection.execute(t.meta.insert().values(key=_REPLACED + topic, value=ids))


def holdings(connection: sa.Connection) -> dict[TopicPartition, Holding]:
    """Return the current claim of each partition that was ever claimed."""
    c = t.positions.c
    rows = connection.execute(sa.select(c.topic, c.partition, c.epoch, c.moved)).all()
    return {(row.topic, row.partition): Holding(row.epoch, row.moved == row.epoch) for row in rows}


def move(writer: Writer, topic: str, partition: int, to: int, reason: str) -> None:
    """Move a partition's position, on record. Work under earlier claims is refused from now on.

    Topic ids that were replaced count as new again: the operator of a restored cluster has the old ones.
    Raises NotFound when the partition was never claimed, Conflict for an offset of a spool that is deleted.
    """
    same = _is_position(topic, partition)
    row = writer.connection.execute(sa.select(t.positions).where(same)).one_or_none()
    if row is None:
        raise NotFound(f"{topic}/{partition}: the ledger has no such partition; see `riskmon positions list`")
    back = to < row.next_offset
    if back and is_spool(topic):
        raise Conflict(f"{topic}: what was judged of a spool is deleted; choose a later offset")
    # Back: everything from there on is judged again, so no later progress may survive.
    mark = Mark(to) if back else _restored(row, to, None)
    epoch = row.epoch + 1
    attempts.forget(writer.connection, (topic, partition))
    writer.connection.execute(t.meta.delete().where(t.meta.c.key == _REPLACED + topic))
    writer.connection.execute(
        t.positions.update().where(same).values(**mark_columns(mark), epoch=epoch, moved=epoch)
    )
    body = {
        "topic": topic,
        "partition": partition,
        "from": row.next_offset,
        "to": to,
        "reason": reason,
        "letters": _letters_from(writer.connection, row, to) if back else 0,
    }
    writer.append([("moved", body)])


def mark_columns(mark: Mark) -> dict[str, Any]:
    """Return the columns of a position row that keep a mark."""
    beyond = [(span.start, span.end) for span in mark.beyond]
    witness = mark.witness
    return {
        "next_offset": mark.next_offset,
        "beyond": _encoder.encode((beyond, {k: list(v) for k, v in mark.partial.items()})),
        "leader_epoch": mark.leader_epoch,
        "witness_offset": witness and witness.offset,
        "witness_time": witness and witness.time,
    }


def _is_position(topic: str, partition: int) -> sa.ColumnElement[bool]:
    return sa.and_(t.positions.c.topic == topic, t.positions.c.partition == partition)


def _name(topic: str, partition: int) -> str:
    return f"{topic}/{partition}"


def _stored(row: Any) -> Stored:
    return Stored(row.next_offset, row.topic_id, row.moved == row.epoch, row.leader_epoch)


def _restored(row: Any, offset: int, since: int | None) -> Mark:
    """Return the mark with which to continue a position row at `offset`.

    With `since` the log is another one from there on, and so is all progress at or after it: it is dropped,
    as `_apply_incarnation` of `monitor.ledger.audit` drops it from what must be covered.
    """
    beyond, partial = _decoder.decode(row.beyond)
    stop = max((end for _, end in beyond), default=0) if since is None else since
    spans = tuple(OffsetRange(start, min(end, stop)) for start, end in beyond if offset <= start < stop)
    parts = {k: tuple(v) for k, v in partial.items() if k >= offset and (since is None or k < since)}
    # Nobody has read the record before a position that was moved: it has neither epoch nor witness.
    if since is None and offset != row.next_offset:
        return Mark(offset, spans, parts)
    # Before `since` the log is the same, and an epoch too new for the record there does no harm.
    seen = row.witness_offset is not None and row.witness_offset < offset
    witness = Witness(row.witness_offset, row.witness_time) if seen else None
    return Mark(offset, spans, parts, row.leader_epoch, witness)


def _claim_entries(assigned: Assigned, row: Any, made: Claim) -> list[chain.NewEntry]:
    """Return the entries for a new claim of a partition that was claimed before."""
    where = {"topic": assigned.topic, "partition": assigned.partition}
    start, entries = made.start, list[chain.NewEntry]()
    if start.since is not None:
        first = start.gap.start if start.gap else start.offset
        change = {"from": row.next_offset, "to": first, "since": start.since, "reason": start.reason}
        ids = {"topic_id": assigned.topic_id, "leader_epoch": row.leader_epoch}
        entries.append(("incarnation", {**where, **change, **ids, "incarnation": made.incarnation}))
    elif assigned.topic_id and not row.topic_id:  # in a ledger from before ids were kept
        entries.append(("topic", {**where, "offset": start.offset, "topic_id": assigned.topic_id}))
    if start.reason is StartReason.LEDGER_BEHIND:
        entries.append(("behind", {**where, "offset": start.offset, "committed": assigned.committed}))
    return entries + _gap_entries(where, start)


def _gap_entries(where: Mapping[str, Any], start: StartPosition) -> list[chain.NewEntry]:
    if start.gap is None:
        return []
    gap = {"from": start.gap.start, "to": start.gap.end, "reason": start.reason}
    return [("gap", {**where, **gap})]


def _letters_from(connection: sa.Connection, row: Any, offset: int) -> int:
    """Count the dead letters that would be found again when reading a partition from an offset."""
    letters = t.dead_letters.c
    there = sa.and_(
        *(letters[name] == getattr(row, name) for name in ("topic", "partition", "incarnation")),
        letters.offset >= offset,
    )
    query = sa.select(sa.func.count()).select_from(t.dead_letters).where(there)
    return int(connection.execute(query).scalar_one())
