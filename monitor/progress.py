"""Which records of a partition are done. Pure bookkeeping; the position never gets ahead of the effects.

A record is done when all its traces are recorded. Batches finish out of order, so beside the position (the
next offset to read, all before it is done) there are done ranges beyond it and, for records that hold many
traces, the parts already done. The ledger stores all three in the transaction that stores the effects; after
a crash nothing that is done is judged again, and nothing that is not done is skipped.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from heapq import heappop, heappush
from typing import NamedTuple

from monitor.findings import Span


class Mark(NamedTuple):
    """Progress of one partition as the ledger keeps it."""

    next_offset: int
    beyond: tuple[Span, ...] = ()
    partial: Mapping[int, tuple[int, ...]] = {}


class Placing(StrEnum):
    """Why reading begins where it does."""

    LEDGER = "ledger"
    COMMITTED = "committed"
    EARLIEST = "earliest"
    LATEST = "latest"
    RETENTION = "retention"
    COMMITTED_AHEAD = "committed_ahead"
    BEYOND_END = "beyond_end"


class Placement(NamedTuple):
    """Where to begin and why. `gap` is a range that nobody will ever judge; it goes on record as such."""

    offset: int
    reason: Placing
    gap: Span | None = None


def place(ledger: int | None, committed: int | None, begin: int, end: int, *, latest: bool) -> Placement:
    """Decide where to begin reading an assigned partition: max(Kafka's commit, the ledger), if it exists.

    `ledger` and `committed` are next offsets or None when unknown; `begin`/`end` bound what the broker has.
    BEYOND_END (the topic was created anew, or data was lost) must not be read: an operator decides.
    """
    if ledger is None and committed is None:
        return Placement(end, Placing.LATEST) if latest else Placement(begin, Placing.EARLIEST)
    if ledger is None:
        wanted, reason, gap_from = committed or 0, Placing.COMMITTED, committed or 0
    elif committed is not None and committed > ledger:
        wanted, reason, gap_from = committed, Placing.COMMITTED_AHEAD, ledger
    else:
        wanted, reason, gap_from = ledger, Placing.LEDGER, ledger
    if wanted > end:
        return Placement(wanted, Placing.BEYOND_END)
    if wanted < begin:
        return Placement(begin, Placing.RETENTION, Span(gap_from, begin))
    return Placement(wanted, reason, Span(gap_from, wanted) if gap_from < wanted else None)


class Progress:
    """Progress of one claimed partition: what was delivered, what is done, what may be committed."""

    def __init__(self, mark: Mark) -> None:
        self.next_offset = mark.next_offset
        self._beyond = {span.start: span.end for span in mark.beyond}
        self._starts = sorted(self._beyond)  # a heap, so that the first is at hand however many there are
        self._partial = {offset: set(parts) for offset, parts in mark.partial.items()}
        self._open: dict[int, tuple[int, int]] = {}  # offset -> (start of its range, parts still to do)
        self._delivered = mark.next_offset  # end of what was delivered
        self._covered = mark.next_offset  # end of the done range that delivery is passing

    def deliver(self, offset: int) -> bool:
        """Take note of a delivered record; False when it is done already and must be skipped.

        Offsets between the previous delivered record and this one hold nothing to judge (compaction and
        transaction markers); they are covered together with this record. Raises ValueError out of order.
        """
        if offset < self._delivered:
            raise ValueError(f"offset {offset} was delivered before (expected at least {self._delivered})")
        start = max(self._delivered, self._covered, self.next_offset)
        self._delivered = offset + 1
        while start in self._beyond:
            start = self._beyond[start]
        if start > offset:
            self._covered = start
            return False
        self._open[offset] = (start, -1)
        return True

    def expect(self, offset: int, parts: int) -> list[int]:
        """Say how many traces a delivered record holds; returns the parts still to be judged."""
        done = self._partial.get(offset)
        due = [part for part in range(parts) if part not in done] if done else [*range(parts)]
        self._open[offset] = (self._open[offset][0], len(due))
        return due

    def finish(self, offset: int, parts: Collection[int]) -> Span | None:
        """Mark parts of a record as recorded; returns the covered range when that made the record done.

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
        return Span(start, offset + 1)

    def _cover(self, start: int, end: int) -> None:
        if start > self.next_offset:
            self._beyond[start] = end
            heappush(self._starts, start)
            return
        self.next_offset = end
        while self._starts and self._starts[0] <= self.next_offset:
            self.next_offset = max(self.next_offset, self._beyond.pop(heappop(self._starts)))

    @property
    def unfinished(self) -> int:
        """How many delivered records are not done."""
        return len(self._open)

    def mark(self) -> Mark:
        """What the ledger must store."""
        beyond = tuple(Span(start, self._beyond[start]) for start in sorted(self._beyond))
        partial = {offset: tuple(sorted(parts)) for offset, parts in self._partial.items() if parts}
        return Mark(self.next_offset, beyond, partial)


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Join adjacent and overlapping ranges, sorted."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)
