"""The native trace: one JSON object per record.

Only `response` is required. Keys that are not listed are ignored; null means absent, except for `response`.
A value that cannot be used counts as absent too, and in the label `left_out.value`.
"""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from monitor.errors import BadTrace
from monitor.ingest import cloudevents
from monitor.ingest.fields import (
    LEFT_OUT_VALUES,
    NO_OBJECT,
    ROLES,
    YEAR_2200,
    Parse,
    convert,
    event_id,
    role_of,
    unix_seconds,
)
from monitor.ingest.identifiers import Names
from monitor.ingest.mending import Lost
from monitor.ingest.texts import FAILED, Answered, Asked, Markers, unread_sides
from monitor.trace import (
    Document,
    Message,
    Missing,
    Record,
    Side,
    Step,
    StepKind,
    ToolCall,
    Trace,
    Unread,
    Unreadable,
    Usage,
)

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


class NativeStep(msgspec.Struct, gc=False):
    """One step of an agent's run."""

    kind: Annotated[
        str, Meta(description=f"{', '.join(StepKind)}; guardrail is a check, or an approval by a person.")
    ] = "other"
    name: Annotated[str | None, Meta(description="The agent, tool, data source or model; logged.")] = ""
    id: Annotated[str | None, Meta(description="Id of the step or its span.")] = ""
    parent: Annotated[
        Annotated[int, Meta(ge=-1)] | None,
        Meta(description="Index in `steps` of the step it ran under, which comes before it. Absent: none."),
    ] = None
    start: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="Unix seconds.")] = None
    seconds: Annotated[Annotated[float, Meta(ge=0)] | None, Meta(description="How long it took.")] = None
    error: Annotated[str | None, Meta(description="Type of the error it ended with. Absent: none.")] = ""
    input: Annotated[
        str | None, Meta(description="A tool's arguments (JSON as a rule), a query, or a message, as text.")
    ] = ""
    output: Annotated[str | None, Meta(description="What came back, as text.")] = ""
    input_tokens: Annotated[_Tokens | None, Meta(description="Of its prompt.")] = None
    output_tokens: Annotated[_Tokens | None, Meta(description="Of its response.")] = None
    cost: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="In one currency of the sender's choice.")
    ] = None


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
        Meta(description="Begin: Unix seconds, or RFC 3339 with a zone. Absent: the record's timestamp."),
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
    error: Annotated[
        str | None, Meta(description="Type of the error that the call ended with; logged. Absent: none.")
    ] = None
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
    agent: _Name = None
    steps: Annotated[
        tuple[NativeStep, ...] | None,
        Meta(description="The agent's run that ends with this exchange, in order of start."),
    ] = None
    labels: Annotated[
        dict[str, str] | None, Meta(description="Whatever rules should see; never exported as it is.")
    ] = None


