"""Intake: decodes records, assembles spans and queues traces for the detectors."""

from bisect import bisect
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
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
LARGE: Final = 32 * 2**10
"""Characters of a trace that may take detectors seconds, so that it is judged alone, beside others."""
BATCH_CHARS: Final = 8 * LARGE
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
        self._large = FairQueue(apps)
        self._orphaned_siblings: list[Siblings] = []  # of exchanges whose partition is gone

    def __len__(self) -> int:
        return len(self._queue) + len(self._large)

    @property
    def whole(self) -> int:
        """Number of queued traces that came whole; those made of spans are bounded by their bytes alone."""
        return self._queue.whole + self._large.whole

    @property
    def bytes(self) -> int:
        """Size of the queued traces: of the records that held them, or of the spans that made them."""
        return self._queue.bytes + self._large.bytes

    def oldest(self) -> float | None:
        """Return when the trace that waits longest began to (monotonic), large ones aside; None: no trace."""
        return self._queue.oldest()

    def first(self, count: int) -> Sequence[Work]:
        """Return the next traces of the queue, one at least, for a batch of `count`, and leave them there.

        They have few characters together, so that none that is dear delays many.
        """
        chosen = self._queue.first(count)
        chars = list(accumulate([work.chars for work in chosen]))
        whole = not chars or chars[-1] <= BATCH_CHARS
        return chosen if whole else chosen[: max(1, bisect(chars, BATCH_CHARS))]

    def large(self) -> Sequence[Work]:
        """Return the next large trace, and leave it there; it is a batch of its own."""
        return self._large.first(1)

    def remove(self, work: Sequence[Work]) -> None:
        """Remove traces that `first` or `large` has returned."""
        (self._large if _is_large(work[0]) else self._queue).remove(work)
        for each in work:
            each.partition.queued_bytes -= each.size
            each.partition.queued_traces -= each.exchange is None

    def clear(self) -> None:
        """Forget the queue: its records are released, and will be delivered again."""
        self._queue.clear()
        self._large.clear()

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

    def _append(self, work: Work) -> None:
        (self._large if _is_large(work) else self._queue).append(work)
        work.partition.queued_bytes += work.size
        work.partition.queued_traces += work.exchange is None

    def _queue_assembled(self, assembled: Assembled[Part], now: float) -> None:
        """Queue the exchanges of a trace, each with its share of the bytes of its spans."""
        left = len(assembled.exchanges)
        size, siblings = assembled.size, Siblings(assembled.rest, left)
        for (partition, offset, part), exchange, trace in assembled.exchanges:
            share = size // left
            size, left = size - share, left - 1
            origin = Origin(*partition.name, offset, part, partition.incarnation)
            chars = trace.chars()  # its sources are in other exchanges, too: more than its bytes
            self._append(Work(partition, origin, trace, share, now, exchange, siblings, chars))

    def finish(self, siblings: Siblings, staged: Staged) -> None:
        """Count an exchange of a trace as done with; the last one ends the trace's other parts."""
        siblings.left -= 1
        if siblings.left == 0:
            staged.finish_parts(siblings.parts)

    def drop_revoked(self) -> None:
        """Drop what was read of partitions we no longer own."""
        self._assembler.drop(lambda part: not part.partition.alive)
        alive: Callable[[Work], bool] = lambda work: work.partition.alive  # noqa: E731 - twice the same
        for work in self._queue.keep(alive) + self._large.keep(alive):
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
            chars = size if len(due) == 1 else trace.chars()
            self._append(Work(partition, origin, trace, size, now, chars=chars))
            # The record's size counts once, however many traces it holds.
            size = 0


def _is_large(work: Work) -> bool:
    return work.chars > LARGE
