"""Nodes of a trace: each span once, completed from its repeats and its log records."""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from monitor.assembly.sides import joined, merged
from monitor.trace import Span, Trace

Key = TypeVar("Key")


class Node(NamedTuple, Generic[Key]):
    """A span, completed from its log records, and the keys of its pieces, the span's own first.

    `recorded` is false where only log records arrived.
    """

    keys: tuple[Key, ...]
    span: Span
    recorded: bool


def nodes_by_span(pieces: Iterable[tuple[Key, Span]]) -> dict[str, Node[Key]]:
    """Return one node per span, by span id and in order of start.

    Instrumentations that keep texts out of spans send them as log records with the span's id: partial spans.
    """
    nodes: dict[str, Node[Key]] = {}
    again: dict[str, list[tuple[Key, Span]]] = {}
    for key, span in sorted(pieces, key=_place):
        known = nodes.get(span.span_id)
        if known is None:
            nodes[span.span_id] = Node((key,), span, not span.partial)
        else:
            again.setdefault(span.span_id, [(known.keys[0], known.span)]).append((key, span))
    for span_id, same in again.items():
        nodes[span_id] = _node(same)
    return nodes


def _place(piece: tuple[Any, Span]) -> tuple[float, bool]:
    return piece[1].step.start, piece[1].partial


def _node(same: Sequence[tuple[Key, Span]]) -> Node[Key]:
    ordered = sorted(same, key=lambda piece: piece[1].partial)
    keys = tuple([key for key, _ in ordered])
    span = ordered[0][1]
    return Node(keys, _completed(span, [each for _, each in ordered]), not span.partial)


def _completed(span: Span, pieces: Sequence[Span]) -> Span:
    """Complete a span from its repeats and log records: of each side the fuller text counts, once."""
    own = [piece.exchange for piece in pieces if piece.exchange is not None and not piece.partial]
    parts = _distinct([piece.exchange for piece in pieces if piece.exchange is not None and piece.partial])
    witnesses = [*own, joined(parts)] if parts else own
    if not witnesses:
        return span
    return msgspec.structs.replace(span, exchange=merged(witnesses[0], witnesses))


def _distinct(parts: Iterable[Trace]) -> list[Trace]:
    """Leave out log records that arrived twice."""
    return list({(p.time, p.messages, p.response, p.alternatives, p.tool_calls): p for p in parts}.values())
