"""LiteLLM's `StandardLoggingPayload`, as its callbacks emit it: one object, or a list of them, per record.

Sources: docs.litellm.ai, "StandardLoggingPayload Specification", and LiteLLM's `litellm/types/utils.py`.
LiteLLM has no Kafka callback of its own; a custom one sends `kwargs["standard_logging_object"]`, alone or
under that name, and the `generic_api` callback sends a list.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

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
    response_of,
)
from monitor.ingest.bodies.parts import document_of, result_of
from monitor.ingest.bodies.shapes import kind_of
from monitor.ingest.fields import (
    CONVERSATION,
    OWNERS,
    USER,
    Parse,
    convert,
    event_id,
    labels_of,
    plain,
    readable,
    text_of,
    unix_seconds,
)
from monitor.ingest.identifiers import Names
from monitor.ingest.mending import Lost
from monitor.ingest.texts import Markers
from monitor.ingest.unused import Shapes
from monitor.trace import Record, ToolCall, Trace, Usage

MAX_PAYLOADS = 10_000
"""Most payloads in the list of one record; LiteLLM's own batches have hundreds."""
WRAPPER = "standard_logging_object"
_PASSED_ON = ("pass_through", "passthrough")
_BODIES = ("choices", "output", "content", "candidates", "message", "error")
_NO_EXCHANGE = re.compile(
    r"\Aa?(?:embedding|moderation|speech|rerank|search|ocr|ingest|run_code|call_mcp_tool|compact_responses)\Z"
    r"|image|video|file|batch|fine_tuning|vector_store|container|sandbox|assistant|thread|skill|add_message"
    r"|transcription|translation|client_secret|realtime_calls|code_interpreter_tool"
    r"|\Aa?(?:get|list|delete|cancel|retrieve)_"
)
"""Names of calls that answer with no text of a model: some of `CallTypes` in LiteLLM's `types/utils.py`."""
_USUAL = frozenset({"completion", "acompletion", "responses", "aresponses", "anthropic_messages"})
_Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class Search(msgspec.Struct, gc=False):
    """Results of a vector store."""

    data: list[Any] | None = None


class SearchRequest(msgspec.Struct, gc=False):
    """A request to a vector store."""

    vector_store_search_response: Search | None = None


class McpCall(msgspec.Struct, gc=False):
    """A call of a tool over MCP."""

    name: str | None = None
    arguments: dict[str, Any] | str | None = None
    result: Any = None


class ManagedPrompt(msgspec.Struct, gc=False):
    """The stored prompt that was filled in."""

    prompt_id: str | None = None
    prompt_version: str | int | None = None


class Metadata(msgspec.Struct, gc=False):
    """The fields read from the metadata, without e-mail and IP addresses."""

    user_api_key_alias: str | None = None
    user_api_key_hash: str | None = None
    user_api_key_org_id: str | None = None
    user_api_key_team_id: str | None = None
    user_api_key_team_alias: str | None = None
    user_api_key_user_id: str | None = None
    user_api_key_end_user_id: str | None = None
    spend_logs_metadata: dict[str, Any] | None = None
    requester_metadata: dict[str, Any] | None = None
    prompt_management_metadata: ManagedPrompt | None = None
    mcp_tool_call_metadata: McpCall | None = None
    vector_store_request_metadata: tuple[SearchRequest, ...] | None = None
    applied_guardrails: tuple[str, ...] | None = None
    cold_storage_object_key: str | None = None


class ErrorInformation(msgspec.Struct, gc=False):
    """Kind of an error; its message may quote the prompt and is not read."""

    error_code: str | int | None = None
    error_class: str | None = None


class Payload(msgspec.Struct, gc=False):
    """The fields read from a payload."""

    call_type: str = ""
    id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    status: str | None = None
    stream: bool | None = None
    custom_llm_provider: str | None = None
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    start_time: float | str | None = msgspec.field(name="startTime", default=None)
    end_time: float | str | None = msgspec.field(name="endTime", default=None)
    response_cost: float | None = None
    model: str | None = None
    model_id: str | None = None
    model_group: str | None = None
    metadata: Metadata | None = None
    cache_hit: bool | str | None = None
    request_tags: tuple[str, ...] | None = None
    end_user: str | None = None
    messages: Any = None
    response: Any = None
    error_information: ErrorInformation | None = None
    error_str: str | None = None
    model_parameters: dict[str, Any] | None = None


