"""Joins the spans of a trace, which arrive in any order over several records, into exchanges to judge.

One exchange per inference: its prompt and response, with the documents retrieved and the tools called before
it began; the last one of an agent's run also gets the steps of that run. A trace is complete when its root
has arrived (a root ends last; spans on other partitions get `settle_seconds` to catch up) and, if any of it
is about a language model, a call of one; when nothing of it came for `timeout_seconds`; or when the buffer
is full. What is then missing is named, not waited for.

Pure: no clock, no input or output. Whoever adds a span gives it a key, and gets all keys back: each
exchange's own, and those that are done once the exchanges of their trace are.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from monitor.ports import AssemblyStats, Completion
from monitor.trace import Document, Message, Missing, Span, Step, StepKind, ToolCall, Trace

Key = TypeVar("Key")

Judged: TypeAlias = tuple[str, str]
"""Trace id and span id of an exchange."""

REMEMBERED: Final = 65_536  # exchanges that late spans are recognised by: five minutes of 200 a second
BUCKET: Final = 256  # of them in one snapshot entry, which a transaction writes again
PREFIX: Final = "assembly."
NEVER: Final = float("inf")


class Bounds(NamedTuple):
    """When a trace is complete, and how much may wait: see the module's docstring.

    `max_seconds` after its first span a trace is complete whatever still comes.
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
    judged: Judged
    trace: Trace


class Assembled(NamedTuple, Generic[Key]):
    """A complete trace. The keys in `rest` are done when all of its exchanges are; without any, at once."""

    exchanges: Sequence[Exchange[Key]]
    rest: Sequence[Key]


@dataclass(slots=True)
class _Group(Generic[Key]):
    """What has arrived of a trace, and when it counts as complete."""

    first: float
    due: float
    completion: Completion
    rooted: bool = False
    called: bool = False  # there is a call of a model,
    ours: bool = False  # or at least something about one
    pieces: list[tuple[Key, Span]] = field(default_factory=list)
    size: int = 0


