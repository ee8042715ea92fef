"""Nodes of a trace: each span once, completed from its repeats and its log records."""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from monitor.assembly.sides import joined, merged
from monitor.trace import RETURNS, Side, Span, ToolCall, Trace

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
    if span.step.kind in RETURNS:
        return _with_results(span, pieces)
    own = [piece.exchange for piece in pieces if piece.exchange is not None and not piece.partial]
    parts = _distinct([piece.exchange for piece in pieces if piece.exchange is not None and piece.partial])
    witnesses = [*own, joined(parts)] if parts else own
    if not witnesses:
        return span
    return msgspec.structs.replace(span, exchange=merged(witnesses[0], witnesses))


def _with_results(span: Span, pieces: Sequence[Span]) -> Span:
    """Complete a tool or a retrieval with what another of its pieces says of it: of each text the first."""
    documents = next((each.documents for each in pieces if each.documents), ())
    calls = [each.call for each in pieces if each.call is not None]
    call = span.call
    if len(calls) > 1:
        call = ToolCall(*(_first(calls, name) for name in ToolCall.__struct_fields__))
    steps = [each.step for each in pieces if each.step.kind is span.step.kind]
    step = msgspec.structs.replace(
        span.step, input=_first(steps, "input"), output=_first(steps, "output"), error=_first(steps, "error")
    )
    read = {Side.DOCUMENTS} if any(each.content for each in documents) else set()
    read |= {Side.TOOL_RESULTS} if call and call.result else set()
    unread = {each.side: each for piece in pieces for each in piece.unread if each.side not in read}
    return msgspec.structs.replace(
        span, step=step, call=call, documents=documents, unread=tuple(unread.values())
    )


def _first(pieces: Sequence[Any], name: str) -> Any:
    """Return a field of the first piece that has it, else as it is in the first one."""
    values = [getattr(each, name) for each in pieces]
    return next(filter(None, values), values[0])


def _distinct(parts: Iterable[Trace]) -> list[Trace]:
    """Leave out log records that arrived twice."""
    return list({(p.time, p.messages, p.response, p.alternatives, p.tool_calls): p for p in parts}.values())
