"""Pairs of a request and its response as clients and servers of model APIs exchange them, one per record.

    {"request": {…}, "response": {…}}

The bodies are those of any API that `bodies` reads, as objects or as JSON in strings; around either may be
an HTTP message that has it as its `body`, as in files of the Batch API (platform.openai.com, "Batch"). A
streamed response is a list of its chunks, or its server-sent events in a string, under `response` or
`chunks`. A failed one has `error`, in its body or next to it.

Optional keys next to them, as in the native format: `id`, `time`, `app`, `environment`, `provider`,
`conversation`, `user`, `trace_id`, `span_id`, `latency` and `labels`.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from monitor.errors import BadTrace
from monitor.ingest.bodies import (
    Answer,
    Body,
    Prompt,
    Request,
    answer_to,
    exchange_fields,
    failed_answer,
    is_exchange,
    lost_label,
    prompt_of,
)
from monitor.ingest.bodies.shapes import Failure, kind_of
from monitor.ingest.fields import Parse, convert, event_id, labels_of, one_object, unix_seconds
from monitor.ingest.identifiers import Names
from monitor.ingest.mending import Lost
from monitor.ingest.texts import FAILED, Markers
from monitor.ingest.unused import Shapes
from monitor.trace import Record, Trace

_FIRST_FAILURE: Final = 400  # HTTP status codes from here on are errors


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


class StreamEvent(msgspec.Struct, gc=False):
    """The fields read from an event of a stream that is no chunk of a body."""

    type: str
    response: Body | None = None
    item: Any = None
    output_index: int = 0
    delta: Any = None


SHAPES: Shapes = {
    "": Pair,
    "request": Request,
    "request.body": Request,
    "response": Body | StreamEvent,
    "response.body": Body | StreamEvent,
    "chunks": Body | StreamEvent,
}


def decode(record: Record, parse: Parse, clean: Names, markers: Markers) -> tuple[Trace, ...]:
    """Return the record's one trace; none for embeddings, images and the like.

    Several choices are its response and its alternatives. Results of file search, and documents of the
    request, are the context, and a refusal is a response with the label `refused`. The request's `metadata`
    are labels. Raises BadTrace: wrong_type, missing_field, out_of_range, and what `parse` raises.
    """
    value = record.value or b""
    lost: list[Lost] = []
    pair = convert(one_object(parse(value)), Pair, lost)
    if pair.request is None:
        raise BadTrace("missing_field", "request: required; send the body of the request")
    response = _body(pair.response)
    if pair.chunks is None and not is_exchange(response, parse):
        return ()
    prompt = prompt_of(_body(pair.request), "request", parse)
    answer = _answer(pair, prompt, response, parse)
    fields, text_labels = exchange_fields(prompt, answer, clean, markers)
    trace_id = clean.id(pair.trace_id) if pair.trace_id else ""
    span_id = clean.id(pair.span_id) if pair.span_id else ""
    if pair.conversation:
        fields["conversation"] = clean.name(pair.conversation)
    own = answer.id or pair.id or event_id(record)
    user = pair.user or prompt.user
    created = unix_seconds(answer.created, record.time, "response.created", lost)
    time = unix_seconds(pair.time, created, "time", lost)
    return (
        Trace(
            id=clean.trace_id(own, trace_id, span_id, value),
            trace_id=trace_id,
            span_id=span_id,
            emitter="openai",
            time=time,
            app=clean.optional(pair.app, "unknown"),
            environment=clean.environment(pair.environment or "unknown"),
            provider=clean.optional(pair.provider, "unknown"),
            user=clean.user(user) if user else "",
            latency=pair.latency,
            labels=labels_of(
                [
                    ("error", answer.failed),
                    ("refused", answer.refused or None),
                    *text_labels,
                    lost_label(lost, prompt.lost, answer.lost),
                    *(pair.labels or {}).items(),
                    *prompt.metadata.items(),
                ]
            ),
            **fields,
        ),
    )


def _answer(pair: Pair, prompt: Prompt, response: object, parse: Parse) -> Answer:
    status = pair.response.get("status_code") if isinstance(pair.response, dict) else None
    if pair.chunks is not None:
        return answer_to(prompt, pair.chunks, "chunks", parse)
    if isinstance(status, int) and status >= _FIRST_FAILURE and response is not pair.response:
        return failed_answer(response, "response", parse)
    if response is not None:
        return answer_to(prompt, response, "response", parse)
    if pair.error is None:
        raise BadTrace("missing_field", "response: required; send the body, the chunks of a stream, or error")
    return Answer(finish_reason=FAILED, failed=kind_of(pair.error))


def _body(message: object) -> object:
    """Return the body of an HTTP message; anything else unchanged."""
    return message["body"] if isinstance(message, dict) and "body" in message else message