class Assembler(Generic[Key]):
    """Buffers spans by trace. Times are monotonic seconds of one clock. Not thread-safe."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._groups: OrderedDict[str, _Group[Key]] = OrderedDict()  # oldest first
        self._on_the_way: dict[str, dict[str, Key]] = {}  # handed out, not recorded: trace and span id to key
        self._memory = _Memory()
        self._size = 0
        self._next = NEVER  # no trace is complete earlier
        self._stats = AssemblyStats()

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def stats(self) -> AssemblyStats:
        """Counts so far."""
        self._stats.waiting_traces, self._stats.waiting_bytes = len(self._groups), self._size
        return self._stats

    def add(self, key: Key, span: Span, now: float) -> None:
        """Take a span in."""
        bounds, group = self._bounds, self._groups.get(span.trace_id)
        if group is None:
            late = bool(self._known(span.trace_id))
            wait = bounds.settle_seconds if late else bounds.timeout_seconds
            group = _Group(now, now + wait, Completion.LATE if late else Completion.TIMEOUT)
            self._groups[span.trace_id] = group
        group.rooted |= not (span.parent_id or span.partial)
        group.called |= span.step.kind is StepKind.CHAT
        group.ours |= span.step.kind is not StepKind.OTHER
        if group.completion is not Completion.LATE:
            settling = group.completion is Completion.ROOT
            if not group.rooted or (group.ours and not group.called):
                group.completion = Completion.TIMEOUT
                group.due = min(now + bounds.timeout_seconds, group.first + bounds.max_seconds)
            elif not settling:
                group.completion, group.due = Completion.ROOT, now + bounds.settle_seconds
        group.pieces.append((key, span))
        group.size += span.size
        self._size += span.size
        self._next = min(self._next, group.due)

    def due(self, now: float) -> list[Assembled[Key]]:
        """Return the traces that are complete, and the oldest ones while more waits than may."""
        complete = []
        while len(self._groups) > self._bounds.max_traces or self._size > self._bounds.max_bytes:
            complete.append(self._complete(next(iter(self._groups)), Completion.FULL))
        if now >= self._next:
            ready = [(trace_id, g.completion) for trace_id, g in self._groups.items() if now >= g.due]
            complete += [self._complete(*each) for each in ready]
            self._next = min((group.due for group in self._groups.values()), default=NEVER)
        return complete

    def flush(self) -> list[Assembled[Key]]:
        """Return everything: nothing more will come."""
        return [self._complete(trace_id, Completion.ENDED) for trace_id in list(self._groups)]

    def drop(self, gone: Callable[[Key], bool]) -> None:
        """Drop the parts that another daemon will read."""
        for trace_id, spans in list(self._on_the_way.items()):
            kept = {span_id: key for span_id, key in spans.items() if not gone(key)}
            self._set_on_the_way(trace_id, kept)
        for trace_id, group in list(self._groups.items()):
            pieces = [(key, span) for key, span in group.pieces if not gone(key)]
            size = sum(span.size for _, span in pieces)
            self._size += size - group.size
            group.pieces, group.size = pieces, size
            if not pieces:
                del self._groups[trace_id]

    def snapshot(self, judged: Sequence[Judged]) -> Mapping[str, bytes]:
        """What to store along with the judgements of these exchanges. Changes nothing: see `recorded`."""
        return self._memory.snapshot(judged)

    def recorded(self, judged: Sequence[Judged]) -> None:
        """Take note that the judgements of these exchanges are durable."""
        self._memory.add(judged)
        for trace_id, span_id in judged:
            spans = self._on_the_way.get(trace_id, {})
            spans.pop(span_id, None)
            self._set_on_the_way(trace_id, spans)

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """Continue from what was stored."""
        self._memory.restore(snapshots)

    def _set_on_the_way(self, trace_id: str, spans: dict[str, Key]) -> None:
        if spans:
            self._on_the_way[trace_id] = spans
        else:
            self._on_the_way.pop(trace_id, None)

    def _known(self, trace_id: str) -> set[str]:
        """Span ids of the exchanges of a trace that were handed out before."""
        return self._memory.spans(trace_id) | self._on_the_way.get(trace_id, {}).keys()

    def _complete(self, trace_id: str, completion: Completion) -> Assembled[Key]:
        group = self._groups.pop(trace_id)
        self._size -= group.size
        self._stats.completions[completion] += 1
        known = self._known(trace_id)
        nodes, rest = _merge(group.pieces)
        if known:
            self._stats.late += len(group.pieces)
        exchanges = []
        for node, trace in _exchanges(trace_id, nodes, late=bool(known)):
            if node.span.span_id in known:
                self._stats.repeated += 1
                continue
            exchanges.append(Exchange(node.key, (trace_id, node.span.span_id), trace))
            self._stats.missing.update(trace.missing)
            self._on_the_way.setdefault(trace_id, {})[node.span.span_id] = node.key
        if not exchanges and not known:
            self._stats.foreign += 1
        own = {exchange.judged[1] for exchange in exchanges}
        rest += [node.key for node in nodes.values() if node.span.span_id not in own]
        return Assembled(exchanges, rest)


class _Node(NamedTuple, Generic[Key]):
    """A span, with what log records added to it. `recorded` is false where there are only log records."""

    key: Key
    span: Span
    recorded: bool


def _merge(pieces: Iterable[tuple[Key, Span]]) -> tuple[dict[str, _Node[Key]], list[Key]]:
    """Return one node per span, by span id and in order of start, and the keys of all further pieces."""
    by_span: dict[str, list[tuple[Key, Span]]] = {}
    for key, span in sorted(pieces, key=lambda p: (p[1].step.start, p[1].partial)):
        by_span.setdefault(span.span_id, []).append((key, span))
    nodes, further = {}, []
    for span_id, several in by_span.items():
        key, first = next((p for p in several if not p[1].partial), several[0])
        parts = [span for _, span in several if span.partial and span is not first]
        nodes[span_id] = _Node(key, _with_parts(first, parts), not first.partial)
        further += [k for k, span in several if span is not first]
    return nodes, further


def _with_parts(span: Span, parts: Sequence[Span]) -> Span:
    """Add what log records hold: their messages where the span has none, their responses likewise."""
    said = [part.exchange for part in parts if part.exchange is not None]
    if not said:
        return span
    own = span.exchange or msgspec.structs.replace(said[0], messages=(), response="")
    messages: tuple[Message, ...] = own.messages
    if not messages:
        # An event of the whole exchange repeats what events of single messages say.
        whole = max(said, key=lambda each: len(each.messages)).messages
        messages = whole if len(whole) > 1 else tuple(m for each in said for m in each.messages)
    responses = [text for each in said if (text := each.response)]
    response, *others = [own.response, *responses] if own.response else responses or [""]
    others += [text for each in said for text in each.alternatives]
    others = [text for text in dict.fromkeys(others) if text != response]
    calls = own.tool_calls or next((each.tool_calls for each in said if each.tool_calls), ())
    exchange = msgspec.structs.replace(
        own,
        messages=messages,
        response=response,
        tool_calls=calls,
        alternatives=own.alternatives or tuple(others),
        finish_reason=own.finish_reason or next((e.finish_reason for e in said if e.finish_reason), ""),
    )
    return msgspec.structs.replace(span, exchange=exchange)


def _exchanges(
    trace_id: str, nodes: Mapping[str, _Node[Key]], *, late: bool
) -> Iterator[tuple[_Node[Key], Trace]]:
    """Find what is to be judged in a trace, and complete each from the other spans."""
    spans = {span_id: node.span for span_id, node in nodes.items()}
    subjects = _inferences(spans)
    lacks: tuple[Missing, ...] = (Missing.EARLIER_SPANS,) if late else _holes(nodes)
    if not subjects and not late:
        subjects = _stand_ins(trace_id, spans)
        lacks = (Missing.INFERENCE, *lacks)
    last = max(subjects, key=lambda span: span.end, default=None)
    ended = max(span.end for span in spans.values())
    for subject in subjects:
        node, exchange = nodes[subject.span_id], subject.exchange
        if exchange is None:
            continue
        trace = _with_context(exchange, subject, spans)
        if subject is last:
            trace = _with_run(trace, subject, spans)
        missing = [*lacks]
        if not node.recorded:
            missing.append(Missing.SPAN)
        if subject.elsewhere and not exchange.response:
            missing.append(Missing.CONTENT)
        yield node, msgspec.structs.replace(trace, missing=tuple(missing), ended=ended)


def _inferences(spans: Mapping[str, Span]) -> list[Span]:
    """Calls of a model, each once, and the answers of agents that are no model's words."""
    calls = [s for s in spans.values() if s.step.kind is StepKind.CHAT and s.exchange is not None]
    # A framework and the client library beneath it may both report one call.
    outer = {s.span_id: next(_ancestors(s, spans, {StepKind.CHAT}), None) for s in calls}
    once = [s for s in calls if not (above := outer[s.span_id]) or _response(above) != _response(s)]
    said = [_response(s) for s in once]
    for span in spans.values():
        own = _response(span) if once and span.step.kind is StepKind.AGENT else ""
        if own and not any(text and (text in own or own in text) for text in said):
            once.append(span)
            said.append(own)
    return once


