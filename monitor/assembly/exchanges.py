"""Exchanges of one trace: its spans joined with their log records, and completed from each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from monitor.trace import Document, Message, Missing, Span, Step, StepKind, ToolCall, Trace

Key = TypeVar("Key")


class Node(NamedTuple, Generic[Key]):
    """A span, completed from its log records. `recorded` is false where only log records arrived."""

    key: Key
    span: Span
    recorded: bool


def nodes_by_span(pieces: Iterable[tuple[Key, Span]]) -> tuple[dict[str, Node[Key]], list[Key]]:
    """Return one node per span, by span id and in order of start, and the keys of all further pieces.

    Instrumentations that keep texts out of spans send them as log records with the span's id: partial spans.
    """
    by_span: dict[str, list[tuple[Key, Span]]] = {}
    for key, span in sorted(pieces, key=lambda p: (p[1].step.start, p[1].partial)):
        by_span.setdefault(span.span_id, []).append((key, span))
    nodes, further = {}, []
    for span_id, same in by_span.items():
        key, first = next((p for p in same if not p[1].partial), same[0])
        parts = [span for _, span in same if span.partial and span is not first]
        nodes[span_id] = Node(key, _with_parts(first, parts), not first.partial)
        further += [k for k, span in same if span is not first]
    return nodes, further


def _with_parts(span: Span, parts: Sequence[Span]) -> Span:
    """Complete a span: where it has no messages or response, take those of its log records."""
    recorded = [part.exchange for part in parts if part.exchange is not None]
    if not recorded:
        return span
    own = span.exchange or msgspec.structs.replace(recorded[0], messages=(), response="")
    messages: tuple[Message, ...] = own.messages
    if not messages:
        # An event of the whole exchange repeats the events of single messages.
        whole = max(recorded, key=lambda each: len(each.messages)).messages
        messages = whole if len(whole) > 1 else tuple(m for each in recorded for m in each.messages)
    responses = [text for each in recorded if (text := each.response)]
    response, *others = [own.response, *responses] if own.response else responses or [""]
    others += [text for each in recorded for text in each.alternatives]
    others = [text for text in dict.fromkeys(others) if text != response]
    calls = own.tool_calls or next((each.tool_calls for each in recorded if each.tool_calls), ())
    exchange = msgspec.structs.replace(
        own,
        messages=messages,
        response=response,
        tool_calls=calls,
        alternatives=own.alternatives or tuple(others),
        finish_reason=own.finish_reason or next((e.finish_reason for e in recorded if e.finish_reason), ""),
    )
    return msgspec.structs.replace(span, exchange=exchange)


def exchanges_of(
    trace_id: str, nodes: Mapping[str, Node[Key]], *, late: bool
) -> Iterator[tuple[Node[Key], Trace]]:
    """Yield the exchanges of a trace, each completed from the other spans.

    `late`: earlier spans of the trace were judged already.
    """
    spans = {span_id: node.span for span_id, node in nodes.items()}
    subjects = _inferences(spans)
    lacks: tuple[Missing, ...] = (Missing.EARLIER_SPANS,) if late else _missing_ancestors(nodes)
    # Late spans get no stand-in: the call of their trace was judged before, so nothing is missing.
    if not subjects and not late:
        subjects = _stand_ins(trace_id, spans)
        lacks = (Missing.INFERENCE, *lacks)
    # Calls may run side by side, and none is marked as the run's answer. An application that waits for all of
    # them answers after the last one has ended, so that one is taken.
    last = max(subjects, key=lambda span: span.end, default=None)
    ended = max(span.end for span in spans.values())
    for subject in subjects:
        node, exchange = nodes[subject.span_id], subject.exchange
        if exchange is None:
            continue
        trace = _with_context(exchange, subject, spans)
        # A run is judged once, with the answer that ended it; its earlier calls are judged individually.
        if subject is last:
            trace = _with_run(trace, subject, spans)
        missing = [*lacks]
        if not node.recorded:
            missing.append(Missing.SPAN)
        if trace.blind():
            missing.append(Missing.CONTENT)
        yield node, msgspec.structs.replace(trace, missing=tuple(missing), ended=ended)


def _inferences(spans: Mapping[str, Span]) -> list[Span]:
    """Return the calls of a model, each once, and agents' answers that no model gave."""
    calls = [s for s in spans.values() if s.step.kind is StepKind.CHAT and s.exchange is not None]
    # A framework and the client library below it may both report one call. The inner one goes where both
    # have the same answer; otherwise the outer one changed the answer, and both are judged.
    outer = {s.span_id: next(_ancestors(s, spans, {StepKind.CHAT}), None) for s in calls}
    inferences = [s for s in calls if not (above := outer[s.span_id]) or _response(above) != _response(s)]
    responses = [_response(s) for s in inferences]
    for span in spans.values():
        own = _response(span) if inferences and span.step.kind is StepKind.AGENT else ""
        # An agent mostly passes on a model's answer, framed or shortened: that one is judged already.
        if own and not any(text and (text in own or own in text) for text in responses):
            inferences.append(span)
            responses.append(own)
    return inferences


def _stand_ins(trace_id: str, spans: Mapping[str, Span]) -> list[Span]:
    """Return the span to judge where no call of a model arrived: the outermost answer, else one without.

    Without spans about a language model there is none.
    """
    ours = [span for span in spans.values() if span.step.kind is not StepKind.OTHER]
    answered = [span for span in ours if _response(span)]
    if answered:
        # The outermost answer is the one that left the application.
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


def _missing_ancestors(nodes: Mapping[str, Node[Key]]) -> tuple[Missing, ...]:
    """Return whether the root, or the parent of another span, did not arrive.

    Without a root one parent that is unknown may be that root; only a second one is missing as well.
    """
    spans = [node.span for node in nodes.values() if node.recorded]
    orphans = {span.parent_id for span in spans if span.parent_id and span.parent_id not in nodes}
    rooted = any(not span.parent_id for span in spans)
    if not rooted:
        # The spans below a root that did not arrive name it as their parent: one loss, not two.
        return (Missing.ROOT, Missing.PARENT) if len(orphans) > 1 else (Missing.ROOT,)
    return (Missing.PARENT,) if orphans else ()


def _with_context(exchange: Trace, span: Span, spans: Mapping[str, Span]) -> Trace:
    """Add the documents and tool results from before a call began, or before an agent answered."""
    # An answer cannot rest on a result that arrived after its call began.
    until = span.step.start if span.step.kind is StepKind.CHAT else span.end
    before = [s for s in spans.values() if s.step.start <= until and s is not span]
    # Calls that the exchange itself lists keep their order; the spans that ran them add the results.
    own = {call.id for call in exchange.tool_calls if call.id}
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
    """Add the steps of the run, if the trace is one: it has an agent, a workflow, a tool or a handoff."""
    kinds = {s.step.kind for s in spans.values()}
    if kinds.isdisjoint({StepKind.AGENT, StepKind.WORKFLOW, StepKind.TOOL, StepKind.HANDOFF}):
        return exchange
    # Spans about no model are left out, so a step's parent is the nearest ancestor that is kept.
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
    """Yield the spans of these kinds that a span ran under, nearest first; stop where a cycle would begin."""
    seen = {span.span_id}
    above = spans.get(span.parent_id)
    while above is not None and above.span_id not in seen:
        seen.add(above.span_id)
        if above.step.kind in kinds:
            yield above
        above = spans.get(above.parent_id)


def _response(span: Span) -> str:
    return span.exchange.response.strip() if span.exchange else ""
