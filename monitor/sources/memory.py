"""Records in memory as a source, and the public fake for tests of any reader.

A `MemoryLog` plays the broker: records per partition, the group's offsets and the partitions' owners. Any
number of `MemorySource`s read it, one after another (a restart) or at once (two daemons). Faults are in the
data:

    log = MemoryLog({("t", 0): [b"one", CRASH, b"two", Stall(30), b"three"], ("t", 1): [b"four", Revoke()]})

A fault takes no offset. It happens once, when the partition would deliver the record behind it; a crashed
source refuses further polls, and a new one over the same log goes on from what was committed.
A `MARKER` takes an offset without a record.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from monitor.clock import Clock, ManualClock
from monitor.events import (
    Assigned,
    Event,
    Exhausted,
    Fetched,
    Lag,
    OutOfRange,
    Passed,
    Revoked,
    Stuck,
    StuckReason,
    TopicPartition,
)
from monitor.trace import Record


class SimulatedCrash(Exception):  # noqa: N818 - it simulates the process's end, not an error of this code
    """The scripted end of a process, raised out of `poll`. Nothing in riskmon catches it."""


class Crash:
    """`poll` raises SimulatedCrash."""


@dataclass(frozen=True)
class Revoke:
    """Revokes a partition from the source that reads this item; None: the item's own partition."""

    partition: TopicPartition | None = None


@dataclass(frozen=True)
class Assign:
    """Assigns a partition without an owner to the source that reads this item."""

    partition: TopicPartition


@dataclass(frozen=True)
class Stall:
    """The clock passes `seconds` inside `poll`, as when a broker answers late."""

    seconds: float


class BadBatch:
    """The record behind it cannot be read: the source reports Stuck until it is sought elsewhere."""


class Marker:
    """Takes an offset without a record, as the end of a transaction does; `lag` notes that it was passed."""


class Truncate:
    """Retention deletes the record behind it and all before, so the reader's position is out of range."""


CRASH: Final = Crash()
BAD_BATCH: Final = BadBatch()
TRUNCATE: Final = Truncate()
MARKER: Final = Marker()

Happening: TypeAlias = Crash | Revoke | Assign | Stall | BadBatch | Truncate
Item: TypeAlias = bytes | Record | Marker | Happening


@dataclass
class _Partition:
    records: list[Record] = field(default_factory=list)
    markers: list[int] = field(default_factory=list)
    begin: int = 0
    topic_id: str = ""
    cuts: list[int] = field(default_factory=list)  # per leader epoch before the present one, its end
    happenings: dict[int, list[Happening]] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)
    owner: "MemorySource | None" = None

    @property
    def end(self) -> int:
        last = [self.records[-1].offset + 1] if self.records else []
        return max([self.begin, *last, *(offset + 1 for offset in self.markers[-1:])])

    @property
    def leader_epoch(self) -> int:
        return len(self.cuts)

    def diverged(self, reading: "_Reading") -> int | None:
        """Return the first offset that differs from what a reader has read, None if none does."""
        ends = self.cuts[reading.leader_epoch :] if reading.leader_epoch >= 0 else []
        lowest = min(ends, default=reading.position)
        return lowest if lowest < reading.position else None

    def read(self, position: int, limit: int) -> list[Record]:
        """Return the records from a position on, up to the next scripted fault or unreadable record."""
        stops = [offset for offset in (*self.happenings, *self.bad) if offset > position]
        stop = min(stops, default=self.end)
        return [record for record in self.records if position <= record.offset < stop][:limit]


