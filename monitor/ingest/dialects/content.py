"""The content of one message, taken apart: OTel GenAI's parts, and those of the APIs.

Everything here takes plain values of any shape and raises nothing. Objects that are no part of a message are
kept as text; parts without text (images, files, a model's reasoning) are named by their kind; files of plain
text are documents: `BlobPart` of the conventions (base64 `content` of a `mime_type`), Gemini's `inlineData`,
Bedrock's `document` with a `format`, and the Vercel AI SDK's `file`, whose data may be a URL.
"""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final

from monitor.ingest.bodies import parts as bodies
from monitor.ingest.bodies.content import Content, Result
from monitor.ingest.dialects.values import structured
from monitor.ingest.fields import plain, text_of
from monitor.trace import Document, ToolCall

_TEXTS = frozenset({"text", "input_text", "output_text"})
_DOCUMENTS = frozenset({"document", "search_result"})
_NOT_SAID = {
    kind: kind for kind in (
        "reasoning", "thinking", "redacted_thinking", "blob", "file", "uri", "image", "audio", "video",
        "image_url", "input_image", "input_audio", "input_file", "video_url", "compaction",
    )
} | {"binary": "blob", "image-url": "image_url", "audio-url": "audio", "video-url": "video_url"}  # fmt: skip
"""Kinds of parts without text, as they are named where they are left out; the last are Pydantic AI's."""
_BARE_KINDS = {
    "image": "image", "video": "video", "document": "document", "inlineData": "blob", "inline_data": "blob",
    "fileData": "file", "file_data": "file", "reasoningContent": "reasoning", "cachePoint": "",
    "cache_point": "",
}  # fmt: skip
"""Parts that have no type and are named by their only key: Bedrock's and Gemini's; empty are no content."""
_CALLS = frozenset({"tool_call", "tool_use", "function_call", "tool-call"})
_RESULTS = frozenset({"tool_call_response", "tool_result", "function_call_output", "tool-result"})
_SERVER_CALL = "server_tool_call"
_SERVER_RESULT = "server_tool_call_response"
_TYPES: Final = ("mime_type", "media_type", "mimeType", "mediaType")
_DATA: Final = ("content", "data", "bytes", "file_data")
_NAMES: Final = ("filename", "name", "display_name", "displayName", "title")
_FORMATS: Final = frozenset({"txt", "md", "csv", "html"})


def take_apart(message: dict[str, Any]) -> Content:
    """Read the parts of a message, with the calls that stand next to them."""
    parts = message.get("parts")
    if parts is None:
        parts = message.get("content")
    if type(parts) is dict and type(inner := parts.get("parts")) is list:
        parts = inner  # Gemini's content, whole
    content = Content()
    role = message.get("role")
    for part in _parts(parts):
        if type(part) is dict:
            _take_part(part, content)
        elif part:
            content.texts.append(text_of(part))
    if not content.texts and (said := _beside(message)):
        content.texts.append(said)
    calls = structured(message.get("tool_calls"))
    if type(calls) is list:
        # Some senders name a call among the parts and again next to them.
        known = {call.id for call in content.calls if call.id}
        content.calls.extend(
            [c for call in calls if type(call) is dict and (c := bodies.call_of(call)).id not in known]
        )
    if type(function := message.get("function_call")) is dict:
        content.calls.append(bodies.call_of(function))
    if role == "tool" and type(call_id := message.get("tool_call_id")) is str and content.texts:
        content.results.append(Result(call_id, content.text()))
        content.texts.clear()
    return content


def _beside(message: dict[str, Any]) -> str:
    """Return what OpenAI's message says beside its content: why it refuses, or what was spoken."""
    return plain(message.get("refusal")) or plain(_of_audio(message))


def _parts(parts: Any) -> Iterator[Any]:
    """Yield the parts of a message: items of a list, or of the list that its text is; else the value."""
    if type(parts) is str and parts[:2] in {"[{", '{"'}:
        inner = structured(parts)
        if type(inner) is list and all(type(part) is dict and _is_part(part) for part in inner):
            parts = inner
    if type(parts) is not list:
        yield parts
        return
    for part in parts:
        read = structured(part) if type(part) is str and part[:1] == "{" else part
        yield read if type(read) is dict and _is_part(read) else part


def _is_part(part: dict[str, Any]) -> bool:
    """Return whether an object is a part of a message rather than an application's own text."""
    if "type" in part:
        return type(part["type"]) is str
    return len(part) <= 2 and not _PART_KEYS.isdisjoint(part)  # noqa: PLR2004 - the content, and its signature


_PART_KEYS = frozenset({
    "text", "toolUse", "toolResult", "functionCall", "functionResponse", "function_call", "function_response",
    "tool_call", "tool_result", *_BARE_KINDS,
})  # fmt: skip


