"""Spans between a wire format and a dialect: attributes as plain values in, what a dialect reads out.

A value of an attribute is str, bool, int, float, None, a list or a dict of these; bytes are base64 text.
"""

import sys
from typing import Any, NamedTuple

import msgspec

from monitor.errors import BadTrace
from monitor.ingest.identifiers import Names
from monitor.trace import Document, Message, Span, Step, StepKind, ToolCall, Trace, Usage

Attributes = dict[str, Any]
# Prefixes of what dialects read: with two values of one key, readers would disagree on which one was judged.
READ = ("gen_ai.", "llm.", "input.", "output.", "retrieval.", "reranker.", "tool.", "traceloop.", "session.")
NANO = 10**9
_OVERHEAD = 1000  # bytes of a span's structs; sys.getsizeof over a chat span without its text gives 900
_MAX_TOKENS = 2**53
_MAX_FLOAT = sys.float_info.max
_FINISHED = {"tool_call": "tool_calls", "function_call": "tool_calls"}  # GenAI's and OpenAI's older name


class SpanEvent(msgspec.Struct, gc=False):
    """One event of a span, or one log record. `time` is Unix nanoseconds, 0 where it has none."""

    name: str
    time: int
    attributes: Attributes
    body: Any = None


class WireSpan(msgspec.Struct, gc=False):
    """One span of either wire format: ids in lower-case hexadecimal, times in Unix nanoseconds, 0 is none.

    The ids are random bytes of a fixed length, so they may be logged as they are.
    """

    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool
    attributes: Attributes
    events: list[SpanEvent]


class WireLog(msgspec.Struct, gc=False):
    """One log record that is an event of GenAI's. Ids are empty where it belongs to no span."""

    trace_id: str
    span_id: str
    event: SpanEvent


class Wanted(NamedTuple):
    """Names of the events that are read, of spans and as log records. Others are not even built."""

    events: frozenset[str]
    logs: frozenset[str]


class ExportedBatch(NamedTuple):
    """Spans and logs of one resource in one scope, as iterators: a bad one raises when it is reached."""

    resource: Attributes
    spans: Any = ()
    logs: Any = ()


class Resource(msgspec.Struct, frozen=True, gc=False):
    """The sender of a span, cleaned."""

    app: str
    environment: str


class Reading(msgspec.Struct, gc=False):
    """The values that a dialect reads from one span, as sent: not cleaned; an `object` may be anything."""

    kind: StepKind = StepKind.OTHER
    name: object = None
    provider: object = None
    model: object = None
    model_version: object = None
    response_id: object = None
    conversation: object = None
    user: object = None
    agent: object = None
    prompt_name: object = None
    prompt_version: object = None
    finish: object = None
    error: object = None
    input_tokens: object = None
    output_tokens: object = None
    cost: object = None
    messages: tuple[Message, ...] = ()
    response: str = ""
    alternatives: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    documents: tuple[Document, ...] = ()
    call_id: object = None
    input: str = ""
    output: str = ""
    elsewhere: bool = False
    labels: dict[str, str] = {}


def resource_of(attributes: Attributes, names: Names) -> Resource:
    """Name the application and its environment."""
    app = next((value for key in _APP if (value := attributes.get(key)) and _named(key, value)), None)
    environment = attributes.get("deployment.environment.name") or attributes.get("deployment.environment")
    return Resource(
        names.name(app) if app else "unknown",
        names.environment(environment) if isinstance(environment, str) and environment else "unknown",
    )


_APP = ("service.name", "openinference.project.name", "k8s.deployment.name", "faas.name")


def _named(key: str, value: object) -> bool:
    """Return whether a value is a name; SDKs send `unknown_service…` when no name is configured."""
    return isinstance(value, str) and not (key == "service.name" and value.startswith("unknown_service"))


def light(span: WireSpan, time: float) -> Span:
    """Return a span outside GenAI's conventions; only its place in the tree and its end matter."""
    start, end, seconds = _times(span, time)
    step = Step(
        kind=StepKind.OTHER,
        id=span.span_id,
        start=start,
        seconds=seconds,
        error="error" if span.failed else "",
    )
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        step=step,
        end=end,
        size=_OVERHEAD,
    )


def build(span: WireSpan, reading: Reading, resource: Resource, names: Names, time: float) -> Span:
    """Build the cleaned span from a dialect's reading. `time`, Unix seconds, replaces a missing one."""
    start, end, seconds = _times(span, time)
    error = _name(reading.error, names) or ("error" if span.failed else "")
    kind = reading.kind
    usage = _usage(reading)
    name = _name(reading.name, names)
    call = None
    if kind is StepKind.TOOL:
        call = ToolCall(name, reading.input, reading.output, plain(reading.call_id), bool(error))
    step = Step(
        kind=kind,
        name=name,
        id=span.span_id,
        start=start,
        seconds=seconds,
        error=error,
        input=reading.input,
        output=reading.output,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        cost=number(reading.cost),
    )
    talks = kind is StepKind.CHAT or kind is StepKind.AGENT
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        step=step,
        end=end,
        exchange=exchange(span, reading, resource, names, start, seconds, usage) if talks else None,
        documents=reading.documents,
        call=call,
        elsewhere=reading.elsewhere,
        size=_size(reading),
    )


