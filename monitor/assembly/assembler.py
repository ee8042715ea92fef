"""The buffer of unfinished traces: decides when each is complete, and hands out its exchanges once."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from monitor.assembly.exchanges import exchanges_of, nodes_by_span
from monitor.assembly.memory import ExchangeId, Memory
from monitor.ports import AssemblyStats, Completion
from monitor.trace import Span, StepKind, Trace

Key = TypeVar("Key")

NEVER: Final = float("inf")


class Bounds(NamedTuple):
    """Limits that complete a trace, and bounds on waiting spans: see the module's docstring.

    A trace is complete `max_seconds` after its first span, even if more spans follow.
    """

    settle_seconds: float = 1.0
    timeout_seconds: float = 30.0
    max_seconds: float = 600.0
    max_traces: int = 10_000
    max_bytes: int = 64 * 2**20


DEFAULT_BOUNDS: Final = Bounds()


class Exchange(NamedTuple, Generic[Key]):
    """A trace to judge, and the key of the span it is made of."""

    key: Key
    id: ExchangeId
    trace: Trace


class Assembled(NamedTuple, Generic[Key]):
    """A complete trace. The keys in `rest` are done when all of its exchanges are; without any, at once."""

    exchanges: Sequence[Exchange[Key]]
    rest: Sequence[Key]


@dataclass(slots=True)
class _Group(Generic[Key]):
    """The spans of a trace that have arrived, and when it counts as complete."""

    first: float
    due: float
    completion: Completion
    rooted: bool = False
    called: bool = False  # a call of a model has arrived
    relevant: bool = False  # a span about a language model has arrived
    pieces: list[tuple[Key, Span]] = field(default_factory=list)
    size: int = 0

    def add(self, key: Key, span: Span, now: float, bounds: Bounds) -> None:
        """Take a span; recompute when the trace is complete."""
        self.rooted |= not (span.parent_id or span.partial)
        self.called |= span.step.kind is StepKind.CHAT
        self.relevant |= span.step.kind is not StepKind.OTHER
        self.pieces.append((key, span))
        self.size += span.size
        # Late spans keep their first due time: the trace was judged without them, so no root ends the wait.
        if self.completion is Completion.LATE:
            return
        # A root alone does not end the wait while a model call is still to come: exporters send in batches,
        # and a trace judged without its call has no answer.
        if not self.rooted or (self.relevant and not self.called):
            # Every span shows that the trace is alive; `max_seconds` bounds one that never ends.
            self.completion = Completion.TIMEOUT
            self.due = min(now + bounds.timeout_seconds, self.first + bounds.max_seconds)
        # A root ends last, so all spans have ended; only those on other partitions may still come. Spans
        # that arrive meanwhile do not extend the wait, or steady stragglers would postpone the judgement.
        elif self.completion is not Completion.ROOT:
            self.completion, self.due = Completion.ROOT, now + bounds.settle_seconds


class Assembler(Generic[Key]):
    """Buffers spans by trace. Times are monotonic seconds of one clock. Not thread-safe."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._groups: OrderedDict[str, _Group[Key]] = OrderedDict()  # oldest first
        self._in_flight: dict[str, dict[str, Key]] = {}  # handed out, not recorded: key by trace and span id
        self._judged = Memory()
        self._size = 0
        self._next = NEVER  # no trace is due earlier
        self._stats = AssemblyStats()

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def stats(self) -> AssemblyStats:
        """The counts so far."""
        self._stats.waiting_traces, self._stats.waiting_bytes = len(self._groups), self._size
        return self._stats

    def add(self, key: Key, span: Span, now: float) -> None:
        """Add a span to the group of its trace."""
        bounds, group = self._bounds, self._groups.get(span.trace_id)
        if group is None:
            late = bool(self._handed_out(span.trace_id))
            wait = bounds.settle_seconds if late else bounds.timeout_seconds
            group = _Group(now, now + wait, Completion.LATE if late else Completion.TIMEOUT)
            self._groups[span.trace_id] = group
        group.add(key, span, now, bounds)
        self._size += span.size
        # A due time that moved later leaves `_next` too early, which costs one extra scan of the groups.
        self._next = min(self._next, group.due)

    def due(self, now: float) -> list[Assembled[Key]]:
        """Return the traces that are complete, and the oldest ones while the buffer is over its bounds."""
        complete = []
        # Evict the oldest first: its spans have had the most time to arrive.
        while len(self._groups) > self._bounds.max_traces or self._size > self._bounds.max_bytes:
            complete.append(self._complete(next(iter(self._groups)), Completion.FULL))
        if now >= self._next:
            ready = [(trace_id, g.completion) for trace_id, g in self._groups.items() if now >= g.due]
            complete += [self._complete(trace_id, completion) for trace_id, completion in ready]
            self._next = min((group.due for group in self._groups.values()), default=NEVER)
        return complete

    def flush(self) -> list[Assembled[Key]]:
        """Return all traces: no more spans will come."""
        return [self._complete(trace_id, Completion.ENDED) for trace_id in list(self._groups)]

    def drop(self, gone: Callable[[Key], bool]) -> None:
        """Drop the parts whose partition was revoked: another daemon reads them."""
        for trace_id, spans in list(self._in_flight.items()):
            remaining = {span_id: key for span_id, key in spans.items() if not gone(key)}
            self._set_in_flight(trace_id, remaining)
        for trace_id, group in list(self._groups.items()):
            pieces = [(key, span) for key, span in group.pieces if not gone(key)]
            size = sum(span.size for _, span in pieces)
            self._size += size - group.size
            group.pieces, group.size = pieces, size
            if not pieces:
                del self._groups[trace_id]

    def snapshot(self, judged: Sequence[ExchangeId]) -> Mapping[str, bytes]:
        """Return the state to store in the transaction of these exchanges' judgements. Changes nothing.

        The transaction may fail and be built again; once it is durable, call `recorded`.
        """
        return self._judged.snapshot(judged)

    def recorded(self, judged: Sequence[ExchangeId]) -> None:
        """Note that the judgements of these exchanges are durable."""
        self._judged.add(judged)
        for trace_id, span_id in judged:
            spans = self._in_flight.get(trace_id, {})
            spans.pop(span_id, None)
            self._set_in_flight(trace_id, spans)

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """Continue from stored snapshots."""
        self._judged.restore(snapshots)

    def _set_in_flight(self, trace_id: str, spans: dict[str, Key]) -> None:
        if spans:
            self._in_flight[trace_id] = spans
        else:
            self._in_flight.pop(trace_id, None)

    def _handed_out(self, trace_id: str) -> set[str]:
        """Return the span ids of the exchanges of a trace that were handed out before."""
        return self._judged.spans(trace_id) | self._in_flight.get(trace_id, {}).keys()

    def _complete(self, trace_id: str, completion: Completion) -> Assembled[Key]:
        group = self._groups.pop(trace_id)
        self._size -= group.size
        self._stats.completions[completion] += 1
        handed_out = self._handed_out(trace_id)
        nodes, rest = nodes_by_span(group.pieces)
        if handed_out:
            self._stats.late += len(group.pieces)
        exchanges = []
        for node, trace in exchanges_of(trace_id, nodes, late=bool(handed_out)):
            if node.span.span_id in handed_out:
                self._stats.repeated += 1  # the broker or an exporter delivered its span again
                continue
            exchanges.append(Exchange(node.key, ExchangeId(trace_id, node.span.span_id), trace))
            self._stats.missing.update(trace.missing)
            self._in_flight.setdefault(trace_id, {})[node.span.span_id] = node.key
        if not exchanges and not handed_out:
            self._stats.foreign += 1
        # A repeated exchange is not returned again: its key joins `rest`, done with the others or at once.
        own = {exchange.id.span_id for exchange in exchanges}
        rest += [node.key for node in nodes.values() if node.span.span_id not in own]
        return Assembled(exchanges, rest)
