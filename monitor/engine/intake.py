"""Intake: decodes records, assembles spans and queues traces for the detectors."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from monitor.assembly import Assembler
from monitor.engine.partitions import Partition
from monitor.engine.staging import Staged
from monitor.engine.work import Part, Siblings, Work
from monitor.errors import BadTrace, Skipped
from monitor.events import Fetched
from monitor.ports import Observer
from monitor.trace import Origin, Record, Span, Trace

TOMBSTONE: Final = "tombstone"  # a record without a value, by which a compacted topic deletes a key


class Intake:
    """Turns delivered records into a queue of traces. Records without any go straight to `staged`.

    `bytes` is the size of the records whose traces are queued. Used from the engine's thread.
    """

    def __init__(
        self,
        decode: Callable[[Record], Sequence[Trace | Span]],
        assembler: Assembler[Part],
        observer: Observer,
    ) -> None:
        self._decode = decode
        self._assembler = assembler
        self._observer = observer
        self._queue: deque[Work] = deque()
        self._orphaned_siblings: list[Siblings] = []  # of exchanges whose partition is gone
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def oldest(self) -> float | None:
        """Return when the first queued trace began to wait (monotonic); None when the queue is empty."""
        return self._queue[0].taken if self._queue else None

    def first(self, count: int) -> list[Work]:
        """Return the first traces of the queue, `count` at most, and leave them there."""
        return [self._queue[i] for i in range(min(count, len(self._queue)))]

    def remove(self, work: Sequence[Work]) -> None:
        """Remove the first traces of the queue, which `first` has returned."""
        for item in work:
            self._queue.popleft()
            self.bytes -= item.size

    def clear(self) -> None:
        """Forget the queue: its records are released, and will be delivered again."""
        self._queue.clear()
        self.bytes = 0

    def take(self, partition: Partition, fetched: Fetched, staged: Staged, now: float) -> int:
        """Queue the traces of delivered records; return how many records were not done before."""
        deliver = partition.progress.deliver
        taken = 0
        for record in fetched.records:
            if deliver(record.offset):
                taken += 1
                self._read(partition, record, staged, now)
        if fetched.records:
            # Times are a witness of the log only where the broker stores them.
            last = fetched.records[-1]
            time = last.time if fetched.stamped else None
            partition.progress.saw(last.offset, time, fetched.leader_epoch)
        return taken

    def assemble(self, staged: Staged, now: float, *, flush: bool, stopping: bool) -> None:
        """Queue the traces that are complete or timed out; with `flush` all of them.

        At a stop they are released instead: later spans belong to the daemon that reads on.
        """
        orphaned, self._orphaned_siblings = self._orphaned_siblings, []
        for siblings in orphaned:
            self.finish(siblings, staged)
        if not self._assembler or stopping:
            return
        for assembled in self._assembler.flush() if flush else self._assembler.due(now):
            siblings = Siblings(assembled.rest, len(assembled.exchanges))
            for (partition, offset, part), exchange, trace in assembled.exchanges:
                origin = Origin(*partition.name, offset, part, partition.incarnation)
                self._queue.append(Work(partition, origin, trace, 0, now, exchange, siblings))
            if not assembled.exchanges:
                staged.finish_parts(assembled.rest)

    def finish(self, siblings: Siblings | None, staged: Staged) -> None:
        """Count an exchange of a trace as done with; the last one ends the trace's other parts."""
        if siblings is None:
            return
        siblings.left -= 1
        if siblings.left == 0:
            staged.finish_parts(siblings.parts)

    def drop_revoked(self) -> None:
        """Drop what was read of partitions we no longer own."""
        self._assembler.drop(lambda part: not part.partition.alive)
        queue, self._queue = self._queue, deque()
        for work in queue:
            if work.partition.alive:
                self._queue.append(work)
            elif work.siblings is not None:
                # Its trace may have parts on partitions that we still own; those end at the next turn.
                self._orphaned_siblings.append(work.siblings)
        self.bytes = sum(work.size for work in self._queue)

    def _read(self, partition: Partition, record: Record, staged: Staged, now: float) -> None:
        """Queue the traces of a record, or count it as done where it holds none."""
        offset = record.offset
        if record.value is None:
            staged.skip(partition, offset, TOMBSTONE)
            return
        try:
            traces = self._decode(record)
        except BadTrace as bad:
            self._observer.undecodable(staged.dead_letter(partition, record, bad.reason, bad.detail))
            return
        except Skipped as skipped:
            staged.skip(partition, offset, skipped.reason)
            return
        # Parts that were recorded before a restart are not judged again.
        due = partition.progress.expect(offset, len(traces))
        if not due:
            staged.finish(partition, offset, ())
            return
        size = len(record.value)
        for part in due:
            trace = traces[part]
            if isinstance(trace, Span):
                self._assembler.add(Part(partition, offset, part), trace, now)
                continue
            origin = Origin(record.topic, record.partition, offset, part, partition.incarnation)
            self._queue.append(Work(partition, origin, trace, size, now))
            self.bytes += size
            # The record's size counts once, however many traces it holds.
            size = 0