class MemoryLog:
    """Partitions with their records, scripted faults, and the offsets a group committed.

    Bytes become records at the next offset; a `Record` keeps its own offset, so that gaps can be made. Topics
    have no id unless one is given; `stamped`: their records' times are reported as stored.
    """

    def __init__(
        self,
        partitions: Mapping[TopicPartition, Iterable[Item]],
        *,
        start_time: float = 0.0,
        topic_id: str = "",
        stamped: bool = False,
    ) -> None:
        self.committed: dict[TopicPartition, int] = {}
        self.stamped = stamped
        self._start_time = start_time
        self._partitions: dict[TopicPartition, _Partition] = {
            key: _Partition(topic_id=topic_id) for key in partitions
        }
        for key, items in partitions.items():
            self.append(key, items)

    def append(self, key: TopicPartition, items: Iterable[Item]) -> None:
        """Write further records or faults to the end of a partition, adding it if it is new."""
        partition = self._partitions.setdefault(key, _Partition())
        for item in items:
            if isinstance(item, Record):
                partition.records.append(item)
            elif isinstance(item, bytes):
                time = self._start_time + partition.end
                partition.records.append(Record(*key, partition.end, time, None, item))
            elif isinstance(item, Marker):
                partition.markers.append(partition.end)
            elif isinstance(item, BadBatch):
                partition.bad.add(partition.end)
            else:
                partition.happenings.setdefault(partition.end, []).append(item)

    def recreate(self, key: TopicPartition, items: Iterable[Item] = (), *, topic_id: str = "") -> None:
        """Recreate a partition's topic: empty but for these items, without commits, under another id."""
        owner = self._partitions[key].owner
        self._partitions[key] = _Partition(topic_id=topic_id, owner=owner)
        self.committed.pop(key, None)
        self.append(key, items)

    def cut(self, key: TopicPartition, end: int) -> None:
        """Lose the records from `end` on, as an unclean election of a leader does."""
        partition = self._partitions[key]
        partition.records = [record for record in partition.records if record.offset < end]
        partition.cuts.append(end)

    def partitions(self) -> Mapping[TopicPartition, _Partition]:
        """The partitions, for `MemorySource`."""
        return self._partitions


@dataclass
class _Reading:
    position: int = 0
    delivering: bool = False
    topic_id: str = ""
    leader_epoch: int = -1
    last_time: float | None = None


