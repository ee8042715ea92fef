"""Generations as Grafana's Agent Observability SDKs export them: `POST /api/v1/generations:export`, in JSON.

    {"generations": [{…}, …]}

Source: PyPI `agento11y` 0.21 (`proto_mapping.py`, `generation_ingest.proto`). The JSON is protobuf's: names
in snake_case or lowerCamelCase, enumerations by name or number, 64-bit integers as strings, bytes in base64.
With the content capture mode `metadata_only` messages keep their parts, and these are empty.
`agento11y_proto` reads the same in protobuf.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from monitor.errors import BadTrace
from monitor.ingest.bodies import Answer, Prompt, exchange_fields, lost_label
from monitor.ingest.bodies.content import Content, Result
from monitor.ingest.bodies.shapes import kind_of
from monitor.ingest.fields import (
    Parse,
    convert,
    event_id,
    labels_of,
    one_object,
    plain,
    readable,
    role_of,
    text_of,
    token_count,
    unix_seconds,
)
from monitor.ingest.identifiers import Names
from monitor.ingest.mending import Lost
from monitor.ingest.texts import FAILED, Markers
from monitor.ingest.unused import Shapes
from monitor.trace import Message, Record, ToolCall, Trace, Unreadable, Usage

MAX_GENERATIONS: Final = 10_000
"""Most generations of one record; the SDKs send 100 at most."""
_MODE: Final = "sdk.content_capture_mode"
_USER: Final = ("agento11y.user.id", "sigil.user.id", "user.id")
_ROLES: Final = {1: "user", 2: "assistant", 3: "tool"}
_PREFIX: Final = "MESSAGE_ROLE_"
_MEDIA: Final = ("image", "audio", "video", "file", "document")


class Model(msgspec.Struct, gc=False):
    """Provider and model that were asked."""

    provider: str | None = None
    name: str | None = None


class Called(msgspec.Struct, gc=False):
    """A call of a tool; `input_json` is base64."""

    id: str | None = None
    name: str | None = None
    input_json: Any = None


class Returned(msgspec.Struct, gc=False):
    """A tool's result: text, or JSON in base64."""

    tool_call_id: str | None = None
    name: str | None = None
    content: str | None = None
    content_json: Any = None
    is_error: bool = False


class Media(msgspec.Struct, gc=False):
    """An image or a file."""

    kind: str | None = None


class GenerationPart(msgspec.Struct, gc=False):
    """One part of a message: one of these is set."""

    text: str | None = None
    thinking: str | None = None
    tool_call: Called | None = None
    tool_result: Returned | None = None
    media: Media | None = None
    metadata: dict[str, Any] | None = None


class GenerationMessage(msgspec.Struct, gc=False):
    """One message."""

    role: str | int | None = None
    parts: tuple[GenerationPart, ...] | None = None


class GenerationTokens(msgspec.Struct, gc=False):
    """Tokens as billed; protobuf leaves out what is zero."""

    input_tokens: int | str | None = None
    output_tokens: int | str | None = None


class Generation(msgspec.Struct, gc=False):
    """One call of a model."""

    id: str | None = None
    conversation_id: str | None = None
    operation_name: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    model: Model | None = None
    response_id: str | None = None
    response_model: str | None = None
    system_prompt: str | None = None
    input: tuple[GenerationMessage, ...] | None = None
    output: tuple[GenerationMessage, ...] | None = None
    usage: GenerationTokens | None = None
    stop_reason: str | None = None
    started_at: str | float | None = None
    completed_at: str | float | None = None
    tags: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    call_error: str | None = None
    agent_name: str | None = None
    agent_version: str | None = None


class Export(msgspec.Struct, gc=False):
    """An export request."""

    generations: list[Any] | None = None


SHAPES: Shapes = {"": Export, "generations": Generation}
_STRUCTS: Final = (
    Model,
    Called,
    Returned,
    Media,
    GenerationPart,
    GenerationMessage,
    GenerationTokens,
    Generation,
)
_SNAKE: Final = {
    re.sub(r"_([a-z])", lambda match: match[1].upper(), name): name
    for struct in _STRUCTS
    for name in struct.__struct_fields__
    if "_" in name
}
"""lowerCamelCase names of fields, and their own."""


