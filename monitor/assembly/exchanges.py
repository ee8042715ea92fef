"""Exchanges of one trace: its model calls, each completed from the other spans."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from monitor.assembly.calls import ModelCall, calls_of
from monitor.assembly.nodes import Node
from monitor.assembly.sides import answered, asked
from monitor.assembly.sources import Sources, fold_tools
from monitor.assembly.tree import Tree
from monitor.assembly.waiting import Bounds
from monitor.trace import RETURNS, RUNS, Missing, Side, Span, Step, StepKind, Trace, Unread, Unreadable, Usage

# Members of an enumeration are looked up slowly (Python 3.11).
_OTHER, _TOOL, _AGENT, _CHAT, _RETRIEVAL, _PARENT, _ROOT, _SPAN, _CONTENT = (
    StepKind.OTHER,
    StepKind.TOOL,
    StepKind.AGENT,
    StepKind.CHAT,
    StepKind.RETRIEVAL,
    Missing.PARENT,
    Missing.ROOT,
    Missing.SPAN,
    Missing.CONTENT,
)

_RUNS = RUNS | {StepKind.RETRIEVAL}
_CALLERS = frozenset({StepKind.AGENT, StepKind.HANDOFF, StepKind.RETRIEVAL})
_FOREIGN = tuple(Unread(side, Unreadable.FOREIGN) for side in (Side.PROMPT, Side.RESPONSE))
_NOT_GIVEN = Unread(Side.TOOL_RESULTS, Unreadable.LEFT_OUT)
_UNCAPTURED = frozenset(Unread(side, Unreadable.NO_CONTENT) for side in (Side.PROMPT, Side.RESPONSE))


class Made(NamedTuple):
    """An exchange: the span that it is made of, its trace, and all spans that tell of the same call."""

    span_id: str
    trace: Trace
    members: Sequence[str]


class Making(NamedTuple):
    """The exchanges of a trace. `lacking`: something that one of them needs is known to exist and may come.

    `foreign`: no span is of a language model that is known.
    """

    exchanges: Sequence[Made]
    lacking: bool
    foreign: bool


def exchanges_of(
    trace_id: str,
    nodes: Mapping[str, Node[Any]],
    bounds: Bounds,
    *,
    late: bool = False,
    early: bool = False,
    piece: bool = False,
    stand_in: bool = True,
) -> Making:
    """Return the exchanges of a trace, each completed from the other spans.

    `late`: earlier spans of the trace were judged already, and are not among these; `early`: later ones will
    be judged without these. With `stand_in` a trace without a call of a model has an exchange that stands in
    for it, if any of it is about a model; in a `piece` of one, each answer is judged, as its call may be in
    another.
    """
    tree = Tree({span_id: node.span for span_id, node in nodes.items()})
    kinds = [span.step.kind for span in tree.spans.values()]
    foreign = kinds.count(_OTHER) == len(kinds)
    calls: list[ModelCall] = []
    folded: set[str] = set()
    if not foreign:
        calls, folded = calls_of(tree, piece=piece)
        if kinds.count(_TOOL) > 1:
            folded |= fold_tools(tree)
    lacks: tuple[Missing, ...] = (Missing.EARLIER_SPANS,) if late else _missing_ancestors(nodes)
    lacks += (Missing.LATER_SPANS,) if early else ()
    parent_missing = _PARENT in lacks
    if not calls and stand_in:
        calls = _stand_ins(trace_id, tree)
        lacks = (Missing.INFERENCE, *lacks)
    if not calls:
        return Making((), lacking=False, foreign=foreign)
    spans = tree.spans
    given = Sources(tree, folded, bounds).given_to(calls)
    owners = tree.owners()
    ended = max([span.end for span in spans.values()])
    is_run = not _RUNS.isdisjoint(kinds)
    # Calls may run side by side, and none is marked as the run's answer. An application that waits for all of
    # them answers after the last one has ended, so that one is taken.
    last = max(calls, key=lambda call: call.span.end) if len(calls) > 1 else calls[0]
    made = []
    lacking = parent_missing or foreign
    for call, exchange in zip(calls, given, strict=True):
        span_id = call.span.span_id
        # A run is judged once, with the answer that ended it; its earlier calls are judged individually.
        run = _run(call, exchange, calls, tree, folded) if call is last and is_run else {}
        conversation, user = owners.get(span_id, ("", ""))
        missing = [*lacks]
        if not nodes[span_id].recorded:
            missing.append(_SPAN)
        if exchange.blind():
            missing.append(_CONTENT)
        trace = msgspec.structs.replace(
            exchange,
            missing=tuple(missing),
            ended=ended,
            conversation=exchange.conversation or conversation,
            user=exchange.user or user,
            **run,
        )
        made.append(Made(span_id, trace, call.members))
        lacking = lacking or (bool(trace.unread) and not _UNCAPTURED.isdisjoint(trace.unread))
    if len(made) > 1:
        made.sort(key=lambda each: each.trace.time)
    if not lacking and not RETURNS.isdisjoint(kinds):
        steps = [span for span in spans.values() if span.step.kind in RETURNS]
        lacking = any(_lacks_result(span) for span in steps if span.span_id not in folded)
    return Making(made, lacking=lacking, foreign=foreign)


def _lacks_result(span: Span) -> bool:
    """Return whether what a step returned is not there, although it did not fail."""
    if span.step.error or span.unread:
        return False
    if span.step.kind is _RETRIEVAL:
        return not span.documents
    return span.step.kind is _TOOL and not (span.call and span.call.result)


def _stand_ins(trace_id: str, tree: Tree) -> list[ModelCall]:
    """Return the span to judge where no call of a model arrived: the outermost answer, else one without.

    Without spans about a language model there is none, unless one looks like a model's call of a kind that
    is not read.
    """
    spans = tree.spans
    ours = [span for span in spans.values() if span.step.kind is not _OTHER]
    for has_text in (answered, asked):
        with_text = [span for span in ours if span.exchange is not None and has_text(span.exchange)]
        if with_text:
            # The outermost answer is the one that left the application.
            depth = _depths(tree)
            span = min(with_text, key=lambda span: (depth[span.span_id], span.step.start))
            return [_standing(span, span.exchange, ours)]
    foreign = [] if ours else [span for span in spans.values() if span.foreign]
    if not foreign and not any(map(_wants_model, ours)):
        return []
    span = next((span for span in ours if not span.parent_id), (ours or foreign)[0])
    empty = Trace(
        id=f"{trace_id}:{span.span_id}",
        time=span.step.start,
        response="",
        app=span.app,
        environment=span.environment,
        trace_id=trace_id,
        span_id=span.span_id,
        unread=_FOREIGN if foreign else (),
    )
    return [_standing(span, span.exchange or empty, ours)]


def _wants_model(span: Span) -> bool:
    """Return whether a step shows that a model was called, although no call of one arrived.

    Building an index is a workflow without any. Some SDKs report each tool in a trace of its own: the calls
    of its conversation are judged with their own traces.
    """
    kind = span.step.kind
    return kind in _CALLERS or (kind is _TOOL and not span.conversation)


def _standing(span: Span, exchange: Trace | None, ours: Sequence[Span]) -> ModelCall:
    assert exchange is not None
    # A text that comes late may be another agent's: it revises what stood in.
    others = [each.span_id for each in ours if each.exchange is not None and each is not span]
    return ModelCall(span, exchange, span.end, [span.span_id, *others], span.span_id)


def _depths(tree: Tree) -> dict[str, int]:
    """Return by how many spans about a model each span is run."""
    depth: dict[str, int] = {}
    for span_id in tree.order:
        above = tree.above.get(span_id, "")
        counts = bool(above) and tree.spans[above].step.kind is not _OTHER
        depth[span_id] = depth.get(above, 0) + counts
    return depth


def _missing_ancestors(nodes: Mapping[str, Node[Any]]) -> tuple[Missing, ...]:
    """Return whether the root, or the parent of another span, did not arrive.

    Without a root one parent that is unknown may be that root; only a second one is missing as well.
    """
    parents = {node.span.parent_id for node in nodes.values() if node.recorded}
    rooted = "" in parents
    orphans = [parent for parent in parents if parent and parent not in nodes]
    if not rooted:
        # The spans below a root that did not arrive name it as their parent: one loss, not two.
        return (_ROOT, _PARENT) if len(orphans) > 1 else (_ROOT,)
    return (_PARENT,) if orphans else ()


def _run(
    call: ModelCall, given: Trace, calls: Sequence[ModelCall], tree: Tree, folded: set[str]
) -> dict[str, Any]:
    """Return the steps of the run that a call ended, its agent, and what is still unread of `given`."""
    spans = tree.spans
    # Spans about no model are left out, so a step's parent is the nearest ancestor that is kept.
    ours = [s for s in spans.values() if s.step.kind is not _OTHER and s.span_id not in folded]
    index = {span.span_id: number for number, span in enumerate(ours)}
    # Where all are ours, the nearest one above is the parent.
    nearest = tree.nearest(index) if len(ours) < len(spans) else dict(zip(index, index, strict=True))
    traces = {each.span.span_id: each.trace for each in calls}
    steps: list[Step] = []
    for span in ours:
        above = nearest.get(tree.above.get(span.span_id, ""), "")
        exchange = traces.get(span.span_id) or span.exchange
        steps.append(_step(span.step, exchange, index[above] if above else -1))
    agent: str | None = call.span.span_id
    while agent and spans[agent].step.kind is not _AGENT:
        agent = tree.above.get(agent)
    agent = agent or next((span.span_id for span in ours if span.step.kind is _AGENT), "")
    name = spans[agent].step.name if agent else ""
    # What a call was not given of its tools, it has here.
    unread = tuple([each for each in given.unread if each != _NOT_GIVEN])
    return {"steps": tuple(steps), "agent": name or call.trace.agent, "unread": unread}


def _step(step: Step, exchange: Trace | None, parent: int) -> Step:
    """Return a step in its place; what its span does not say is told by its exchange."""
    if exchange is None:
        return msgspec.structs.replace(step, parent=parent)
    usage = exchange.usage if step.kind is _CHAT else None
    of = usage or Usage()
    return msgspec.structs.replace(
        step,
        parent=parent,
        input=step.input or exchange.question(),
        output=step.output or exchange.response.strip(),
        input_tokens=of.input_tokens if step.input_tokens is None else step.input_tokens,
        output_tokens=of.output_tokens if step.output_tokens is None else step.output_tokens,
    )