class MemorySource:
    """A member of the group that reads a `MemoryLog`. Each poll takes the partitions without an owner.

    `take` limits it to some partitions. With `finite`, Exhausted comes once everything owned was delivered.
    """

    def __init__(
        self,
        log: MemoryLog,
        clock: Clock | None = None,
        *,
        take: Iterable[TopicPartition] | None = None,
        finite: bool = True,
    ) -> None:
        self._log = log
        self._clock = clock or ManualClock()
        self._take = None if take is None else set(take)
        self._finite = finite
        self._readings: dict[TopicPartition, _Reading] = {}
        self._released: set[TopicPartition] = set()  # taken by a Revoke, so not claimed again automatically
        self._events: list[Event] = []
        self._paused = False
        self._held: frozenset[TopicPartition] = frozenset()
        self._closed = False
        self._crashed = False
        self._exhausted = False

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Return what happened. Waits `timeout` on the clock when there is nothing, like a broker would."""
        if self._crashed:
            raise SimulatedCrash
        if self._closed:
            return ()
        self._claim()
        left = max_records
        if not self._paused:
            for key in list(self._readings):
                left -= self._read(key, left)
        events, self._events = self._events, []
        if not events and self._finished():
            self._exhausted = True
            return [Exhausted()]
        if not events:
            self._clock.sleep(timeout)
        return events

    def seek(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:
        """Deliver a partition from `offset` on. One that is no longer assigned is ignored.

        A `MemoryLog` that was cut off knows where it begins to differ from the log of `leader_epoch`.
        """
        reading = self._readings.get((topic, partition))
        if reading is not None:
            reading.position = offset
            reading.leader_epoch = leader_epoch
            reading.delivering = True
            self._exhausted = False

    def refresh(self, topic: str, partition: int) -> None:
        """Deliver a partition no more and report it as assigned again."""
        key = (topic, partition)
        if key not in self._readings:
            return
        owned = self._log.partitions()[key]
        if owned.owner is self:
            self._assign(key, owned)
        else:
            del self._readings[key]
            self._events.append(Revoked(*key))

    def pause(self) -> None:
        """Deliver nothing until `resume`. Idempotent."""
        self._paused = True

    def resume(self) -> None:
        """Deliver again. Idempotent."""
        self._paused = False

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing of these partitions until the next call. Idempotent."""
        self._held = frozenset(partitions)

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Remember the positions of owned partitions in the log."""
        if not self._crashed:
            self._log.committed.update({key: at for key, at in positions.items() if key in self._readings})

    def lag(self) -> Sequence[Lag]:
        """Return the lag per owned partition; pass the markers that are next."""
        for key, reading in self._readings.items():
            self._pass(key, reading)
        return [self._lag(key, reading) for key, reading in self._readings.items()]

    def health(self) -> Mapping[str, bool]:
        """Return no conditions: memory does not fail."""
        return {}

    def close(self, positions: Mapping[TopicPartition, int], seconds: float) -> None:  # noqa: ARG002 - never waits
        """Commit and give every partition back. Idempotent."""
        if not self._closed:
            self.commit(positions)
            self._closed = True
            self._leave()

    def evict(self) -> None:
        """Act as if the group had dropped this member: partitions are free, the next poll says so."""
        for key in list(self._readings):
            self._give_back(key)

    def _lag(self, key: TopicPartition, reading: _Reading) -> Lag:
        end = self._log.partitions()[key].end
        records = sum(record.offset >= reading.position for record in self._log.partitions()[key].records)
        known = records > 0 and end > reading.position and reading.last_time is not None
        seconds = max(0.0, self._clock.now() - (reading.last_time or 0.0)) if known else 0.0
        return Lag(*key, records, seconds)

    def _pass(self, key: TopicPartition, reading: _Reading) -> None:
        partition, position = self._log.partitions()[key], reading.position
        while reading.delivering and reading.position in partition.markers:
            reading.position += 1
        if reading.position > position:
            self._events.append(Passed(*key, reading.position))

    def _claim(self) -> None:
        for key, partition in self._log.partitions().items():
            wanted = self._take is None or key in self._take
            if partition.owner is None and wanted and key not in self._released:
                self._assign(key, partition)

    def _assign(self, key: TopicPartition, partition: _Partition) -> None:
        partition.owner = self
        self._released.discard(key)
        committed = self._log.committed.get(key)
        position = partition.begin if committed is None else committed
        self._readings[key] = _Reading(position, topic_id=partition.topic_id)
        self._events.append(Assigned(*key, committed, partition.begin, partition.end, partition.topic_id))

    def _give_back(self, key: TopicPartition) -> None:
        if self._readings.pop(key, None) is not None:
            self._log.partitions()[key].owner = None
            self._released.add(key)
            self._events.append(Revoked(*key))

    def _leave(self) -> None:
        for partition in self._log.partitions().values():
            if partition.owner is self:
                partition.owner = None
        self._readings.clear()

    def _read(self, key: TopicPartition, limit: int) -> int:
        reading = self._readings.get(key)
        if reading is None or not reading.delivering or limit <= 0 or key in self._held:
            return 0
        partition = self._log.partitions()[key]
        for happening in partition.happenings.pop(reading.position, ()):
            self._happen(key, happening)
        if key not in self._readings:
            return 0
        diverged = partition.diverged(reading)
        fits = partition.begin <= reading.position <= partition.end and partition.topic_id == reading.topic_id
        if diverged is not None or not fits:
            reading.delivering = False
            reading.topic_id = partition.topic_id
            bounds = (reading.position, partition.begin, partition.end)
            self._events.append(OutOfRange(*key, *bounds, partition.topic_id, diverged))
            return 0
        if reading.position in partition.bad:
            reading.delivering = False
            self._events.append(Stuck(*key, reading.position, StuckReason.CORRUPT_BATCH))
            return 0
        records = partition.read(reading.position, limit)
        if records:
            reading.position = records[-1].offset + 1
            reading.last_time = records[-1].time
            reading.leader_epoch = partition.leader_epoch
            self._events.append(Fetched(*key, records, partition.leader_epoch, self._log.stamped))
        return len(records)

    def _happen(self, key: TopicPartition, happening: Happening) -> None:
        match happening:
            case Crash():
                self._crashed = True
                self._leave()
                raise SimulatedCrash
            case Revoke(partition=other):
                self._give_back(other or key)
            case Assign(partition=other):
                partition = self._log.partitions()[other]
                if partition.owner is None:
                    self._assign(other, partition)
            case Stall(seconds=seconds):
                self._clock.sleep(seconds)
            case Truncate():
                self._log.partitions()[key].begin = self._readings[key].position + 1
            case BadBatch():
                self._log.partitions()[key].bad.add(self._readings[key].position)

    def _finished(self) -> bool:
        if not self._finite or self._exhausted or self._paused or not self._readings:
            return False
        return all(
            reading.delivering and reading.position >= self._log.partitions()[key].end
            for key, reading in self._readings.items()
        )
