"""LiteLLM's `StandardLoggingPayload`, as its callbacks emit it: one object, or a list of them, per record.

Sources: docs.litellm.ai, "StandardLoggingPayload Specification", and LiteLLM's `litellm/types/utils.py`.
LiteLLM has no Kafka callback of its own; a custom one sends `kwargs["standard_logging_object"]`, alone or
under that name, and the `generic_api` callback sends a list.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from monitor.errors import BadTrace
from monitor.ingest.chat import (
    Answer,
    Prompt,
    answer_of,
    common,
    documents_of,
    left_out_of,
    prompt_of,
)
from monitor.ingest.fields import Parse, convert, event_id, labels_of, unix_seconds
from monitor.ingest.identifiers import Names
from monitor.ingest.openai_shapes import FAILED, Body, FileSearchResult, Request, Turn
from monitor.ingest.streams import as_text
from monitor.ingest.unused import Shapes
from monitor.trace import Record, ToolCall, Trace, Usage

MAX_PAYLOADS = 10_000
"""Most payloads in the list of one record; LiteLLM's own batches have hundreds."""
WRAPPER = "standard_logging_object"
_REDACTED = "redacted-by-litellm"  # what `turn_off_message_logging` leaves of each text
_BODIES = frozenset({"choices", "output", "content", "error"})
_NO_EXCHANGE = frozenset({
    "embedding", "image_generation", "image_edit", "image_variation", "moderation", "transcription", "speech",
    "rerank", "search", "ocr", "video_generation", "vector_store_search", "vector_store_create",
    "call_mcp_tool", "list_mcp_tools", "create_file", "retrieve_file", "delete_file", "list_files",
    "file_content", "create_batch", "retrieve_batch", "cancel_batch", "list_batches",
    "create_fine_tuning_job",
})  # fmt: skip
_Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class Search(msgspec.Struct, gc=False):
    """Results of a vector store."""

    data: tuple[FileSearchResult, ...] | None = None


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

    call_type: str
    id: str | None = None
    trace_id: str | None = None
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
    model_parameters: dict[str, Any] | None = None


SHAPES: Shapes = {
    "": Payload,
    WRAPPER: Payload,
    "messages": Turn | Request,
    "response": Body,
    f"{WRAPPER}.messages": Turn | Request,
    f"{WRAPPER}.response": Body,
}


def decode(record: Record, parse: Parse, clean: Names) -> tuple[Trace, ...]:
    """Return a trace per payload that is an exchange; embeddings, images, files and the like are none.

    A failed call is a trace with an empty response, finish reason `error` and the error's class as label;
    where LiteLLM redacted the texts, `missing` says `content`. The application is `app` of the requester's
    metadata, else the alias of the key or the team. Raises BadTrace: too_large, wrong_type, missing_field,
    out_of_range, and what `parse` raises.
    """
    value = record.value or b""
    parsed = parse(value)
    if not isinstance(parsed, list):
        return _traces(parsed, "", record, parse, clean, 0)
    if len(parsed) > MAX_PAYLOADS:
        raise BadTrace("too_large", f"{len(parsed)} payloads; send at most {MAX_PAYLOADS} in a record")
    traces: list[Trace] = []
    for n, payload in enumerate(parsed):
        traces += _traces(payload, f"[{n}]", record, parse, clean, n)
    return tuple(traces)


def _traces(
    raw: object, where: str, record: Record, parse: Parse, clean: Names, part: int
) -> tuple[Trace, ...]:
    if isinstance(raw, dict) and WRAPPER in raw:
        raw, where = raw[WRAPPER], f"{where}.{WRAPPER}".lstrip(".")
    payload = convert(raw, Payload, [], where)
    if payload.call_type.removeprefix("a") in _NO_EXCHANGE or payload.call_type in _NO_EXCHANGE:
        return ()
    at = f"{where}." if where else ""
    prompt = _prompt(payload, where, parse)
    answer = _answer(payload, f"{at}response", parse)
    metadata = payload.metadata or Metadata()
    fields = common(prompt, answer, clean)
    fields["context"] += documents_of(
        [
            result
            for request in metadata.vector_store_request_metadata or ()
            if request.vector_store_search_response
            for result in request.vector_store_search_response.data or ()
        ],
        answer.left_out,
    )
    if metadata.mcp_tool_call_metadata:
        call = metadata.mcp_tool_call_metadata
        fields["tool_calls"] += (ToolCall(call.name or "", as_text(call.arguments), as_text(call.result)),)
    if managed := metadata.prompt_management_metadata:
        fields["prompt_name"] = clean.optional(managed.prompt_id)
        fields["prompt_version"] = clean.optional(str(managed.prompt_version or ""))
    if payload.prompt_tokens is not None or payload.completion_tokens is not None:
        fields["usage"] = Usage(payload.prompt_tokens, payload.completion_tokens)
    if payload.model and not answer.model:
        fields["model"] = clean.name(payload.model)
    requester = metadata.requester_metadata or {}
    app = _text(requester, "app") or metadata.user_api_key_alias or metadata.user_api_key_team_alias
    user = payload.end_user or metadata.user_api_key_end_user_id or metadata.user_api_key_user_id
    start = unix_seconds(payload.start_time, record.time, f"{at}startTime")
    end = unix_seconds(payload.end_time, start, f"{at}endTime")
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
            latency=max(0.0, end - start) if payload.end_time else None,
            missing=("content",) if _elsewhere(payload, prompt, answer) else (),
            labels=labels_of([*_labels(payload, answer), *left_out_of(prompt, answer), *_tags(metadata)]),
            **fields,
        ),
    )


def _prompt(payload: Payload, where: str, parse: Parse) -> Prompt:
    if isinstance(payload.messages, dict):  # a provider's own body, passed on
        return prompt_of(payload.messages, f"{where}.messages".lstrip("."), parse)
    parameters = payload.model_parameters or {}
    request = {key: parameters[key] for key in ("instructions", "system", "user") if parameters.get(key)}
    return prompt_of(request | {"messages": payload.messages}, where, parse)


def _answer(payload: Payload, where: str, parse: Parse) -> Answer:
    response = payload.response
    if payload.status == "failure":
        error = payload.error_information or ErrorInformation()
        return Answer(finish_reason=FAILED, failed=error.error_class or str(error.error_code or FAILED))
    if response is None or isinstance(response, str):
        return Answer(text=response or "")
    if isinstance(response, dict) and isinstance(response.get("text"), str) and not _BODIES & response.keys():
        return Answer(text=response["text"])
    return answer_of(response, where, parse)


def _elsewhere(payload: Payload, prompt: Prompt, answer: Answer) -> bool:
    """Return whether texts were redacted, or kept in cold storage."""
    stored = payload.metadata is not None and payload.metadata.cold_storage_object_key is not None
    texts = [answer.text, *(message.content for message in prompt.messages)]
    return _REDACTED in texts or (stored and not any(texts))


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
    yield from (metadata.requester_metadata or {}).items()
    yield from (metadata.spend_logs_metadata or {}).items()


def _text(values: Mapping[str, object], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None