SHAPES: Shapes = {
    "": Payload,
    WRAPPER: Payload,
    "messages": Request,
    "response": Body,
    f"{WRAPPER}.messages": Request,
    f"{WRAPPER}.response": Body,
}


def decode(record: Record, parse: Parse, clean: Names, markers: Markers) -> tuple[Trace, ...]:
    """Return a trace per payload that is an exchange; embeddings, images, files and the like are none.

    A failed call is a trace with an empty response, finish reason `error` and the error's class as label;
    where LiteLLM redacted the texts, or keeps them in cold storage, the trace is blind. The application is
    `app` of the requester's metadata, else the alias of the key or the team. Raises BadTrace: too_large, and
    where no payload can be read wrong_type, missing_field, out_of_range, and what `parse` raises.
    """
    value = record.value or b""
    parsed = parse(value)
    if not isinstance(parsed, list):
        return _traces(parsed, "", record, parse, clean, markers, 0)
    if len(parsed) > MAX_PAYLOADS:
        raise BadTrace("too_large", f"{len(parsed)} payloads; send at most {MAX_PAYLOADS} in a record")
    return readable(parsed, lambda raw, n: _traces(raw, f"[{n}]", record, parse, clean, markers, n))


def _traces(
    raw: object, where: str, record: Record, parse: Parse, clean: Names, markers: Markers, part: int
) -> tuple[Trace, ...]:
    if isinstance(raw, dict) and WRAPPER in raw:
        raw, where = raw[WRAPPER], f"{where}.{WRAPPER}".lstrip(".")
    lost: list[Lost] = []
    payload = convert(raw, Payload, lost, where)
    at = f"{where}." if where else ""
    if not payload.call_type and payload.messages is None and payload.response is None:
        raise BadTrace("missing_field", f"{at}call_type: required, or messages and response; send them")
    if payload.call_type not in _USUAL and _NO_EXCHANGE.search(payload.call_type):
        return ()
    response, passed_on = _response(payload.response)
    if not is_exchange(response if passed_on or not isinstance(response, str) else None, parse):
        return ()
    prompt = _prompt(payload, where, parse)
    answer = _answer(payload, prompt, response, f"{at}response", parse, passed_on=passed_on)
    metadata = payload.metadata or Metadata()
    call = metadata.mcp_tool_call_metadata
    counted = payload.prompt_tokens or payload.completion_tokens  # both are 0 where they are not known
    fields, text_labels = exchange_fields(
        prompt,
        answer,
        clean,
        markers,
        usage=Usage(payload.prompt_tokens, payload.completion_tokens) if counted else None,
        documents=[
            document_of(result)
            for request in metadata.vector_store_request_metadata or ()
            if request.vector_store_search_response
            for result in request.vector_store_search_response.data or ()
        ],
        tool_calls=[ToolCall(call.name or "", text_of(call.arguments), result_of(call.result))]
        if call
        else (),
        captured=metadata.cold_storage_object_key is None,
    )
    if managed := metadata.prompt_management_metadata:
        fields["prompt_name"] = clean.optional(managed.prompt_id)
        fields["prompt_version"] = clean.optional(str(managed.prompt_version or ""))
    if payload.model and not answer.model:
        fields["model"] = clean.name(payload.model)
    requester = metadata.requester_metadata or {}
    app = _text(requester, "app") or metadata.user_api_key_alias or metadata.user_api_key_team_alias
    user = (
        payload.end_user
        or metadata.user_api_key_end_user_id
        or prompt.user
        or _first(requester, USER)
        or metadata.user_api_key_user_id
    )
    if conversation := payload.session_id or _first(requester, CONVERSATION):
        fields["conversation"] = clean.name(conversation)
    start = unix_seconds(payload.start_time, record.time, f"{at}startTime", lost)
    end = unix_seconds(payload.end_time, start, f"{at}endTime", lost)
    trace_id = clean.id(payload.trace_id) if payload.trace_id else ""
    return (
        Trace(
            id=clean.trace_id(payload.id or answer.id or event_id(record), "", "", record.value or b"", part),
            time=start,
            app=clean.optional(app, "unknown"),
            environment=clean.environment(_text(requester, "environment") or "unknown"),
            provider=clean.optional(payload.custom_llm_provider, "unknown"),
            user=clean.user(user) if user else "",
            trace_id=trace_id,
            emitter="litellm",
            latency=max(0.0, end - start) if payload.end_time else None,
            labels=labels_of(
                [
                    *_labels(payload, answer),
                    *text_labels,
                    lost_label(lost, prompt.lost, answer.lost),
                    *_tags(metadata),
                ]
            ),
            **fields,
        ),
    )


