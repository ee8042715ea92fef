"""The native trace: one JSON object per record, bare or in a CloudEvents envelope.

Only `response` is required. Keys that are not listed are ignored; null means absent, except for `response`.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from monitor.errors import BadTrace
from monitor.ingest import cloudevents, strict_json
from monitor.ingest.identifiers import Names
from monitor.trace import Document, Message, Record, ToolCall, Trace, Usage

YEAR_2200 = 7_258_118_400  # Unix seconds; what lies beyond is milliseconds taken for seconds
ROLES = {
    "system": "system",
    "developer": "system",  # OpenAI's name since the o1 models
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",  # Gemini
    "tool": "tool",
    "function": "tool",  # OpenAI's name before tools
}

_Name = Annotated[str | None, Meta(description="Name; a label of metrics. Absent: `unknown`.")]
_Id = Annotated[str | None, Meta(description="Identifier; logged and exported.")]
_Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class NativeMessage(msgspec.Struct, gc=False):
    """One message of the prompt."""

    role: Annotated[str, Meta(description="system, user, assistant or tool.")] = "user"
    content: Annotated[str | None, Meta(description="Its text; null where a message holds only calls.")] = ""


class NativeDocument(msgspec.Struct, gc=False):
    """One passage the model was shown."""

    id: Annotated[str | None, Meta(description="The retriever's id of the passage.")] = ""
    content: Annotated[str | None, Meta(description="The text the model saw.")] = ""
    score: Annotated[float | None, Meta(description="The retriever's score, in its own unit.")] = None


class NativeToolCall(msgspec.Struct, gc=False):
    """One tool call of the exchange."""

    name: Annotated[str, Meta(description="The tool.")] = ""
    arguments: Annotated[str, Meta(description="What it was called with, as text (JSON as a rule).")] = ""
    result: Annotated[str | None, Meta(description="What came back, as text.")] = ""
    id: Annotated[str | None, Meta(description="Id of the call.")] = ""
    error: Annotated[bool, Meta(description="Whether the tool reported an error.")] = False


class NativeUsage(msgspec.Struct, gc=False):
    """Tokens as billed."""

    input_tokens: Annotated[_Tokens | None, Meta(description="Of the prompt.")] = None
    output_tokens: Annotated[_Tokens | None, Meta(description="Of the response.")] = None


class NativeTrace(msgspec.Struct, kw_only=True, gc=False):
    """One prompt/response exchange. Only `response` is required; unlisted keys are ignored."""

    response: Annotated[str, Meta(description="What the model answered.")]
    id: Annotated[
        str | None,
        Meta(description="Response id. Absent: `trace_id:span_id`, else a hash of the record."),
    ] = None
    time: Annotated[
        float | str | None,
        Meta(description="Unix seconds, or RFC 3339 with a zone. Absent: the record's timestamp."),
    ] = None
    app: _Name = None
    environment: Annotated[
        str | None, Meta(description="production, staging, internal or sandbox. Absent: `unknown`.")
    ] = None
    provider: _Name = None
    model: _Name = None
    model_version: _Id = None
    prompt_name: _Id = None
    prompt_version: _Id = None
    conversation: _Id = None
    user: Annotated[
        str | None, Meta(description="Any id of the user; replaced by a keyed pseudonym on entry.")
    ] = None
    trace_id: _Id = None
    span_id: _Id = None
    finish_reason: Annotated[str | None, Meta(description="stop, length, content_filter, tool_calls, …")] = (
        None
    )
    messages: Annotated[tuple[NativeMessage, ...] | None, Meta(description="The prompt, in order.")] = None
    context: Annotated[
        tuple[NativeDocument | str, ...] | None,
        Meta(description="What was retrieved for the model; a string is a passage without an id."),
    ] = None
    tool_calls: Annotated[tuple[NativeToolCall, ...] | None, Meta(description="In order.")] = None
    alternatives: Annotated[
        tuple[str, ...] | None, Meta(description="Other samples for the same prompt.")
    ] = None
    logprobs: Annotated[
        tuple[float, ...] | None, Meta(description="Natural log of each response token's probability.")
    ] = None
    usage: NativeUsage | None = None
    latency: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="Seconds from request to the last token.")
    ] = None
    labels: Annotated[
        dict[str, str] | None, Meta(description="Whatever rules should see; never exported as it is.")
    ] = None


KNOWN = cloudevents.KEYS.union(
    *(s.__struct_fields__ for s in (NativeTrace, NativeMessage, NativeDocument, NativeToolCall, NativeUsage))
)
ABSENT = (None, "")
_Make = Callable[[Any], Any]


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the native trace."""
    (root,), parts = msgspec.json.schema_components([NativeTrace], ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": parts}


class NativeDecoder:
    """Decodes records of native JSON, at most `max_record_bytes` long and `max_depth` containers deep.

    `pseudonym` is the keyed function that replaces user ids.
    """

    def __init__(self, max_record_bytes: int, max_depth: int, pseudonym: Callable[[str], str]) -> None:
        self._max_bytes = max_record_bytes
        self._parse: Callable[[bytes], object] = lambda raw: strict_json.parse(raw, max_depth, KNOWN)
        names = Names(pseudonym)
        name, self._id = names.name, names.id
        self._make: dict[str, _Make] = {
            "app": name,
            "environment": names.environment,
            "provider": name,
            "model": name,
            "model_version": name,
            "prompt_name": name,
            "prompt_version": name,
            "conversation": name,
            "user": names.user,
            "trace_id": self._id,
            "span_id": self._id,
            "finish_reason": name,
            "messages": _messages,
            "context": _documents,
            "tool_calls": _tool_calls,
            "alternatives": tuple,
            "logprobs": tuple,
            "usage": _usage,
            "latency": float,
            "labels": dict,
        }

    def decode(self, record: Record) -> tuple[Trace, ...]:
        """Return the record's one trace.

        Raises BadTrace with one of the reasons too_large, empty, invalid_utf8, invalid_json, too_deep,
        duplicate_key, wrong_type, missing_field, out_of_range, invalid_cloudevent; the detail names the field
        and never holds a value.
        """
        value = record.value
        if not value:
            raise BadTrace("empty", "no value; send the trace as the record's value")
        if len(value) > self._max_bytes:
            limit = f"ingest.max_record_bytes is {self._max_bytes}"
            raise BadTrace("too_large", f"{len(value)} bytes; {limit}: raise it or send less context")
        event = cloudevents.unwrap(record, value, self._parse)
        if not isinstance(event.payload, dict):
            raise BadTrace("wrong_type", "the record: must hold one JSON object")
        try:
            native = msgspec.convert(event.payload, NativeTrace)
        except msgspec.ValidationError as error:
            raise explain(str(error)) from None
        # Only what was given, by our own (interned) keys: anything else slows msgspec down many times.
        fields = {
            key: make(given)
            for key, make in self._make.items()
            if key in event.payload and (given := getattr(native, key)) not in ABSENT
        }
        if own := native.id or event.id:
            trace_id = self._id(own)
        elif native.trace_id and native.span_id:
            trace_id = f"{fields['trace_id']}:{fields['span_id']}"
        else:
            trace_id = "sha256:" + hashlib.sha256(value).hexdigest()[:32]
        time = _seconds(native.time, event.time, record.time)
        return (Trace(id=trace_id, time=time, response=native.response, **fields),)


def _messages(messages: tuple[NativeMessage, ...]) -> tuple[Message, ...]:
    try:
        return tuple([Message(ROLES[message.role], message.content or "") for message in messages])
    except KeyError:
        at = next(index for index, message in enumerate(messages) if message.role not in ROLES)
        known = "system, user, assistant or tool"
        raise BadTrace("out_of_range", f"messages[{at}].role: must be {known}") from None


def _documents(items: tuple[NativeDocument | str, ...]) -> tuple[Document, ...]:
    return tuple(
        [
            Document(item.id or "", item.content or "", item.score)
            if isinstance(item, NativeDocument)
            else Document("", item)
            for item in items
        ]
    )


def _tool_calls(calls: tuple[NativeToolCall, ...]) -> tuple[ToolCall, ...]:
    return tuple(
        [ToolCall(call.name, call.arguments, call.result or "", call.id or "", call.error) for call in calls]
    )


def _usage(usage: NativeUsage) -> Usage:
    return Usage(usage.input_tokens, usage.output_tokens)


def _seconds(given: float | str | None, event: str, record: float) -> float:
    """Unix seconds of the trace, else of its event, else of its record."""
    if given is None or given == "":
        given = event or record
    if isinstance(given, str):
        try:
            moment: datetime = msgspec.convert(given, Annotated[datetime, Meta(tz=True)])
            given = moment.timestamp()
        except (msgspec.ValidationError, OverflowError):
            raise BadTrace("out_of_range", "time: must be Unix seconds or RFC 3339 with a zone") from None
    if not 0 <= given < YEAR_2200:
        raise BadTrace("out_of_range", "time: must be Unix seconds (not milliseconds) from 1970 to 2199")
    return float(given)


def explain(message: str) -> BadTrace:
    """Classify msgspec's message, which holds types, bounds and the path but nothing the sender wrote."""
    what, _, path = message.partition(" - at ")
    field = path.strip("`").removeprefix("$.") or "the record"
    if what.startswith("Object missing"):
        missing = what.split("`")[1]
        return BadTrace("missing_field", f"{missing}: required; send it, empty if the model said nothing")
    reason = "out_of_range" if "out of range" in what or ">=" in what or "<=" in what else "wrong_type"
    return BadTrace(reason, f"{field}: {what[:1].lower()}{what[1:].replace('`', '')}")