def build_log(log: WireLog, reading: Reading, resource: Resource, names: Names, time: float) -> Span | Trace:
    """Make the piece that a log record adds to its span; one that names no span is an exchange of its own."""
    start = log.event.time / NANO if log.event.time else time
    trace = exchange(log, reading, resource, names, start, 0.0, _usage(reading))
    if not log.span_id:
        return trace
    step = Step(kind=reading.kind, name=_name(reading.name, names), id=log.span_id, start=start)
    return Span(
        trace_id=log.trace_id,
        span_id=log.span_id,
        step=step,
        end=start,
        exchange=trace,
        partial=True,
        elsewhere=reading.elsewhere,
        size=_size(reading),
    )


def exchange(
    piece: WireSpan | WireLog,
    reading: Reading,
    resource: Resource,
    names: Names,
    start: float,
    seconds: float,
    usage: Usage | None,
) -> Trace:
    """Make the exchange of an inference or agent span; `start` in Unix seconds, `seconds` its duration."""
    model = _name(reading.model, names)
    version = _name(reading.model_version, names)
    provider = reading.provider
    user = plain(reading.user)
    finish = _name(reading.finish, names)
    response_id = reading.response_id
    return Trace(
        id=names.id(response_id)
        if type(response_id) is str and response_id
        else f"{piece.trace_id}:{piece.span_id}",
        time=start,
        response=reading.response,
        app=resource.app,
        environment=resource.environment,
        provider=names.name(provider.lower()) if type(provider) is str and provider else "unknown",
        model=model or version or "unknown",
        model_version=version if version != model and model else "",
        prompt_name=_name(reading.prompt_name, names),
        prompt_version=_name(reading.prompt_version, names),
        conversation=_name(reading.conversation, names),
        user=names.user(user) if user else "",
        trace_id=piece.trace_id,
        span_id=piece.span_id,
        finish_reason=_FINISHED.get(finish, finish),
        messages=reading.messages,
        tool_calls=reading.tool_calls,
        alternatives=reading.alternatives,
        usage=usage,
        latency=seconds or None,
        agent=_name(reading.agent, names),
        labels=reading.labels,
    )


def plain(value: object) -> str:
    """Return a string or a whole number as text, anything else as an empty string."""
    if type(value) is str:
        return value
    return str(value) if type(value) is int else ""


def number(value: object) -> float | None:
    """Return a number that fits a float as a float, None for anything else."""
    return float(value) if isinstance(value, int | float) and abs(value) <= _MAX_FLOAT else None


def check_keys(keys: list[str], where: str) -> None:
    """Refuse a repeated attribute that a dialect reads; other attributes may repeat.

    Raises BadTrace: duplicate_key.
    """
    seen: set[str] = set()
    for key in keys:
        if key in seen and key.startswith(READ):
            raise BadTrace("duplicate_key", f"{where}: an attribute occurs twice; send it once")
        seen.add(key)


def _times(span: WireSpan, time: float) -> tuple[float, float, float]:
    """Return start and end in Unix seconds, and the seconds between; `time` where the span has neither."""
    start, end = span.start or span.end, span.end or span.start
    return (start / NANO, end / NANO, max(0, end - start) / NANO) if start else (time, time, 0.0)


def _name(value: object, names: Names) -> str:
    if type(value) is str:
        return names.name(value) if value else ""
    return names.name(str(value)) if type(value) is int else ""


def _tokens(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else None


def _usage(reading: Reading) -> Usage | None:
    input_tokens, output_tokens = _tokens(reading.input_tokens), _tokens(reading.output_tokens)
    return None if input_tokens is None and output_tokens is None else Usage(input_tokens, output_tokens)


def _size(reading: Reading) -> int:
    """Return about how many bytes a span takes in memory; texts that several fields share count once."""
    size = _OVERHEAD + len(reading.response)
    for message in reading.messages:
        size += len(message.content)
    for document in reading.documents:
        size += len(document.content)
    for call in reading.tool_calls:
        size += len(call.arguments) + len(call.result)
    for text in reading.alternatives:
        size += len(text)
    if reading.kind is StepKind.CHAT or reading.kind is StepKind.AGENT:
        return size
    return size + len(reading.input) + len(reading.output)
