"""Which sources a call is given, where there are more than it may have: those nearest to it.

Each call of a model may rest on all that came before it, so a trace of as many sources as calls would be work
in proportion to their square. A source that no call was given yet is given within the bounds of one call; all
together get only some times what their trace holds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from monitor.assembly.calls import ModelCall
from monitor.assembly.tree import Tree
from monitor.assembly.waiting import Bounds
from monitor.trace import Document, Span, StepKind, ToolCall, Unreadable

_CHAT = StepKind.CHAT  # members of an enumeration are looked up slowly (Python 3.11)
_FEW: Final = 16  # calls that are each given as much as one may have, whatever their trace holds
_TIMES: Final = 8  # as much as their trace holds, all calls together


def start(span: Span) -> float:
    """Return when a span began, Unix seconds."""
    return span.step.start


def _size(span: Span) -> int:
    """Return how many characters a span gives to a call that rests on it."""
    call = span.call
    of_call = 0 if call is None else len(call.name) + len(call.id) + len(call.arguments) + len(call.result)
    return of_call + sum(len(each.id) + len(each.content) for each in span.documents)


def _within(span: Span, bounds: Bounds) -> Span:
    """Return a span with no more than one call may have: its first documents, the beginning of a text."""
    call, most = span.call, bounds.max_sources - (span.call is not None)
    if len(span.documents) <= most and _size(span) <= bounds.max_source_chars:
        return span
    room = bounds.max_source_chars
    if call is not None:
        room = max(0, room - len(call.name) - len(call.id))
        arguments = call.arguments[:room]
        result = call.result[: room - len(arguments)]
        call = ToolCall(call.name, arguments, result, call.id, call.error)
        room -= len(arguments) + len(result)
    documents: list[Document] = []
    for document in span.documents[:most]:
        room -= len(document.id)
        if room <= 0:
            break
        documents.append(Document(document.id, document.content[:room], document.score))
        room -= len(document.content)
    return msgspec.structs.replace(span, call=call, documents=tuple(documents))


class Window(NamedTuple):
    """The sources of a call by their places: those before `begin` from `first` on, and `later` ones.

    `room` is how many characters more the call may be given. `documents` says why it lacks some, None where
    it does not, and `results` whether it lacks results of tools.
    """

    first: int
    begin: int
    later: Sequence[int]
    room: int
    documents: Unreadable | None
    results: bool


class _Room(NamedTuple):
    """How many documents and results, and characters of them, a call may be given."""

    items: int
    chars: int

    def holds(self, items: int, chars: int) -> bool:
        return items <= self.items and chars <= self.chars

    def less(self, items: int, chars: int) -> "_Room":
        return _Room(max(0, self.items - items), max(0, self.chars - chars))


class Nearest:
    """The sources of a trace, in order of start; a source's place is that among `spans`."""

    def __init__(self, tree: Tree, spans: Sequence[Span], bounds: Bounds) -> None:
        self._tree = tree
        self._bounds = bounds
        self.spans = [_within(span, bounds) for span in spans]
        self._starts = [span.step.start for span in spans]
        # Of the sources before each place: how many documents and calls they are, and their characters.
        counts = (max(1, len(span.documents) + (span.call is not None)) for span in self.spans)
        self._items = [0, *accumulate(counts)]
        self._chars = [0, *accumulate(map(_size, self.spans))]
        self._documents = [place for place, span in enumerate(spans) if span.documents]
        self._calls = [place for place, span in enumerate(spans) if span.call is not None]
        both = zip(spans, self.spans, strict=True)
        cut = [(place, *pair) for place, pair in enumerate(both) if pair[0] is not pair[1]]
        self._cut_documents = {place for place, whole, left in cut if whole.documents != left.documents}
        self._cut_calls = {place for place, whole, left in cut if whole.call != left.call}
        self._given: set[int] = set()  # places that calls were given although they came later
        self._in_tree: list[tuple[int, int]] = []  # place in the tree, and here; made when it is needed

    def windows(self, calls: Sequence[ModelCall]) -> Iterator[tuple[int, Window]]:
        """Yield a window for each call, with its number, in the order of what came before them.

        An answer cannot rest on a result that arrived after its call began, unless it ran under that call:
        models with tools of their own record it so. Clocks of two machines differ a little, and so do what
        two libraries call the begin.
        """
        whole = _Room(self._bounds.max_sources, self._bounds.max_source_chars)
        held = sum(span.size for span in self._tree.spans.values())
        share = _Room(
            min(whole.items, max(_FEW * whole.items, _TIMES * len(self._tree.spans)) // len(calls)),
            min(whole.chars, max(_FEW * whole.chars, _TIMES * held) // len(calls)),
        )
        begins = [
            bisect_right(
                self._starts, call.span.step.start if call.span.step.kind is _CHAT else call.span.end
            )
            for call in calls
        ]
        known = 0
        for number in sorted(range(len(calls)), key=begins.__getitem__):
            yield number, self._window(calls[number], begins[number], known, whole, share)
            known = begins[number]

    def _window(self, call: ModelCall, begin: int, known: int, whole: _Room, share: _Room) -> Window:
        """Choose from what came before the place `begin`; calls were given, or lack, all before `known`."""
        room = share
        chosen: list[int] = []
        over = False
        if call.span.step.kind is _CHAT and begin < len(self._starts):
            later, over = self._later(call, begin)
            for place in reversed(later):
                size = self._size(place, place + 1)
                if not (room if place in self._given else whole).holds(*size):
                    over = True
                    break
                room, whole = room.less(*size), whole.less(*size)
                chosen.append(place)
            chosen.reverse()
            self._given.update(chosen)
        first = begin
        if not over:
            first = min(self._first(begin, room, 0), self._first(begin, whole, min(known, begin)))
        chars = self._size(first, begin)[1] + sum(self._size(place, place + 1)[1] for place in chosen)
        return Window(
            first,
            begin,
            chosen,
            max(0, share.chars - chars),
            self._lacks_documents(first, begin, known, chosen, over=over),
            bool(self._calls)
            and (over or self._calls[0] < first or _touches(self._cut_calls, first, begin, chosen)),
        )

    def _size(self, first: int, end: int) -> tuple[int, int]:
        return self._items[end] - self._items[first], self._chars[end] - self._chars[first]

    def _first(self, begin: int, room: _Room, least: int) -> int:
        """Return the first place from which on all before `begin` fits, `least` at least."""
        first = bisect_left(self._items, self._items[begin] - room.items, least, begin)
        return bisect_left(self._chars, self._chars[begin] - room.chars, first, begin)

    def _later(self, call: ModelCall, begin: int) -> tuple[Sequence[int], bool]:
        """Return what came to a call after it began, by place, and whether there is more than may be."""
        subject, most = call.span, self._bounds.max_sources
        skewed = subject.step.start + self._bounds.skew_seconds
        if begin == bisect_right(self._starts, max(skewed, call.end), begin):
            return (), False
        beside = range(begin, min(bisect_right(self._starts, skewed, begin), begin + most))
        found = {place for place in beside if self.spans[place].end <= subject.end}
        if not self._in_tree:
            places = ((self._tree.extent(span.span_id)[0], place) for place, span in enumerate(self.spans))
            self._in_tree = sorted(places)
        outer, outer_end = self._tree.extent(call.scope)
        low = bisect_left(self._in_tree, (outer + 1, 0))
        high = bisect_left(self._in_tree, (outer_end, 0), low)
        last = bisect_right(self._starts, call.end, begin)
        below = self._in_tree[max(low, high - most) : high]
        found.update(place for _, place in below if begin <= place < last)
        return sorted(found), high - low > most

    def _lacks_documents(
        self, first: int, begin: int, known: int, later: Sequence[int], *, over: bool
    ) -> Unreadable | None:
        """Return why a call lacks documents: another one has them, or none does, so no detector sees them."""
        if not self._documents:
            return None
        low, high = (bisect_left(self._documents, place) for place in (min(known, first), first))
        lost = any(place not in self._given for place in self._documents[low:high])
        if lost or over or _touches(self._cut_documents, first, begin, later):
            return Unreadable.TOO_MUCH
        return Unreadable.LEFT_OUT if high else None


def _touches(cut: set[int], first: int, begin: int, later: Sequence[int]) -> bool:
    """Return whether one of these places is among those that hold more than one call may be given."""
    return bool(cut) and not cut.isdisjoint((*range(first, begin), *later))