def decode(record: Record, parse: Parse, clean: Names, markers: Markers) -> tuple[Trace, ...]:
    """Return a trace per generation.

    A failed one has finish reason `error` and the kind of its error as label. The user is the one that its
    metadata name; tags are labels. Raises BadTrace: too_large, missing_field, what `parse` raises, and
    where no generation can be read wrong_type.
    """
    value = record.value or b""
    sent = one_object(parse(value)).get("generations")
    if not isinstance(sent, list):
        raise BadTrace("missing_field", "generations: required; send a list of them")
    check_number(len(sent))
    return traces_of(list(map(_renamed, sent)), record, clean, markers)


def check_number(generations: int) -> None:
    """Refuse more generations than a record may have. Raises BadTrace: too_large."""
    if generations > MAX_GENERATIONS:
        raise BadTrace("too_large", f"{generations} generations; send at most {MAX_GENERATIONS} in a record")


def traces_of(sent: Sequence[object], record: Record, clean: Names, markers: Markers) -> tuple[Trace, ...]:
    """Return the traces of a record's generations, each as JSON has it, its bytes in base64 or as they are.

    Raises BadTrace: wrong_type, out_of_range.
    """
    return readable(sent, lambda each, n: (_trace(each, n, record, clean, markers),))


def _trace(sent: object, number: int, record: Record, clean: Names, markers: Markers) -> Trace:
    lost: list[Lost] = []
    at = f"generations[{number}]"
    made = convert(sent, Generation, lost, at)
    model = made.model or Model()
    metadata = made.metadata or {}
    hidden = any(value == "metadata_only" for key, value in metadata.items() if key.endswith(_MODE))
    usage = _usage(made.usage)
    prompt = Prompt(model=model.name or "", conversation=made.conversation_id or "", lost=lost)
    answer = Answer(model=made.response_model or "", finish_reason=made.stop_reason or "", usage=usage)
    if made.system_prompt:
        prompt.messages.append(Message("system", made.system_prompt))
    _read_input(made.input or (), prompt)
    _read_output(made.output or (), answer)
    if made.call_error:
        answer.failed, answer.finish_reason = kind_of(made.call_error), FAILED
    if hidden:
        _hide(made, prompt, answer)
    fields, text_labels = exchange_fields(prompt, answer, clean, markers)
    # As spans have it: the model that was asked for, and the version that answered.
    fields["model"] = clean.optional(model.name or made.response_model, "unknown")
    fields["model_version"] = clean.optional(made.response_model if model.name else None)
    fields |= _of_tags(made.tags or {}, clean)
    trace_id = clean.id(made.trace_id) if made.trace_id else ""
    span_id = clean.id(made.span_id) if made.span_id else ""
    user = next((name for key in _USER if (name := plain(metadata.get(key)))), "")
    start = unix_seconds(made.started_at, record.time, f"{at}.started_at", lost)
    end = unix_seconds(made.completed_at, start, f"{at}.completed_at", lost)
    own = made.id or made.response_id or event_id(record)
    return Trace(
        id=clean.trace_id(own, trace_id, span_id, record.value or b"", number),
        time=start,
        provider=clean.optional(model.provider, "unknown").lower(),
        user=clean.user(user) if user else "",
        trace_id=trace_id,
        span_id=span_id,
        latency=max(0.0, end - start) if made.completed_at else None,
        emitter="agento11y",
        agent=clean.title(made.agent_name) if made.agent_name else "",
        labels=labels_of(
            [
                ("error", answer.failed),
                *text_labels,
                lost_label(lost),
                ("operation", made.operation_name),
                ("agent_version", made.agent_version),
                *(made.tags or {}).items(),
            ]
        ),
        **fields,
    )


