"""The buffer of unfinished traces: decides when each is complete, and hands out its exchanges once."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from monitor.assembly.exchanges import Made, Making, exchanges_of
from monitor.assembly.kept import JudgedTexts, KeptSpans, ReadAnswers, RememberedTrace
from monitor.assembly.memory import ExchangeId, JudgedExchange, Memory
from monitor.assembly.nodes import Node, nodes_by_span
from monitor.assembly.sides import (
    answered,
    asked,
    blindness,
    gained,
    has_both,
    has_response_id,
    knows_answer,
    least,
)
from monitor.assembly.waiting import Bounds, WaitingTrace, follower, soon
from monitor.ports import AssemblyStats, Completion
from monitor.trace import Span, StepKind, Trace

Key = TypeVar("Key")

NEVER: Final = float("inf")
_MOST_NAMES: Final = 64  # values of a label that is counted by name; the rest are `other`
_KEPT_SHARE: Final = 4  # a quarter of the buffer's bytes for spans whose texts may still come
_BETWEEN: Final = 16  # spans of no model, as of a client, between two accounts of one call


class Exchange(NamedTuple, Generic[Key]):
    """A trace to judge, and the key of the span it is made of."""

    key: Key
    id: ExchangeId
    trace: Trace


class Assembled(NamedTuple, Generic[Key]):
    """A complete trace. The keys in `rest` are done when all of its exchanges are; without any, at once.

    `size` is that of its spans together.
    """

    exchanges: Sequence[Exchange[Key]]
    rest: Sequence[Key]
    size: int = 0


class _HandedOut(NamedTuple, Generic[Key]):
    """An exchange that is not recorded yet: what to remember of it, once per span of the call."""

    key: Key
    judged: Sequence[JudgedExchange]


class Assembler(Generic[Key]):
    """Buffers spans by trace. Times are monotonic seconds of one clock. Not thread-safe."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._groups: OrderedDict[str, WaitingTrace[Key]] = OrderedDict()  # oldest first
        self._filled: deque[tuple[str, WaitingTrace[Key]]] = deque()  # of as many spans as may be
        # Handed out, not recorded: by trace, then by span and revision.
        self._in_flight: dict[str, dict[tuple[str, int], _HandedOut[Key]]] = {}
        self._judged = Memory()
        self._kept = KeptSpans(bounds.max_bytes // _KEPT_SHARE, bounds.max_seconds)
        self._answers = ReadAnswers()
        self._texts = JudgedTexts()
        self._size = 0
        self._now = 0.0
        self._next = NEVER  # no trace is due earlier
        self._stats = AssemblyStats()

    def __len__(self) -> int:
        return len(self._groups) + len(self._filled)

    @property
    def stats(self) -> AssemblyStats:
        """The counts so far."""
        self._stats.waiting_traces, self._stats.waiting_bytes = len(self), self._size
        return self._stats

    def add(self, key: Key, span: Span, now: float) -> None:
        """Add a span to the group of its trace."""
        bounds, group = self._bounds, self._groups.get(span.trace_id)
        self._now = now
        if group is None:
            if self._handed_out(span.trace_id):
                group = WaitingTrace(now, soon(now, bounds), now + bounds.settle_seconds, Completion.LATE)
            else:
                due = now + bounds.timeout_seconds
                group = WaitingTrace(now, due, due, Completion.TIMEOUT)
            self._groups[span.trace_id] = group
        elif len(group.pieces) >= bounds.max_spans:
            self._filled.append((span.trace_id, self._groups.pop(span.trace_id)))
            group = self._groups[span.trace_id] = follower(group, now, bounds)
        group.add(key, span, now, bounds)
        self._size += span.size
        if span.exchange is not None:
            self._note_answer(span.exchange)
        if span.foreign:
            _count(self._stats.foreign_spans, span.foreign)
        # A due time that moved later leaves `_next` too early, which costs one extra scan of the groups.
        self._next = min(self._next, group.due)

    def due(self, now: float) -> list[Assembled[Key]]:
        """Return the traces that are complete, and the oldest ones while the buffer is over its bounds.

        Once those returned have `max_spans` spans together, the others that are complete come with the next
        call: it takes no longer than one trace may.
        """
        self._now = now
        complete = []
        room = self._bounds.max_spans
        while self._filled and (room > 0 or self._size > self._bounds.max_bytes):
            room -= len(self._filled[0][1].pieces)
            complete.append(self._complete(*self._filled.popleft(), Completion.SPANS))
        # Evict the oldest first: its spans have had the most time to arrive.
        while len(self._groups) > self._bounds.max_traces or self._size > self._bounds.max_bytes:
            complete.append(self._complete(*self._groups.popitem(last=False), Completion.FULL))
        if now >= self._next:
            for trace_id in [trace_id for trace_id, group in self._groups.items() if now >= group.due]:
                if room <= 0:
                    break
                group = self._groups[trace_id]
                made = self._make(trace_id, group)
                room -= len(made.nodes)
                if now < group.until and made.making.lacking:
                    group.due = group.until
                else:
                    del self._groups[trace_id]
                    complete.append(self._complete(trace_id, group, group.completion, made))
            self._next = min((group.due for group in self._groups.values()), default=NEVER)
        return complete

    def flush(self) -> list[Assembled[Key]]:
        """Return all traces: no more spans will come."""
        complete = [self._complete(*piece, Completion.SPANS) for piece in self._filled]
        self._filled.clear()
        while self._groups:
            complete.append(self._complete(*self._groups.popitem(last=False), Completion.ENDED))
        return complete

    def drop(self, gone: Callable[[Key], bool]) -> None:
        """Drop the parts whose partition was revoked: another daemon reads them."""
        for trace_id, handed_out in list(self._in_flight.items()):
            remaining = {of: each for of, each in handed_out.items() if not gone(each.key)}
            self._set_in_flight(trace_id, remaining)
        for _, group in (*self._groups.items(), *self._filled):
            pieces = [(key, span) for key, span in group.pieces if not gone(key)]
            size = sum(span.size for _, span in pieces)
            self._size += size - group.size
            group.pieces, group.size = pieces, size
        self._groups = OrderedDict((of, group) for of, group in self._groups.items() if group.pieces)
        self._filled = deque((of, group) for of, group in self._filled if group.pieces)

    def snapshot(self, judged: Sequence[ExchangeId]) -> Mapping[str, bytes]:
        """Return the state to store in the transaction of these exchanges' judgements. Changes nothing.

        The transaction may fail and be built again; once it is durable, call `recorded`.
        """
        return self._judged.snapshot(self._to_remember(judged))

    def recorded(self, judged: Sequence[ExchangeId]) -> None:
        """Note that the judgements of these exchanges are durable."""
        self._judged.add(self._to_remember(judged))
        for trace_id, span_id, revision in judged:
            handed_out = self._in_flight.get(trace_id, {})
            handed_out.pop((span_id, revision), None)
            self._set_in_flight(trace_id, handed_out)

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """Continue from stored snapshots."""
        self._judged.restore(snapshots)

    def _to_remember(self, judged: Iterable[ExchangeId]) -> list[JudgedExchange]:
        found: list[JudgedExchange] = []
        for each in judged:
            trace_id, span_id, revision = each
            handed_out = self._in_flight.get(trace_id, {}).get((span_id, revision))
            found += handed_out.judged if handed_out else [JudgedExchange(*each)]
        return found

    def _set_in_flight(self, trace_id: str, handed_out: dict[tuple[str, int], _HandedOut[Key]]) -> None:
        if handed_out:
            self._in_flight[trace_id] = handed_out
        else:
            self._in_flight.pop(trace_id, None)

    def _handed_out(self, trace_id: str) -> Mapping[str, JudgedExchange]:
        """Return the exchanges of a trace that were handed out before, each as it was last, by span id."""
        judged, in_flight = self._judged.spans(trace_id), self._in_flight.get(trace_id)
        if not in_flight:
            return judged
        found = dict(judged)
        for handed_out in in_flight.values():
            for each in handed_out.judged:
                known = found.get(each.span_id)
                if known is None or each.revision >= known.revision:
                    found[each.span_id] = each
        return found

    def _note_answer(self, trace: Trace) -> None:
        if has_response_id(trace) and (answered(trace) or asked(trace)):
            self._answers.add(trace.app, trace.id)

    def _make(self, trace_id: str, group: WaitingTrace[Key], *, filled: bool = False) -> "_Making[Key]":
        """Make the exchanges of a trace, with what is still known of it if it was judged before."""
        handed_out = self._handed_out(trace_id)
        piece = filled or group.follows
        kept = self._kept.of(trace_id) if handed_out and not piece else None
        if kept is not None and len(kept.spans) + len(group.pieces) > self._bounds.max_spans:
            kept = None
        pieces: list[tuple[Key | None, Span]] = [*group.pieces]
        if kept is not None:
            pieces += [(None, span) for span in kept.spans]
        nodes = nodes_by_span(pieces)
        # Late spans get no stand-in: the call of their trace was judged before, so nothing is missing, unless
        # it was judged without its texts and all that comes of them is an agent's.
        blind = any(each.blind for each in handed_out.values())
        stand_in = not handed_out or piece or (blind and any(_has_text(span) for _, span in pieces))
        making = exchanges_of(
            trace_id,
            nodes,
            self._bounds,
            late=group.follows or (bool(handed_out) and kept is None),
            early=filled,
            piece=piece,
            stand_in=stand_in,
        )
        return _Making(making, nodes, handed_out, kept)

    def _complete(
        self,
        trace_id: str,
        group: WaitingTrace[Key],
        completion: Completion,
        made: "_Making[Key] | None" = None,
    ) -> Assembled[Key]:
        filled = completion is Completion.SPANS
        making, nodes, handed_out, kept = made or self._make(trace_id, group, filled=filled)
        self._size -= group.size
        stats = self._stats
        stats.completions[completion] += 1
        if handed_out and not group.follows:
            stats.late += len(group.pieces)
            stats.late_sources += sum(bool(span.documents or span.call) for _, span in group.pieces)
        elif making.foreign:
            stats.foreign += 1
        spare = dict.fromkeys([key for key, _ in group.pieces])
        made_of = [(each, _keys(each, nodes)) for each in making.exchanges]
        if kept is not None:
            # What no new span is part of, an agent's new span completed: it takes a key that is left.
            made_of.sort(key=lambda pair: not pair[1])
        exchanges = []
        any_blind = False
        for each, own in made_of:
            blind = blindness(each.trace)
            any_blind |= blind > 0
            exchange = self._exchange(trace_id, each, own or spare, nodes, handed_out)
            if exchange is None or exchange.key not in spare:
                stats.repeated += bool(own)  # the broker or an exporter delivered its span again
                continue
            del spare[exchange.key]
            exchanges.append(exchange)
            self._hand_out(exchange, each.members, blind)
            if exchange.id.revision:
                _count(stats.revised, exchange.trace.app)
                stats.revised_seconds += self._now - kept.time if kept else 0.0
        if filled or group.follows:
            self._kept.forget(trace_id)
        elif any_blind or (kept is not None and not made_of):
            self._kept.add(trace_id, [span for _, span in group.pieces], self._now)
        elif kept is not None:
            self._kept.forget(trace_id)
        return Assembled(exchanges, list(spare), group.size)

    def _exchange(
        self,
        trace_id: str,
        made: Made,
        keys: Iterable[Key],
        nodes: Mapping[str, Node[Key | None]],
        handed_out: Mapping[str, JudgedExchange],
    ) -> Exchange[Key] | None:
        """Return what is to be judged under the first key, anew or as a revision; None if nothing is."""
        trace, id_ = made.trace, ExchangeId(trace_id, made.span_id)
        if handed_out:
            spans = dict.fromkeys((made.span_id, *made.members))
            known = [handed_out[span_id] for span_id in spans if span_id in handed_out]
            if known:
                # Calls that turn out to be one may have been judged as several.
                if not gained(least([each.blind for each in known]), trace):
                    return None
                first, revision = known[0], 1 + max(each.revision for each in known)
                id_ = ExchangeId(trace_id, first.judged_as or first.span_id, revision)
                trace = msgspec.structs.replace(trace, span_id=id_.span_id, revision=revision)
            # Of what is only kept, every call was handed out, or is another daemon's now.
            elif all(key is None for member in made.members for key in nodes[member].keys):
                return None
            if self._texts.span(trace_id, trace) in handed_out:
                return None
        if not id_.revision and self._seen(trace, made.span_id, nodes, handed_out):
            return None
        return next((Exchange(key, id_, trace) for key in keys), None)

    def _hand_out(self, exchange: Exchange[Key], members: Iterable[str], blind: int) -> None:
        (trace_id, span_id, revision), trace = exchange.id, exchange.trace
        judged = [
            JudgedExchange(trace_id, member, revision, blind, span_id if blind and member != span_id else "")
            for member in dict.fromkeys((span_id, *members))
        ]
        handed_out = self._in_flight.setdefault(trace_id, {})
        handed_out[span_id, revision] = _HandedOut(exchange.key, judged)
        if trace.missing:
            self._stats.missing.update(trace.missing)
        if len(judged) > 1:
            self._note_answer(trace)
        if has_both(blind):
            self._texts.add(trace_id, span_id, trace)

    def _seen(
        self,
        trace: Trace,
        span_id: str,
        nodes: Mapping[str, Node[Key | None]],
        handed_out: Mapping[str, JudgedExchange],
    ) -> bool:
        """Return whether an exchange without any text is one that was read elsewhere.

        An SDK's own span of a call may be in a trace of its own, or come after that of the framework around
        it was judged.
        """
        if asked(trace) or answered(trace) or not trace.unread:
            return False
        around = nodes[span_id].span.parent_id if handed_out else ""
        for _ in range(_BETWEEN):
            if around in handed_out or around not in nodes:
                break
            if nodes[around].span.step.kind is not StepKind.OTHER:
                break  # what a model calls below a tool is a call of its own
            around = nodes[around].span.parent_id
        known = handed_out.get(around)
        if known is not None and knows_answer(known.blind):
            return True
        return has_response_id(trace) and (trace.app, trace.id) in self._answers


class _Making(NamedTuple, Generic[Key]):
    """The exchanges of a trace, from which nodes they are, and what was handed out and kept of it before."""

    making: Making
    nodes: Mapping[str, Node[Key | None]]
    handed_out: Mapping[str, JudgedExchange]
    kept: RememberedTrace | None


def _keys(made: Made, nodes: Mapping[str, Node[Key | None]]) -> list[Key]:
    """Return the keys of an exchange's new pieces, its span's own first."""
    members: Iterable[str] = made.members
    if len(made.members) > 1:
        members = dict.fromkeys((made.span_id, *made.members))
    return [key for member in members for key in nodes[member].keys if key is not None]


def _has_text(span: Span) -> bool:
    return span.exchange is not None and (answered(span.exchange) or asked(span.exchange))


def _count(counts: Counter[str], name: str) -> None:
    """Count a name that senders choose: the first ones, then all others as one."""
    counts[name if name in counts or len(counts) < _MOST_NAMES else "other"] += 1