KNOWN = cloudevents.KEYS.union(
    *(
        part.__struct_fields__
        for part in (NativeTrace, NativeMessage, NativeDocument, NativeToolCall, NativeUsage, NativeStep)
    )
)
_KINDS = {kind.value: kind for kind in StepKind}
_Make = Callable[[Any], Any]


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the native trace."""
    (root,), parts = msgspec.json.schema_components([NativeTrace], ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": parts}


class NativeDecoder:
    """Decodes plain records of native JSON (`framing.unframe` makes them), which `parse` reads."""

    def __init__(self, parse: Parse, clean: Names, markers: Markers) -> None:
        self._parse = parse
        self._clean = clean
        self._markers = markers
        name = clean.name
        make: dict[str, _Make] = {
            "app": name,
            "environment": clean.environment,
            "provider": name,
            "model": name,
            "model_version": name,
            "prompt_name": name,
            "prompt_version": name,
            "conversation": name,
            "user": clean.user,
            "trace_id": clean.id,
            "span_id": clean.id,
            "finish_reason": name,
            "error": name,
            "messages": _messages,
            "context": _documents,
            "tool_calls": _tool_calls,
            "alternatives": tuple,
            "logprobs": tuple,
            "usage": _usage,
            "agent": clean.title,
            "steps": lambda steps: _steps(steps, clean),
            "labels": dict,
        }
        self._make = {name: (name, made) for name, made in make.items()}

    def decode(self, record: Record) -> tuple[Trace, ...]:
        """Return the record's one trace.

        Raises BadTrace with one of the reasons invalid_utf8, invalid_json, too_deep, duplicate_key,
        wrong_type, missing_field, out_of_range; the detail names the field and never holds a value.
        """
        value = record.value or b""
        payload = self._parse(value)
        if type(payload) is not dict:
            raise BadTrace("wrong_type", NO_OBJECT)
        lost: list[Lost] = []
        try:  # not `convert`: at this rate each call counts
            native = msgspec.convert(payload, NativeTrace)
        except msgspec.ValidationError:
            native = convert(payload, NativeTrace, lost, strict=_REQUIRED)
        # Only what was given, by our own (interned) keys: anything else slows msgspec down many times.
        makers = self._make
        fields = {
            maker[0]: maker[1](content)
            for key in payload
            if (maker := makers.get(key)) and (content := getattr(native, maker[0]))
        }
        own = native.id or (event_id(record) if record.headers else "")
        trace_id = self._clean.trace_id(own, fields.get("trace_id", ""), fields.get("span_id", ""), value)
        time = native.time
        if type(time) is not float or not 0 <= time < YEAR_2200:  # the usual case costs no call
            time = unix_seconds(time, record.time, "time", lost)
        latency = native.latency  # 0 is not nothing
        fields["response"] = response = native.response
        if "error" in fields or fields.get("finish_reason") == FAILED:
            error = fields.setdefault("error", FAILED)
            fields.setdefault("finish_reason", FAILED)
            fields["labels"] = {"error": error} | fields.get("labels", {})
        if not self._is_usual(response, fields):
            self._note_unread(fields)
        if lost:
            _note_lost(fields, lost)
        return (Trace(id=trace_id, time=time, latency=latency, emitter="native", **fields),)

    def _is_usual(self, response: str, fields: dict[str, Any]) -> bool:
        """Return whether all texts are there and none is a marker, at a glance: so it is of nearly all."""
        if not response or "messages" not in fields or "tool_calls" in fields or "alternatives" in fields:
            return False
        begins = self._markers.begins
        for message in fields["messages"]:
            if message.content[:1] in begins:
                return False
        if "context" in fields:
            for document in fields["context"]:
                if not document.content or document.content[0] in begins:
                    return False
        return response[0] not in begins

    def _note_unread(self, fields: dict[str, Any]) -> None:
        """Take redaction markers out of the texts, and name the sides that were not read."""
        get = fields.get
        calls, finish = get("tool_calls", ()), get("finish_reason", "")
        asked = Asked(get("messages", ()))
        answered = Answered(fields["response"], get("alternatives", ()), calls)
        plain_asked, plain_answered = self._markers.of_asked(asked), self._markers.of_answered(answered)
        if plain_asked is not asked:
            fields["messages"] = plain_asked.messages
        if plain_answered is not answered:
            fields["response"], fields["alternatives"] = plain_answered.response, plain_answered.alternatives
            fields["tool_calls"] = plain_answered.tool_calls
        failed = "error" in fields
        unread = unread_sides(plain_asked, plain_answered, get("usage"), finish, failed=failed, captured=True)
        if documents := get("context"):
            fields["context"], of_documents = self._markers.of_documents(documents)
            unread += of_documents
        if unread:
            fields["unread"], fields["missing"] = unread, (Missing.CONTENT,)


_SIDES = {
    "messages": Side.PROMPT, "context": Side.DOCUMENTS, "tool_calls": Side.TOOL_RESULTS,
    "alternatives": Side.RESPONSE,
}  # fmt: skip
_REQUIRED = frozenset({"response"})


def _note_lost(fields: dict[str, Any], lost: list[Lost]) -> None:
    """Count values that were left out, and name the sides on which they held a text."""
    sides = {_SIDES.get(one.path.partition(".")[0]) for one in lost if one.text} - {None}
    unread = fields.get("unread", ())
    known = {each.side for each in unread}
    unread += tuple(Unread(side, Unreadable.FOREIGN) for side in Side if side in sides - known)
    if unread:
        fields["unread"], fields["missing"] = unread, (Missing.CONTENT,)
    fields["labels"] = {**fields.get("labels", {}), LEFT_OUT_VALUES: str(len(lost))}


def _messages(messages: tuple[NativeMessage, ...]) -> tuple[Message, ...]:
    try:
        return tuple([Message(ROLES[message.role], message.content or "") for message in messages])
    except KeyError:
        return tuple([Message(role_of(message.role), message.content or "") for message in messages])


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


def _steps(steps: tuple[NativeStep, ...], clean: Names) -> tuple[Step, ...]:
    return tuple([_step(n, step, clean) for n, step in enumerate(steps)])


def _step(n: int, step: NativeStep, clean: Names) -> Step:
    parent = -1 if step.parent is None else step.parent
    return Step(
        kind=_KINDS.get(step.kind, StepKind.OTHER),
        name=clean.title(step.name) if step.name else "",
        id=clean.name(step.id) if step.id else "",
        parent=parent if parent < n else -1,
        start=step.start or 0.0,
        seconds=step.seconds or 0.0,
        error=clean.name(step.error) if step.error else "",
        input=step.input or "",
        output=step.output or "",
        input_tokens=step.input_tokens,
        output_tokens=step.output_tokens,
        cost=step.cost,
    )


def _usage(usage: NativeUsage) -> Usage:
    return Usage(usage.input_tokens, usage.output_tokens)