def _prompt(payload: Payload, where: str, parse: Parse) -> Prompt:
    messages = payload.messages
    at = f"{where}.messages".lstrip(".")
    if isinstance(messages, dict) and "role" not in messages:  # a provider's own body, passed on
        return prompt_of(messages, at, parse)
    if any(name in payload.call_type for name in _PASSED_ON) and (body := _passed_on(messages)):
        with suppress(BadTrace):  # no body: a text that looks like one
            return prompt_of(body, at, parse)
    if isinstance(messages, str) and messages.lstrip()[:1] == "[":
        messages = _turns(messages, parse)
    parameters = payload.model_parameters or {}
    request = {key: parameters[key] for key in ("instructions", "system", "user") if parameters.get(key)}
    return prompt_of(request | {"messages": messages}, where, parse)


def _turns(text: str, parse: Parse) -> object:
    """Return the messages that a text lists as JSON, else the text, which is a prompt."""
    try:
        turns = parse(text.encode())
    except BadTrace:
        return text
    if isinstance(turns, list) and turns and all(isinstance(t, dict) and "role" in t for t in turns):
        return turns
    return text


def _passed_on(messages: object) -> str | None:
    """Return the request's body where the one message of an endpoint that is passed on holds it as JSON."""
    if isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], dict):
        text = messages[0].get("content")
        return text if isinstance(text, str) and text.lstrip()[:1] == "{" else None
    return None


def _response(response: object) -> tuple[object, bool]:
    """Return what was answered, which endpoints that are passed on and realtime sessions wrap; and if so."""
    if isinstance(response, dict) and not {"choices", "done"} & response.keys():
        inner, events = response.get("response"), response.get("results")
        if isinstance(inner, str | dict):
            return inner, True
        if isinstance(events, list) and any(isinstance(e, dict) and "type" in e for e in events):
            return events, True
    return response, False


def _answer(
    payload: Payload, prompt: Prompt, response: object, where: str, parse: Parse, *, passed_on: bool
) -> Answer:
    if payload.status == "failure":
        error = payload.error_information or ErrorInformation()
        answer = failed_answer(response, where, parse)
        answer.failed = error.error_class or str(error.error_code or kind_of(payload.error_str or ""))
        return answer
    if response is None or response in ({}, []):
        return Answer()
    if isinstance(response, str):
        with suppress(BadTrace):  # what answered is no model's API, or it is a text that looks like its body
            if passed_on or _is_body(response, parse):
                return response_of(response, where, parse)
        return Answer(text=response)
    return answer_to(prompt, response, where, parse)


def _is_body(text: str, parse: Parse) -> bool:
    """Return whether a text is a body or a stream rather than the answer itself."""
    start = text.lstrip()
    if start.startswith(("data:", "event:")):
        return True
    if not start.startswith("{"):
        return False
    try:
        value = parse(start.encode())
    except BadTrace:
        return False
    return isinstance(value, dict) and any(isinstance(value.get(key), list | dict) for key in _BODIES)


def _labels(payload: Payload, answer: Answer) -> Iterator[tuple[str, object]]:
    metadata = payload.metadata or Metadata()
    yield "error", answer.failed
    yield "refused", answer.refused or None
    yield "call_type", payload.call_type
    yield "status", payload.status
    yield "model_group", payload.model_group
    yield "model_id", payload.model_id
    yield "stream", payload.stream
    yield "cache_hit", payload.cache_hit
    yield "cost", payload.response_cost
    yield "team", metadata.user_api_key_team_alias or metadata.user_api_key_team_id
    yield "organization", metadata.user_api_key_org_id
    yield "key", metadata.user_api_key_alias or metadata.user_api_key_hash
    yield "request_tags", ",".join(payload.request_tags or ())
    yield "guardrails", ",".join(metadata.applied_guardrails or ())


def _tags(metadata: Metadata) -> Iterator[tuple[str, object]]:
    for held in (metadata.requester_metadata or {}, metadata.spend_logs_metadata or {}):
        yield from [(key, value) for key, value in held.items() if key not in OWNERS]


def _first(values: Mapping[str, object], names: Sequence[str]) -> str:
    return next((name for key in names if key in values and (name := plain(values[key]))), "")


def _text(values: Mapping[str, object], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None
