"""Intake: decodes records, assembles spans and queues traces for the detectors."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from monitor.assembly import Assembled, Assembler
from monitor.engine.fair_queue import FairQueue
from monitor.engine.partitions import Partition
from monitor.engine.staging import Staged
from monitor.engine.work import Part, Siblings, Work
from monitor.errors import BadTrace, Skipped
from monitor.events import Fetched
from monitor.ports import Observer
from monitor.trace import Origin, Record, Span, Trace

CRASHED_DAEMON: Final = "crashed_daemon"
TOMBSTONE: Final = "tombstone"  # a record without a value, by which a compacted topic deletes a key


class Intake:
    """Turns delivered records into a queue of traces. Records without any go straight to `staged`.

    Used from the engine's thread.
    """

    def __init__(
        self,
        decode: Callable[[Record], Sequence[Trace | Span]],
        assembler: Assembler[Part],
        observer: Observer,
        apps: Collection[str] = (),
    ) -> None:
        self._decode = decode
        self._assembler = assembler
        self._observer = observer
        self._queue = FairQueue(apps)
        self._orphaned_siblings: list[Siblings] = []  # of exchanges whose partition is gone

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def whole(self) -> int:
        """Number of queued traces that came whole; those made of spans are bounded by their bytes alone."""
        return self._queue.whole

    @property
    def bytes(self) -> int:
        """Size of the queued traces: of the records that held them, or of the spans that made them."""
        return self._queue.bytes

    def oldest(self) -> float | None:
        """Return when the queued trace that waits longest began to (monotonic); None without any."""
        return self._queue.oldest()

    def first(self, count: int) -> Sequence[Work]:
        """Return the next traces of the queue, `count` at most, and leave them there."""
        return self._queue.first(count)

    def remove(self, work: Sequence[Work]) -> None:
        """Remove traces that `first` has returned."""
        self._queue.remove(work)

    def clear(self) -> None:
        """Forget the queue: its records are released, and will be delivered again."""
        self._queue.clear()

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
            self._queue_assembled(assembled, now)
            if not assembled.exchanges:
                staged.finish_parts(assembled.rest)

    def _queue_assembled(self, assembled: Assembled[Part], now: float) -> None:
        """Queue the exchanges of a trace, each with its share of the bytes of its spans."""
        left = len(assembled.exchanges)
        size, siblings = assembled.size, Siblings(assembled.rest, left)
        for (partition, offset, part), exchange, trace, shared in assembled.exchanges:
            share = size // left
            size, left = size - share, left - 1
            origin = Origin(*partition.name, offset, part, partition.incarnation)
            self._queue.append(Work(partition, origin, trace, share, now, exchange, siblings, shared))

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
        for work in self._queue.keep(lambda work: work.partition.alive):
            if work.siblings is not None:
                # Its trace may have parts on partitions that we still own; those end at the next turn.
                self._orphaned_siblings.append(work.siblings)

    def _read(self, partition: Partition, record: Record, staged: Staged, now: float) -> None:
        """Queue the traces of a record, or count it as done where it holds none."""
        offset = record.offset
        if offset == partition.condemned:
            detail = "daemons died with it in hand, the last one with nothing else"
            self._observer.undecodable(staged.dead_letter(partition, record, CRASHED_DAEMON, detail))
            return
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
            # The record's size counts once, however many traces it holds.
            size = 0
