"""What a dialect reads from a span or log record, and the cleaned span that is made of it."""

import msgspec
from msgspec.structs import force_setattr

from monitor.ingest.fields import labels_of, number, plain, token_count
from monitor.ingest.identifiers import Names
from monitor.ingest.resources import Resource
from monitor.ingest.texts import (
    FAILED,
    NOTHING_ANSWERED,
    NOTHING_ASKED,
    Answered,
    Asked,
    Markers,
    finish_of,
    labels_of_texts,
    unread_sides,
)
from monitor.ingest.wire import NANO, WireLog, WireSpan
from monitor.trace import (
    Document,
    Side,
    Span,
    Step,
    StepKind,
    ToolCall,
    Trace,
    Unread,
    Unreadable,
    Usage,
)

_OVERHEAD = 1000  # bytes of a span's structs; sys.getsizeof over a chat span without its text gives 900


class Reading(msgspec.Struct, gc=False):
    """The values that a dialect reads from one span, as sent: not cleaned; an `object` may be anything.

    What a dialect does not say stays at its default: another dialect of the same span may say it. `kind` None
    says nothing of the kind; `StepKind.OTHER` says that the span is no model's call, whatever others say.
    """

    kind: StepKind | None = None
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
    asked: Asked = NOTHING_ASKED
    answered: Answered = NOTHING_ANSWERED
    documents: tuple[Document, ...] = ()
    call_id: object = None
    input: str = ""
    output: str = ""
    labels: dict[str, str] = {}
    emitter: str = ""


def light(span: WireSpan, names: Names, time: float, foreign: str = "") -> Span:
    """Return a span of no dialect: its place in the tree, its times, and whose conversation it is.

    `foreign` names its instrumentation, cleaned, where it looks like a model's call.
    """
    start, end, seconds = _times(span, time)
    error = "error" if span.failed else ""
    step = Step(kind=StepKind.OTHER, id=span.span_id, start=start, seconds=seconds, error=error)
    get = span.attributes.get
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        step=step,
        conversation=_name(get("gen_ai.conversation.id") or get("session.id"), names),
        user=_user(get("user.id") or get("enduser.id"), names),
        end=end,
        foreign=foreign,
        size=_OVERHEAD,
    )


def build(
    span: WireSpan, reading: Reading, resource: Resource, names: Names, markers: Markers, time: float
) -> Span:
    """Build the cleaned span from a dialect's reading. `time`, Unix seconds, replaces a missing one."""
    start, end, seconds = _times(span, time)
    error = _name(reading.error, names) or ("error" if span.failed else "")
    kind = reading.kind or StepKind.OTHER
    usage = _usage(reading)
    name = _title(reading.name, names)
    call = trace = None
    unread: tuple[Unread, ...] = ()
    talks = _talks(kind)
    if talks:
        trace = exchange(span, reading, resource, names, markers, start, seconds, usage, error)
        _summarise(reading, trace)
    elif kind is StepKind.TOOL:
        reading.input = markers.without(reading.input)
        result = markers.without(reading.output)
        if reading.output and not result:
            unread = (Unread(Side.TOOL_RESULTS, Unreadable.REDACTED),)
        reading.output = result
        call = ToolCall(name, reading.input, result, plain(reading.call_id), bool(error))
    if reading.documents:
        reading.documents, of_documents = markers.of_documents(reading.documents)
        unread += of_documents
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
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        step=step,
        app=resource.app,
        environment=resource.environment,
        conversation=trace.conversation if trace else _name(reading.conversation, names),
        user=trace.user if trace else _user(reading.user, names),
        end=end,
        exchange=trace,
        documents=reading.documents,
        call=call,
        unread=unread,
        size=_size(reading, talks=talks),
    )


def _talks(kind: StepKind | None) -> bool:
    """Return whether a kind of step may hold a prompt and a response."""
    # No set: a member of an enumeration is hashed slowly.
    return kind is StepKind.CHAT or kind is StepKind.AGENT or kind is StepKind.WORKFLOW


def build_log(
    log: WireLog, reading: Reading, resource: Resource, names: Names, markers: Markers, time: float
) -> Span | Trace:
    """Make the piece that a log record adds to its span; one that names no span is an exchange of its own."""
    if log.span_id and reading.kind and not _talks(reading.kind):
        at, event = log.event.time, log.event
        span = WireSpan(log.trace_id, log.span_id, log.parent_id, at, at, False, event.attributes, [])
        made = build(span, reading, resource, names, markers, time)
        return msgspec.structs.replace(made, partial=True, log_only=log.log_only)
    start = log.event.time / NANO if log.event.time else time
    error = _name(reading.error, names)
    trace = exchange(log, reading, resource, names, markers, start, 0.0, _usage(reading), error)
    if not log.span_id:
        return trace
    _summarise(reading, trace)
    step = Step(
        kind=reading.kind or StepKind.CHAT, name=_title(reading.name, names), id=log.span_id, start=start
    )
    return Span(
        trace_id=log.trace_id,
        span_id=log.span_id,
        step=step,
        app=resource.app,
        environment=resource.environment,
        conversation=trace.conversation,
        user=trace.user,
        end=start,
        exchange=trace,
        partial=True,
        log_only=log.log_only,
        size=_size(reading, talks=_talks(reading.kind)),
    )


