"""A finding in one text, and which of several findings in the same place count."""

from collections.abc import Iterable
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


def overlap(a: EntitySpan, b: EntitySpan) -> bool:
    """Return whether two spans share a character."""
    return a.start < b.end and b.start < a.end