def _stand_ins(trace_id: str, spans: Mapping[str, Span]) -> list[Span]:
    """Stand-in where no call of a model arrived: the outermost answer, else any of its spans without one."""
    ours = [span for span in spans.values() if span.step.kind is not StepKind.OTHER]
    answered = [span for span in ours if _response(span)]
    if answered:
        return [min(answered, key=lambda span: (sum(1 for _ in _ancestors(span, spans)), span.step.start))]
    if not ours:
        return []
    span = next((span for span in ours if not span.parent_id), ours[0])
    empty = Trace(
        id=f"{trace_id}:{span.span_id}",
        time=span.step.start,
        response="",
        app=span.app,
        environment=span.environment,
        trace_id=trace_id,
        span_id=span.span_id,
    )
    return [msgspec.structs.replace(span, exchange=span.exchange or empty)]


def _holes(nodes: Mapping[str, _Node[Key]]) -> tuple[Missing, ...]:
    spans = [node.span for node in nodes.values() if node.recorded]
    orphans = {span.parent_id for span in spans if span.parent_id and span.parent_id not in nodes}
    rooted = any(not span.parent_id for span in spans)
    if not rooted:
        return (Missing.ROOT, Missing.PARENT) if len(orphans) > 1 else (Missing.ROOT,)
    return (Missing.PARENT,) if orphans else ()


