"""A finding in one text, and which of several findings in the same place count."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple


class EntitySpan(NamedTuple):
    """An entity in one text: character offsets, entity type (Presidio's name where it has one), score."""

    start: int
    end: int
    kind: str
    score: float


def without_contained(spans: Iterable[EntitySpan]) -> list[EntitySpan]:
    """Drop a span inside another of its kind that scores as much: Presidio's `remove_duplicates`."""
    distinct: list[EntitySpan] = []
    alive: list[EntitySpan] = []
    for span in sorted(set(spans), key=lambda s: (s.kind, s.start, s.start - s.end, -s.score)):
        alive = [other for other in alive if other.kind == span.kind and other.end >= span.start]
        if not any(
            other.start <= span.start and span.end <= other.end and span.score <= other.score
            for other in alive
        ):
            distinct.append(span)
            alive.append(span)
    return distinct


class Index:
    """Spans of one text, searchable for those in a place in time logarithmic in their number."""

    def __init__(self, spans: Iterable[EntitySpan]) -> None:
        places = sorted((span.start, span.end) for span in spans)
        self._starts = [start for start, _ in places]
        self._reach = list(accumulate((end for _, end in places), max))  # of all that begin up to here

    def reach(self, before: int) -> int:
        """Return the furthest end of the spans that begin before an offset; -1 without one."""
        count = bisect_left(self._starts, before)
        return self._reach[count - 1] if count else -1

    def overlaps(self, span: EntitySpan) -> bool:
        """Return whether one of them shares a character with a span."""
        return self.reach(span.end) > span.start


class Kinds:
    """Spans by kind, searchable likewise."""

    def __init__(self, spans: Iterable[EntitySpan]) -> None:
        by_kind: defaultdict[str, list[EntitySpan]] = defaultdict(list)
        for span in spans:
            by_kind[span.kind].append(span)
        self._indexes = {kind: Index(of_kind) for kind, of_kind in by_kind.items()}
        self._apart: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)

    def repeat(self, span: EntitySpan) -> bool:
        """Return whether one of the same kind shares a character with a span."""
        index = self._indexes.get(span.kind)
        return index is not None and index.overlaps(span)

    def add_if_new(self, span: EntitySpan) -> bool:
        """Add a span unless it repeats one; return whether it was added."""
        added = self._apart[span.kind]
        at = bisect_left(added, (span.start, span.end))
        # Those added share no character with each other: only the two neighbours can share one with this.
        near = added[max(0, at - 1) : at + 1]
        if self.repeat(span) or any(start < span.end and span.start < end for start, end in near):
            return False
        insort(added, (span.start, span.end))
        return True
