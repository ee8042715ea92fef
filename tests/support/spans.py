"""Spans of made-up traces, and what an assembler makes of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from monitor.assembly import Assembled, Assembler, Bounds
from monitor.trace import Message, Side, Span, Step, StepKind, ToolCall, Trace, Unread, Unreadable, Usage

BOUNDS = Bounds(timeout_seconds=30, max_seconds=600, max_traces=100, max_bytes=10_000)
NO_PROMPT = Unread(Side.PROMPT, Unreadable.NO_CONTENT)
NO_ANSWER = Unread(Side.RESPONSE, Unreadable.NO_CONTENT)
CHAT, AGENT, WORKFLOW, TOOL, RETRIEVAL, OTHER = (
    StepKind.CHAT,
    StepKind.AGENT,
    StepKind.WORKFLOW,
    StepKind.TOOL,
    StepKind.RETRIEVAL,
    StepKind.OTHER,
)


def span(
    kind: StepKind, number: int, parent: int = 0, *, trace: str = "t", response: str = "", **fields: Any
) -> Span:
    """Span `number` of a trace; it starts at that second and takes half of one."""
    exchange = None
    if kind is CHAT or response:
        exchange = Trace(id=f"{trace}/{number}", time=number, response=response or f"answer {number}")
    start = fields.pop("start", float(number))
    return Span(
        trace_id=trace,
        span_id=str(number),
        parent_id=str(parent) if parent else "",
        step=Step(
            kind=kind, name=f"{kind} {number}", id=str(number), start=start, error=fields.pop("error", "")
        ),
        end=fields.pop("end", start + 0.5),
        exchange=fields.pop("exchange", exchange),
        **fields,
    )


def told(
    number: int, prompt: str = "", answer: str = "", *, trace: str = "t", call: str = "", **fields: Any
) -> Trace:
    """What span `number` says of a model's call; a side without text was not captured."""
    calls = (ToolCall(call, "{}"),) if call else ()
    unread = [] if prompt else [NO_PROMPT]
    unread += [] if answer or call else [NO_ANSWER]
    return Trace(
        id=fields.pop("id", f"{trace}:{number}"),
        time=float(number),
        trace_id=trace,
        span_id=str(number),
        messages=(Message("user", prompt),) if prompt else (),
        response=answer,
        tool_calls=calls,
        unread=fields.pop("unread", tuple(unread)),
        **fields,
    )


def log(number: int, prompt: str = "", answer: str = "", *, trace: str = "t", **fields: Any) -> Span:
    """A log record with texts of span `number`."""
    start = fields.pop("start", number + 0.1)
    return Span(
        trace_id=trace,
        span_id=str(number),
        step=Step(kind=CHAT, start=start),
        exchange=told(number, prompt, answer, trace=trace, **fields),
        partial=True,
    )


def counted(tokens: int = 14) -> Usage:
    """Counts of a call that had a prompt and an answer."""
    return Usage(20, tokens)


def assemble(spans: Sequence[Span], bounds: Bounds = BOUNDS) -> list[Assembled[int]]:
    """Add spans at one moment, keys being their places, and wait until all is complete."""
    assembler: Assembler[int] = Assembler(bounds)
    for key, each in enumerate(spans):
        assembler.add(key, each, 0.0)
    done: list[Assembled[int]] = []
    while len(assembler):
        done += assembler.due(1e6)
    return done


def exchanges(spans: Sequence[Span]) -> list[Trace]:
    """The exchanges of spans that all have arrived, in order of time."""
    made = [exchange.trace for done in assemble(spans) for exchange in done.exchanges]
    return sorted(made, key=lambda trace: trace.time)


def keys(done: Iterable[Assembled[int]]) -> list[int]:
    """All keys given back, sorted."""
    return sorted(
        key for each in done for key in (*each.rest, *(exchange.key for exchange in each.exchanges))
    )
