"""Pairs of a request and its response as OpenAI's clients and servers exchange them, one pair per record.

    {"request": {…}, "response": {…}}

The bodies are those of chat completions, text completions or the Responses API (`openai_shapes`), as objects
or as JSON in strings; around either may be an HTTP message that has it as its `body`, as in files of the
Batch API (platform.openai.com, "Batch"). A streamed response is a list of its chunks, or its server-sent
events in a string, under `response` or `chunks`. A failed one has `error`, in its body or next to it.

Optional keys next to them, as in the native format: `id`, `time`, `app`, `environment`, `provider`,
`conversation`, `user`, `trace_id`, `span_id`, `latency` and `labels`.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from monitor.errors import BadTrace
from monitor.ingest.chat import Answer, answer_of, common, left_out_of, prompt_of
from monitor.ingest.fields import Parse, convert, event_id, labels_of, one_object, unix_seconds
from monitor.ingest.identifiers import Names
from monitor.ingest.openai_shapes import FAILED, Body, Failure, Request, StreamEvent
from monitor.ingest.unused import Shapes
from monitor.trace import Record, Trace


class Pair(msgspec.Struct, gc=False):
    """The fields read from a record."""

    request: Any = None
    response: Any = None
    chunks: str | list[Any] | None = None
    error: str | Failure | None = None
    id: str | None = None
    time: float | str | None = None
    app: str | None = None
    environment: str | None = None
    provider: str | None = None
    conversation: str | None = None
    user: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    latency: Annotated[float, Meta(ge=0)] | None = None
    labels: dict[str, Any] | None = None


SHAPES: Shapes = {
    "": Pair,
    "request": Request,
    "request.body": Request,
    "response": Body | StreamEvent,
    "response.body": Body | StreamEvent,
    "chunks": Body | StreamEvent,
}


def decode(record: Record, parse: Parse, clean: Names) -> tuple[Trace, ...]:
    """Return the record's one trace; several choices are its response and its alternatives.

    `messages`, `input`, `instructions` and `prompt` are the messages, results of file search the context, and
    a refusal is a response with the label `refused`. The request's `metadata` are labels. Raises BadTrace:
    wrong_type, missing_field, out_of_range, and what `parse` raises.
    """
    value = record.value or b""
    pair = convert(one_object(parse(value)), Pair, [])
    if pair.request is None:
        raise BadTrace("missing_field", "request: required; send the body of the request")
    prompt = prompt_of(_body(pair.request), "request", parse)
    response = _body(pair.response)
    if pair.chunks is not None:
        answer = answer_of(pair.chunks, "chunks", parse)
    elif response is not None:
        answer = answer_of(response, "response", parse)
    elif pair.error is not None:
        kind = pair.error if isinstance(pair.error, str) else pair.error.kind()
        answer = Answer(finish_reason=FAILED, failed=kind)
    else:
        raise BadTrace("missing_field", "response: required; send the body, the chunks of a stream, or error")
    fields = common(prompt, answer, clean)
    fields["trace_id"] = clean.id(pair.trace_id) if pair.trace_id else ""
    fields["span_id"] = clean.id(pair.span_id) if pair.span_id else ""
    if pair.conversation:
        fields["conversation"] = clean.name(pair.conversation)
    own = answer.id or pair.id or event_id(record)
    user = pair.user or prompt.user
    return (
        Trace(
            id=clean.trace_id(own, fields["trace_id"], fields["span_id"], value),
            time=unix_seconds(pair.time, unix_seconds(answer.created, record.time, "response.created")),
            app=clean.optional(pair.app, "unknown"),
            environment=clean.environment(pair.environment or "unknown"),
            provider=clean.optional(pair.provider, "unknown"),
            user=clean.user(user) if user else "",
            latency=pair.latency,
            labels=labels_of(
                [
                    ("error", answer.failed),
                    ("refused", answer.refused or None),
                    *left_out_of(prompt, answer),
                    *(pair.labels or {}).items(),
                    *prompt.metadata.items(),
                ]
            ),
            **fields,
        ),
    )


def _body(message: object) -> object:
    """Return the body of an HTTP message; anything else unchanged."""
    return message["body"] if isinstance(message, dict) and "body" in message else message