def _of_tags(tags: dict[str, Any], clean: Names) -> dict[str, str]:
    """Return application and environment, which are tags if anything."""
    app = plain(tags.get("service.name") or tags.get("app"))
    environment = plain(tags.get("deployment.environment.name") or tags.get("environment"))
    return {
        "app": clean.optional(app, "unknown"),
        "environment": clean.environment(environment) if environment else "unknown",
    }


def _read_input(messages: Sequence[GenerationMessage], prompt: Prompt) -> None:
    for message in messages:
        role = _role(message.role)
        texts: list[str] = []
        held = False
        for part in message.parts or ():
            held |= part.tool_call is not None
            if part.tool_result is not None:
                prompt.messages.append(Message("tool", _returned(part.tool_result)))
            elif part.text is not None:
                texts.append(part.text)
            else:
                prompt.left_out += _silent(part)
        # An empty part is what was left of a text: as no message it is known to be missing.
        if any(texts) or held:
            prompt.messages.append(Message(role, "\n".join(texts)))


def _read_output(messages: Sequence[GenerationMessage], answer: Answer) -> None:
    content = Content()
    for part in [part for message in messages for part in message.parts or ()]:
        if part.tool_call is not None:
            call = part.tool_call
            content.calls.append(ToolCall(call.name or "", _json_of(call.input_json), "", call.id or ""))
        elif part.tool_result is not None:
            result, own = part.tool_result, part.tool_result.tool_call_id or ""
            content.results.append(
                Result(own, _returned(result), result.is_error, result.name or "", len(content.calls))
            )
        elif part.text:
            content.texts.append(part.text)
        else:
            content.left_out += _silent(part)
    answer.text = "\n".join(content.texts)
    answer.tool_calls, answer.left_out = content.answered_calls(), content.left_out


def _silent(part: GenerationPart) -> Iterator[str]:
    """Yield the kind of a part without text; of one that the SDK cannot map it sends the provider's name."""
    metadata = part.metadata or {}
    kind = plain(metadata.get("provider_type") or metadata.get("providerType"))
    if part.thinking is not None:
        yield "thinking"
    elif part.media is not None:
        yield part.media.kind if part.media.kind in _MEDIA else "other"
    elif part.text is None and kind and "text" not in kind:
        yield next((medium for medium in _MEDIA if medium in kind), "other")


def _hide(made: Generation, prompt: Prompt, answer: Answer) -> None:
    """Say that texts, and arguments of calls, were not sent: their parts alone are there."""
    if not any(message.content for message in prompt.messages):
        prompt.unread = Unreadable.NO_CONTENT
    if (made.output or (answer.usage and answer.usage.output_tokens)) and not (answer.failed or answer.text):
        answer.unread = Unreadable.NO_CONTENT


def _returned(result: Returned) -> str:
    return result.content or _json_of(result.content_json)


def _json_of(value: Any) -> str:
    """Return the JSON that bytes, or base64, hold, as text: what JSON it is a text of, if it is one."""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    elif not isinstance(value, str):
        return text_of(value)
    else:
        try:
            raw = base64.b64decode(value.translate(_URL_SAFE) + "=" * (-len(value) % 4), validate=True)
            text = raw.decode()
        except ValueError:
            return value  # JSON as it is, from whoever does not know better
    if text[:1] == '"':
        try:
            return msgspec.json.decode(text, type=str)
        except msgspec.DecodeError:
            return text
    return text


_URL_SAFE: Final = str.maketrans("-_", "+/")


def _role(role: str | int | None) -> str:
    if isinstance(role, int):
        return _ROLES.get(role, "user")
    return role_of((role or "").removeprefix(_PREFIX))


def _usage(tokens: GenerationTokens | None) -> Usage | None:
    if tokens is None:
        return None
    counts = token_count(tokens.input_tokens), token_count(tokens.output_tokens)
    return None if counts == (None, None) else Usage(*counts)


def _renamed(value: Any) -> Any:
    """Return a generation with its fields' own names for those in lowerCamelCase."""
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        (name := _SNAKE.get(key, key)): item if name in {"metadata", "tags"} else _renamed(item)
        for key, item in value.items()
    }
