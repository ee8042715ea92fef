"""Progress of a partition: which records are done. Pure; the position never gets ahead of the effects.

A record is done when all its traces are recorded. Batches finish out of order, so besides the position (the
next offset to read, all before it is done) there are done ranges beyond it and, for records that hold many
traces, the parts already done. The ledger stores all three in the transaction that stores the effects; after
a crash nothing that is done is judged again, and nothing that is not done is skipped.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from heapq import heappop, heappush
from typing import Final, NamedTuple

from monitor.events import Assigned, OffsetRange


class Witness(NamedTuple):
    """A record read before the position: if its offset now holds another one, the log was replaced."""

    offset: int
    time: float


class Mark(NamedTuple):
    """Progress of one partition as the ledger keeps it.

    `leader_epoch` is that of the record before `next_offset`, or of a later one; -1 where unknown.
    """

    next_offset: int
    beyond: tuple[OffsetRange, ...] = ()
    partial: Mapping[int, tuple[int, ...]] = {}
    leader_epoch: int = -1
    witness: Witness | None = None


class Attempt(NamedTuple):
    """Daemons that died in a row with the next records of a partition in hand.

    `condemned` is the offset of the record that they died of, None while that is unknown.
    """

    deaths: int = 0
    condemned: int | None = None


SUSPECT: Final = 2
"""Deaths in a row with the same records in hand, after which those that come next are taken with care."""


class StartReason(StrEnum):
    """Why reading begins at this offset; with the last two it does not begin yet."""

    LEDGER = "ledger"  # its position
    LEDGER_BEHIND = "ledger_behind"  # its position, although the group has committed more
    COMMITTED = "committed"  # the group's commit, as the ledger has no position
    EARLIEST = "earliest"  # neither has one: the first record
    LATEST = "latest"  # neither has one: the end, as the settings want it
    RETENTION = "retention"  # the position's record is deleted: the first one left
    RECREATED = "recreated"  # the topic is another one
    TRUNCATED = "truncated"  # the log was cut off below the position
    BEYOND_END = "beyond_end"  # the log ends before the position: wait for its end
    OUTDATED = "outdated"  # the topic's id was replaced: wait for newer metadata


class StartPosition(NamedTuple):
    """First offset to read, and the reason. `gap` is a range that can no longer be judged; it goes on record.

    For a log that was replaced (`RECREATED`, `TRUNCATED`), `since` is its first new offset. `leader_epoch`,
    that of the record before `offset`, lets the source detect that the log was cut off.
    """

    offset: int
    reason: StartReason
    gap: OffsetRange | None = None
    since: int | None = None
    leader_epoch: int = -1


class Stored(NamedTuple):
    """Position of a partition in the ledger. `moved`: an operator set it."""

    next_offset: int
    topic_id: str = ""
    moved: bool = False
    leader_epoch: int = -1


def start_position(
    stored: Stored | None,
    assigned: Assigned,
    *,
    latest_from: int | None = None,
    waited_at: int | None = None,
) -> StartPosition:
    """Return where to begin reading an assigned partition: at the ledger's position, if that exists.

    Kafka's commit only counts where the ledger knows nothing: it is written after the ledger, so one that is
    ahead means that the ledger lost something (a backup was restored, a replica promoted), and the broker may
    still have it. Where neither has a position, reading begins at `latest_from`, or with None at the first
    record.

    A topic that was made anew, or whose end was cut off, is read from the first offset that is new. So is one
    that ends before the ledger's position, once the end was waited for with the position `waited_at`: an end
    may lag behind for some seconds after a fail-over, so the first answer is BEYOND_END, which must not be
    read. Where the position has moved since, another daemon reads this very log, and it is our end that is
    old. Nor must a position be read that an operator put there.
    """
    _, _, committed, begin, end, topic_id, diverged = assigned
    if stored is None:
        return _first_start(committed, begin, end, latest_from)
    wanted = stored.next_offset
    if topic_id and stored.topic_id and topic_id != stored.topic_id:
        diverged = 0  # another topic: nothing of it was read before
    if diverged is not None:
        return _start_of_new_log(wanted, diverged, begin)
    if wanted > end:
        if stored.moved or waited_at != wanted:
            return StartPosition(wanted, StartReason.BEYOND_END, leader_epoch=stored.leader_epoch)
        return _start_of_new_log(wanted, begin, begin)
    if wanted < begin:
        return StartPosition(begin, StartReason.RETENTION, OffsetRange(wanted, begin))
    behind = committed is not None and committed > wanted and not stored.moved
    return StartPosition(wanted, StartReason.LEDGER_BEHIND if behind else StartReason.LEDGER)


def _first_start(committed: int | None, begin: int, end: int, latest_from: int | None) -> StartPosition:
    if committed is None:
        if latest_from is None:
            return StartPosition(begin, StartReason.EARLIEST)
        return StartPosition(min(max(latest_from, begin), end), StartReason.LATEST)
    if committed > end:  # the group's commit is of a topic that is gone
        return StartPosition(begin, StartReason.EARLIEST)
    if committed < begin:
        return StartPosition(begin, StartReason.RETENTION, OffsetRange(committed, begin))
    return StartPosition(committed, StartReason.COMMITTED)


def _start_of_new_log(wanted: int, since: int, begin: int) -> StartPosition:
    reason = StartReason.TRUNCATED if since > begin else StartReason.RECREATED
    first = min(wanted, since)
    if first < begin:
        return StartPosition(begin, reason, OffsetRange(first, begin), since)
    return StartPosition(first, reason, None, since)


class Progress:
    """Progress of one claimed partition: what was delivered, what is done, what may be committed."""

    def __init__(self, mark: Mark) -> None:
        self.next_offset = mark.next_offset
        self._beyond = {span.start: span.end for span in mark.beyond}
        self._starts = sorted(self._beyond)  # a heap: the first is found fast among many
        self._partial = {offset: set(parts) for offset, parts in mark.partial.items()}
        self._open: dict[int, tuple[int, int]] = {}  # offset -> (start of its range, parts still to do)
        self._delivered = mark.next_offset  # end of what was delivered
        self._covered = mark.next_offset  # end of the done range that delivery is passing
        self._leader_epoch = mark.leader_epoch
        self._witness = mark.witness
        # Last record of each delivery not yet passed.
        self._seen: deque[tuple[int, float | None, int]] = deque()

    def deliver(self, offset: int) -> bool:
        """Note a delivered record; return False when it is done already and must be skipped.

        Offsets between the previous delivered record and this one hold nothing to judge (compaction and
        transaction markers); they are covered together with this record. Raises ValueError out of order.
        """
        if offset < self._delivered:
            raise ValueError(f"offset {offset} was delivered before (expected at least {self._delivered})")
        # The record's range begins where the previous one ended, so the ranges of all records join without
        # holes however many offsets the log lacks: else the position would stop at the first missing one.
        # `next_offset` may be ahead of delivery: it jumps over ranges that were done before a restart.
        start = max(self._delivered, self._covered, self.next_offset)
        self._delivered = offset + 1
        # A range done before a restart may begin here, or several in a row; none of it is judged again.
        while start in self._beyond:
            start = self._beyond[start]
        if start > offset:
            # The next record may lie inside this range, where no start in `_beyond` leads out of it.
            self._covered = start
            return False
        self._open[offset] = (start, -1)
        return True

    def saw(self, offset: int, time: float | None, leader_epoch: int) -> None:
        """Remember the last record of a delivery, which identifies its log.

        `time` is None where a later delivery of the record may carry another time.
        """
        self._seen.append((offset, time, leader_epoch))

    def pass_to(self, offset: int) -> OffsetRange | None:
        """Note that no record is left before `offset`; return the range that this covers."""
        last = offset - 1
        if last < self._delivered or not self.deliver(last):
            return None
        return self.finish(last, ())

    def expect(self, offset: int, parts: int) -> list[int]:
        """Set how many traces a delivered record holds; return the parts still to be judged."""
        done = self._partial.get(offset)
        due = [part for part in range(parts) if part not in done] if done else [*range(parts)]
        self._open[offset] = (self._open[offset][0], len(due))
        return due

    def finish(self, offset: int, parts: Collection[int]) -> OffsetRange | None:
        """Mark parts of a record as recorded; return the covered range when that made the record done.

        Finish a record of no traces, or a dead letter, with no parts.
        """
        start, left = self._open[offset]
        left -= len(parts)
        if left > 0:
            self._open[offset] = (start, left)
            self._partial.setdefault(offset, set()).update(parts)
            return None
        del self._open[offset]
        self._partial.pop(offset, None)
        self._cover(start, offset + 1)
        return OffsetRange(start, offset + 1)

    def _cover(self, start: int, end: int) -> None:
        if start > self.next_offset:
            self._beyond[start] = end
            heappush(self._starts, start)
            return
        self.next_offset = end
        while self._starts and self._starts[0] <= self.next_offset:
            self.next_offset = max(self.next_offset, self._beyond.pop(heappop(self._starts)))

    @property
    def delivered(self) -> int:
        """End of what was delivered."""
        return self._delivered

    @property
    def unfinished(self) -> int:
        """Number of delivered records that are not done."""
        return len(self._open)

    def mark(self) -> Mark:
        """Return the progress as the ledger must store it."""
        beyond = tuple(OffsetRange(start, self._beyond[start]) for start in sorted(self._beyond))
        partial = {offset: tuple(sorted(parts)) for offset, parts in self._partial.items() if parts}
        while self._seen and self._seen[0][0] < self.next_offset:
            offset, time, self._leader_epoch = self._seen.popleft()
            if time is not None:
                self._witness = Witness(offset, time)
        # Where a delivery is only done in part, its last record's epoch may be too new. An epoch that is too
        # old would make a sound log look cut off; one too new still shows where the log was cut.
        epoch = max(self._leader_epoch, self._seen[0][2] if self._seen else -1)
        return Mark(self.next_offset, beyond, partial, epoch, self._witness)


def merge(spans: Iterable[OffsetRange]) -> tuple[OffsetRange, ...]:
    """Join adjacent and overlapping ranges, sorted."""
    merged: list[OffsetRange] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if merged and span.start <= merged[-1].end:
            merged[-1] = OffsetRange(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)