def _with_context(exchange: Trace, span: Span, spans: Mapping[str, Span]) -> Trace:
    """Add the documents and tool results that were there before a call began, or before an agent answered."""
    until = span.step.start if span.step.kind is StepKind.CHAT else span.end
    before = [s for s in spans.values() if s.step.start <= until and s is not span]
    own = {call.id: call for call in exchange.tool_calls if call.id}
    ran = {s.call.id: s.call for s in spans.values() if s.call is not None and s.call.id in own}
    calls = [s.call for s in before if s.call is not None and s.call.id not in own]
    calls += [ran.get(call.id, call) for call in exchange.tool_calls]
    documents: list[Document] = [document for s in before for document in s.documents]
    if not documents and tuple(calls) == exchange.tool_calls:
        return exchange
    context = (*exchange.context, *(d for d in documents if d not in exchange.context))
    tool_calls: tuple[ToolCall, ...] = tuple(calls)
    return msgspec.structs.replace(exchange, context=context, tool_calls=tool_calls)


def _with_run(exchange: Trace, span: Span, spans: Mapping[str, Span]) -> Trace:
    """Add the steps of the run that a trace is, if it is one: an agent's, or with tools."""
    kinds = {s.step.kind for s in spans.values()}
    if kinds.isdisjoint({StepKind.AGENT, StepKind.WORKFLOW, StepKind.TOOL, StepKind.HANDOFF}):
        return exchange
    ours = [s for s in spans.values() if s.step.kind is not StepKind.OTHER]
    index = {s.span_id: i for i, s in enumerate(ours)}
    steps: list[Step] = []
    for s in ours:
        parent = next(_ancestors(s, spans), None)
        steps.append(
            msgspec.structs.replace(
                s.step,
                parent=index[parent.span_id] if parent else -1,
                output=s.step.output or _response(s),
            )
        )
    agents = [*_ancestors(span, spans, {StepKind.AGENT}), *(s for s in ours if s.step.kind is StepKind.AGENT)]
    agent = span if span.step.kind is StepKind.AGENT else next(iter(agents), None)
    name = agent.step.name if agent else ""
    return msgspec.structs.replace(exchange, steps=tuple(steps), agent=name or exchange.agent)


def _ancestors(
    span: Span, spans: Mapping[str, Span], kinds: Iterable[StepKind] = frozenset(StepKind) - {StepKind.OTHER}
) -> Iterator[Span]:
    """Spans of these kinds that a span ran under, nearest first; ends where a cycle would begin."""
    seen = {span.span_id}
    above = spans.get(span.parent_id)
    while above is not None and above.span_id not in seen:
        seen.add(above.span_id)
        if above.step.kind in kinds:
            yield above
        above = spans.get(above.parent_id)


def _response(span: Span) -> str:
    return span.exchange.response.strip() if span.exchange else ""


class _Memory:
    """The latest judged exchanges, in buckets that are stored as a whole when one is added."""

    def __init__(self) -> None:
        self._latest: deque[Judged] = deque()
        self._spans: dict[str, set[str]] = {}
        self._end = 0  # number of the next one

    def spans(self, trace_id: str) -> set[str]:
        return self._spans.get(trace_id, set())

    def add(self, judged: Iterable[Judged]) -> None:
        for trace_id, span_id in judged:
            self._latest.append((trace_id, span_id))
            self._spans.setdefault(trace_id, set()).add(span_id)
            self._end += 1
        while len(self._latest) > REMEMBERED:
            trace_id, span_id = self._latest.popleft()
            spans = self._spans.get(trace_id, set())
            spans.discard(span_id)
            if not spans:
                self._spans.pop(trace_id, None)

    def snapshot(self, judged: Sequence[Judged]) -> dict[str, bytes]:
        begin = self._end - self._end % BUCKET  # of the bucket that is being filled
        kept = self._end - begin
        entries = [self._latest[i - kept] for i in range(kept)] + list(judged) if judged else []
        stored = {}
        for i in range(0, len(entries), BUCKET):
            first = begin + i
            name = f"{PREFIX}{first // BUCKET % (REMEMBERED // BUCKET)}"
            stored[name] = msgspec.msgpack.encode((first, entries[i : i + BUCKET]))
        return stored

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        stored = [
            msgspec.msgpack.decode(body, type=tuple[int, list[Judged]])
            for name, body in snapshots.items()
            if name.startswith(PREFIX)
        ]
        for first, entries in sorted(stored):
            self._end = first
            self.add(entries)