def exchange(
    piece: WireSpan | WireLog,
    reading: Reading,
    resource: Resource,
    names: Names,
    markers: Markers,
    start: float,
    seconds: float,
    usage: Usage | None,
    error: str,
) -> Trace:
    """Make the exchange of a span or log record; `start` in Unix seconds, `seconds` its duration."""
    model = _name(reading.model, names)
    version = _name(reading.model_version, names)
    provider = reading.provider
    response_id = reading.response_id
    asked, answered = markers.of_asked(reading.asked), markers.of_answered(reading.answered)
    finish = finish_of(_name(reading.finish or answered.finish, names))
    labels = reading.labels
    all_read = not (asked.left_out or answered.left_out or asked.unread or answered.unread)
    whole = all_read and asked.messages and answered.response
    if labels or error or not all_read:
        labels = labels_of([("error", error), *labels_of_texts(asked, answered), *labels.items()])
    trace = Trace(
        id=names.id(response_id)
        if type(response_id) is str and response_id
        else f"{piece.trace_id}:{piece.span_id}",
        time=start,
        response=answered.response,
        app=resource.app,
        environment=resource.environment,
        provider=names.name(provider).lower() if type(provider) is str and provider else "unknown",
        model=model or version or "unknown",
        model_version=version if version != model and model else "",
        conversation=_name(reading.conversation, names),
        trace_id=piece.trace_id,
        span_id=piece.span_id,
        finish_reason=finish or (FAILED if error else ""),
        messages=asked.messages,
        usage=usage,
        latency=seconds or None,
    )
    unread = () if whole else unread_sides(asked, answered, usage, finish, failed=bool(error))
    if asked.documents:
        shown, lost = markers.of_documents(asked.documents)
        force_setattr(trace, "context", shown)
        unread += lost
    if unread:
        force_setattr(trace, "unread", unread)
    if error:
        force_setattr(trace, "error", error)
    if labels:
        force_setattr(trace, "labels", labels)
    _add_rare(trace, reading, answered, names)
    return trace


def _add_rare(trace: Trace, reading: Reading, answered: Answered, names: Names) -> None:
    """Set what most exchanges lack: with over 15 keywords, CPython builds a dict first, four times slower."""
    if reading.emitter:
        force_setattr(trace, "emitter", names.name(reading.emitter))
    if reading.user and (user := _user(reading.user, names)):
        force_setattr(trace, "user", user)
    if reading.prompt_name or reading.prompt_version:
        force_setattr(trace, "prompt_name", _name(reading.prompt_name, names))
        force_setattr(trace, "prompt_version", _name(reading.prompt_version, names))
    if reading.agent and (agent := _title(reading.agent, names)):
        force_setattr(trace, "agent", agent)
    if answered.tool_calls:
        force_setattr(trace, "tool_calls", answered.tool_calls)
    if answered.alternatives:
        force_setattr(trace, "alternatives", answered.alternatives)


def _summarise(reading: Reading, trace: Trace) -> None:
    """Fill in the input and output of an exchange's step: the question and the answer."""
    reading.input = reading.input or trace.question()
    reading.output = reading.output or trace.response


def _times(span: WireSpan, time: float) -> tuple[float, float, float]:
    """Return start and end in Unix seconds, and the seconds between; `time` where the span has neither."""
    start, end = span.start or span.end, span.end or span.start
    if not start:
        return time, time, 0.0
    return start / NANO, end / NANO, (end - start) / NANO if end > start else 0.0


def _name(value: object, names: Names) -> str:
    if type(value) is str:
        return names.name(value) if value else ""
    return names.name(str(value)) if type(value) is int else ""


def _user(value: object, names: Names) -> str:
    user = plain(value)
    return names.user(user) if user else ""


def _title(value: object, names: Names) -> str:
    return names.title(plain(value)) if value else ""


def _usage(reading: Reading) -> Usage | None:
    input_tokens, output_tokens = token_count(reading.input_tokens), token_count(reading.output_tokens)
    return None if input_tokens is None and output_tokens is None else Usage(input_tokens, output_tokens)


def _size(reading: Reading, *, talks: bool) -> int:
    """Return about how many bytes a span takes in memory; texts that several fields share count once."""
    answered = reading.answered
    size = _OVERHEAD + len(answered.response)
    for message in reading.asked.messages:
        size += len(message.content)
    for document in (*reading.documents, *reading.asked.documents):
        size += len(document.content)
    for call in answered.tool_calls:
        size += len(call.arguments) + len(call.result)
    for text in answered.alternatives:
        size += len(text)
    if talks:
        return size
    return size + len(reading.input) + len(reading.output)