def _take_part(part: dict[str, Any], content: Content) -> None:
    kind = plain(part.get("type"))
    if not kind and _take_bare(part, content):
        return
    if kind in _CALLS:
        content.calls.append(bodies.call_of(part))
    elif kind in _RESULTS:
        content.results.append(Result(bodies.call_id(part), _result(part, content)))
    elif kind == _SERVER_CALL:
        content.calls.append(_server_call(part))
    elif kind == _SERVER_RESULT:
        content.results.append(Result(plain(part.get("id")), text_of(part.get(_SERVER_RESULT))))
    elif type(transcript := part.get("transcript") or _of_audio(part)) is str and transcript:
        content.texts.append(transcript)
    elif kind in _NOT_SAID:
        _take_attached(part, _NOT_SAID[kind], content)
    elif kind not in _DOCUMENTS and (text := text_in(part)):
        content.texts.append(text)
    elif kind not in _TEXTS and part.keys() - {"type"}:
        content.add(bodies.read(part))  # only the APIs' own bodies have it; an object nobody knows is text


def _take_attached(part: Any, kind: str, content: Content) -> None:
    """Take a file: one of plain text is a document, all others are left out."""
    if found := attached(part):
        content.documents.append(found)
    else:
        content.left_out.append(kind)


def _take_bare(part: dict[str, Any], content: Content) -> bool:
    """Take a part that its only key names, as in Bedrock's Converse and Gemini; return whether it is one."""
    for key in ("toolUse", "functionCall", "function_call", "tool_call"):
        if type(call := part.get(key)) is dict:
            content.calls.append(bodies.call_of(call))
            return True
    for key in ("toolResult", "functionResponse", "function_response", "tool_result"):
        if type(result := part.get(key)) is dict:
            content.results.append(Result(bodies.call_id(result), _result(result, content)))
            return True
    for key, kind in _BARE_KINDS.items():
        if key in part:
            if key == "document" and not attached(part[key]):
                content.add(bodies.read(part))
            elif kind:
                _take_attached(part[key], kind, content)
            return True
    if part.get("thought") is True:
        content.left_out.append("reasoning")
        return True
    return False


def _of_audio(part: dict[str, Any]) -> Any:
    for key in ("audio", "input_audio", "output_audio"):
        if type(audio := part.get(key)) is dict and (transcript := audio.get("transcript")):
            return transcript
    return None


def text_in(part: dict[str, Any]) -> str:
    """Return the text of a part that is one, else an empty string."""
    for key in ("content", "text", "refusal"):
        value = part.get(key)
        if type(value) is str:
            return value
        if type(value) is dict and type(inner := value.get("value")) is str:
            return inner
    return ""


def _server_call(part: dict[str, Any]) -> ToolCall:
    return ToolCall(plain(part.get("name")), text_of(part.get(_SERVER_CALL)), "", plain(part.get("id")))


def _result(part: dict[str, Any], of: Content) -> str:
    """Return the text of a tool's result; pictures and files in it are left out of its message."""
    # The schema says `response`, the attribute's own example `result`; Anthropic's API `content`.
    result = next((part[key] for key in ("response", "result", "output", "content") if key in part), None)
    if type(result) is list and result and all(type(item) is dict and _is_shown(item) for item in result):
        inner = Content()
        for item in result:
            if type(item.get("text")) is str:
                inner.texts.append(text_in(item))
            else:
                _take_part(item, inner)
        if not inner.documents:
            of.left_out.extend(inner.left_out)
            return inner.text()
    return text_of(result)


def _is_shown(item: dict[str, Any]) -> bool:
    """Return whether an item of a tool's result is a text, a picture or a file, not the tool's own object."""
    if type(item.get("text")) is str:
        return True
    return item["type"] in _NOT_SAID if type(item.get("type")) is str else _is_attached(item)


def _is_attached(item: dict[str, Any]) -> bool:
    return len(item) == 1 and not item.keys().isdisjoint(_BARE_KINDS)


def attached(part: Any) -> Document | None:
    """Return a file of plain text; None for any other part."""
    if type(part) is not dict:
        return None
    kind = next((plain(part[key]) for key in _TYPES if key in part), "")
    held = part.get("source")
    if not kind.lower().startswith("text/") and plain(part.get("format")) not in _FORMATS:
        return None
    texts = [
        value for of in (part, held) if type(of) is dict for key in _DATA if (value := plain(of.get(key)))
    ]
    name = next((plain(part[key]) for key in _NAMES if key in part), "")
    return Document(name, _decoded(texts[0])) if texts else None


def _decoded(data: str) -> str:
    """Return the text that base64, maybe in a URL of data, encodes; a text that is none as it is."""
    encoded = data.partition(",")[2] if data.startswith("data:") else data
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return data
