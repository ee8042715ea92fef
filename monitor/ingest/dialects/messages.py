"""Messages as emitters write them: OTel GenAI's `parts`, and those of OpenAI, Anthropic, Gemini and Bedrock.

Everything here takes plain values of any shape and raises nothing. Unknown values are kept as text, so that
they are judged; parts without text (images, files, a model's reasoning) are named by their kind.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from monitor.ingest.cut_json import read_cut
from monitor.ingest.dialects.values import MAX_DEPTH, OPENERS, compact, opened, structured, text_of
from monitor.ingest.fields import ROLES as NATIVE_ROLES
from monitor.ingest.spans import number, plain
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED, Answered, Asked
from monitor.trace import Document, Message, ToolCall, Unreadable

__all__ = [
    "KEYS", "ROLES", "answered", "asked", "compact", "document", "documents", "opened", "structured",
    "text_of",
]  # fmt: skip

ROLES = NATIVE_ROLES | {
    "human": "user",  # LangChain
    "ai": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",  # Cohere
    "tool-call": "assistant",  # smolagents
    "tool-response": "tool",
    "tool_call": "assistant",
    "tool_response": "tool",
    "messagerole.user": "user",  # an enumeration's name that was printed
    "messagerole.assistant": "assistant",
    "messagerole.system": "system",
    "messagerole.tool": "tool",
    "messagerole.tool_call": "assistant",
    "messagerole.tool_response": "tool",
}
KEYS = frozenset({"role", "content", "parts", "tool_calls", "message", "finish_reason", "index"})
"""Keys of a message or choice; an object without any of them is an application's own text."""

# An application's instructions hardly ever change; the rest of a prompt does.
_REMEMBERED, _REMEMBERED_CHARS = 256, 16_384
_NOT_SAID = frozenset({
    "reasoning", "thinking", "redacted_thinking", "blob", "file", "uri", "image", "audio", "video",
    "image_url", "input_image", "input_audio", "input_file", "video_url", "compaction",
})  # fmt: skip
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


class _Content(NamedTuple):
    """One message taken apart: texts, calls in it, results of calls by id, kinds of parts without text."""

    texts: list[str]
    calls: list[ToolCall]
    results: list[tuple[str, str]]
    left_out: list[str]

    def text(self) -> str:
        return "\n".join(self.texts)

    def is_empty(self) -> bool:
        return not (self.texts or self.calls or self.results or self.left_out)


def asked(value: Any, system: Any = None) -> Asked:
    """Read input messages, after the system instructions where they come apart; both may be JSON text."""
    messages: list[Message] = []
    left_out: list[str] = []
    items, unread = _items(value)
    for item in items:
        if type(item) is dict and not KEYS.isdisjoint(item):
            if (text := _only_text(item)) is not None:
                messages.append(Message(_role(item), text))
                continue
            taken = _take_apart(item)
            left_out += taken.left_out
            messages.extend([Message("tool", result) for _, result in taken.results])
            if taken.is_empty() and _lacks_content(item):
                unread = unread or Unreadable.NO_CONTENT
            elif taken.texts or not taken.results:
                messages.append(Message(_role(item), taken.text()))
        elif item or item == 0:
            messages.append(Message("user", text_of(item)))
    if system:
        short = type(system) is str and len(system) <= _REMEMBERED_CHARS
        first = _remembered_system(system) if short else _system(system)
        # Some emitters send the instructions apart and as the first message.
        if first.content and first not in messages[:1]:
            messages.insert(0, first)
    if not (messages or left_out or unread):
        return NOTHING_ASKED
    return Asked(tuple(messages), tuple(left_out), unread)


def _system(instructions: Any) -> Message:
    item = {"parts": structured(instructions)}
    text = _only_text(item)
    return Message("system", _take_apart(item).text() if text is None else text)


_remembered_system = lru_cache(_REMEMBERED)(_system)


def answered(value: Any) -> Answered:
    """Read output messages, one for each sample; may be JSON text."""
    items, unread = _items(value)
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: dict[str, str] = {}
    left_out: list[str] = []
    finish: object = None
    for item in items:
        if type(item) is dict and not KEYS.isdisjoint(item):
            finish = finish or item.get("finish_reason")
            if (text := _only_text(item)) is not None:
                if text:
                    texts.append(text)
                continue
            taken = _take_apart(_answer(item))
            if taken.texts:
                texts.append(taken.text())
            calls += taken.calls
            results.update(taken.results)
            left_out += taken.left_out
        elif item or item == 0:
            texts.append(text_of(item))
    if results:
        calls = [
            msgspec.structs.replace(c, result=c.result or results[c.id]) if c.id in results else c
            for c in calls
        ]
    if calls:
        calls = [call for call in calls if not _is_output(call, texts)]
    if not (texts or calls or left_out or finish or unread):
        return NOTHING_ANSWERED
    return Answered(
        texts[0] if texts else "", tuple(texts[1:]), tuple(calls), finish, tuple(left_out), unread
    )


_OUTPUT_TOOLS = ("final_result", "final_answer")  # Pydantic AI's, smolagents'


def _is_output(call: ToolCall, texts: list[str]) -> bool:
    """Return whether a call hands over the answer, which then joins the texts of the first sample."""
    if not call.name.startswith(_OUTPUT_TOOLS) or not call.arguments:
        return False
    texts[:1] = ["\n".join([*texts[:1], compact(call.arguments)])]
    return True


def documents(value: Any, keys: tuple[str, ...]) -> tuple[Document, ...]:
    """Read retrieved documents, maybe JSON text; a document's text is under one of `keys`.

    Text that is no list of documents is one document.
    """
    value = structured(value)
    if type(value) is dict:
        nested = value.get("documents")
        value = nested if type(nested) is list else [value]
    if type(value) is str and value:
        value = [value]
    return tuple([document(item, keys) for item in value if item]) if type(value) is list else ()


def document(item: Any, keys: tuple[str, ...]) -> Document:
    """Read one document."""
    if type(item) is not dict:
        return Document("", text_of(item))
    content = next((text_of(value) for key in keys if (value := item.get(key))), "")
    own = item.get("id")
    metadata = item.get("metadata")
    if own is None and type(metadata) is dict:
        own = metadata.get("id") or metadata.get("source")
    return Document(plain(own), content, number(item.get("score")))


def _role(item: dict[str, Any]) -> str:
    role = item.get("role")
    return (ROLES.get(role) or ROLES.get(role.lower(), "user")) if type(role) is str else "user"


def _items(value: Any) -> tuple[list[Any], Unreadable | None]:
    """Return the messages of a value, maybe JSON text, and whether that text was cut off."""
    value = structured(value)
    if type(value) is str and value[:1] in OPENERS and (read := _cut_messages(value)):
        return read, Unreadable.TRUNCATED
    if type(value) is list:
        return [_inner(item) if type(item) is str else item for item in value], None
    return [value], None


def _inner(item: str) -> Any:
    """Return a message that came as JSON in a string as itself."""
    if item[:1] == "{":
        read = structured(item)
        return read if type(read) is dict and not KEYS.isdisjoint(read) else item
    return item


def _cut_messages(text: str) -> list[Any]:
    """Return the messages of JSON that was cut off; none where the text is none of messages."""
    value = read_cut(text, MAX_DEPTH)
    items = value if type(value) is list else [value]
    messages = [item for item in items if type(item) is dict and not KEYS.isdisjoint(item)]
    while messages and not _says(messages[-1]):  # of the last one too little is left
        messages.pop()
    return messages


def _says(message: dict[str, Any]) -> bool:
    taken = _take_apart(_answer(message))
    return bool(taken.texts or taken.calls or taken.results)


def _lacks_content(item: dict[str, Any]) -> bool:
    """Return whether a message came without content although its shape has a place for it.

    An empty text is what its sender wrote; an empty list of parts, or none at all, is what was left of it.
    """
    if "parts" in item:
        return not item["parts"]
    content = item.get("content")
    return content is None or content == []


def _answer(choice: dict[str, Any]) -> dict[str, Any]:
    """Return the message of a choice, merged with the choice's other keys; other objects unchanged."""
    message = structured(choice.get("message"))
    if not message:
        return choice
    return {**choice, **(message if type(message) is dict else {"content": message})}


def _only_text(message: dict[str, Any]) -> str | None:
    """Return the text of a message that is one text and nothing else, the usual case; else None."""
    parts = message.get("parts")
    if type(parts) is list and len(parts) == 1 and "tool_calls" not in message and "message" not in message:
        part = parts[0]
        if type(part) is dict and part.get("type") == "text":
            return _text(part)
    return None


def _take_apart(message: dict[str, Any]) -> _Content:
    parts = message.get("parts")
    if parts is None:
        parts = message.get("content")
        if type(parts) is dict and type(inner := parts.get("parts")) is list:
            parts = inner  # Gemini's content, whole
    content = _Content([], [], [], [])
    role = message.get("role")
    for part in _parts(parts):
        if type(part) is dict:
            _take_part(part, content)
        elif part:
            content.texts.append(text_of(part))
    calls = message.get("tool_calls")
    if type(calls) is list:
        # Some senders name a call among the parts and again next to them.
        known = {call.id for call in content.calls if call.id}
        content.calls.extend(
            [c for call in calls if type(call) is dict and (c := _call(call)).id not in known]
        )
    if type(function := message.get("function_call")) is dict:
        content.calls.append(_call(function))
    if role == "tool" and type(call_id := message.get("tool_call_id")) is str and content.texts:
        content.results.append((call_id, content.text()))
        content.texts.clear()
    return content


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


def _take_part(part: dict[str, Any], content: _Content) -> None:
    kind = plain(part.get("type"))
    if not kind and _take_bare(part, content):
        return
    if kind in _CALLS:
        content.calls.append(_call(part))
    elif kind in _RESULTS:
        own = part.get("id") or part.get("tool_use_id") or part.get("toolCallId") or part.get("call_id")
        content.results.append((plain(own), _result(part)))
    elif kind == _SERVER_CALL:
        content.calls.append(_server_call(part))
    elif kind == _SERVER_RESULT:
        content.results.append((plain(part.get("id")), text_of(part.get(_SERVER_RESULT))))
    elif type(transcript := part.get("transcript") or _of_audio(part)) is str and transcript:
        content.texts.append(transcript)
    elif kind in _NOT_SAID:
        content.left_out.append(kind)
    elif text := _text(part):
        content.texts.append(text)
    elif kind and kind not in {"text", "input_text", "output_text"}:
        content.left_out.append(kind)


def _take_bare(part: dict[str, Any], content: _Content) -> bool:
    """Take a part that its only key names, as in Bedrock's Converse and Gemini; return whether it is one."""
    for key in ("toolUse", "functionCall", "function_call", "tool_call"):
        if type(call := part.get(key)) is dict:
            content.calls.append(_call(call))
            return True
    for key in ("toolResult", "functionResponse", "function_response", "tool_result"):
        if type(result := part.get(key)) is dict:
            own = result.get("toolUseId") or result.get("id") or result.get("tool_call_id")
            content.results.append((plain(own), _result(result)))
            return True
    for key, kind in _BARE_KINDS.items():
        if key in part:
            if kind:
                content.left_out.append(kind)
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


def _text(part: dict[str, Any]) -> str:
    for key in ("content", "text", "refusal"):
        value = part.get(key)
        if type(value) is str:
            return value
        if type(value) is dict and type(inner := value.get("value")) is str:
            return inner
    return ""


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")  # OpenAI's nesting
    inner = function if type(function) is dict else call
    arguments = next((inner[key] for key in _ARGUMENTS if inner.get(key) is not None), None)
    own = call.get("id") or call.get("toolUseId") or call.get("toolCallId") or call.get("call_id")
    return ToolCall(plain(inner.get("name") or inner.get("toolName")), text_of(arguments), "", plain(own))


_ARGUMENTS = ("arguments", "input", "args")  # OpenAI's, Anthropic's and Bedrock's, Gemini's and LangChain's


def _server_call(part: dict[str, Any]) -> ToolCall:
    return ToolCall(plain(part.get("name")), text_of(part.get(_SERVER_CALL)), "", plain(part.get("id")))


def _result(part: dict[str, Any]) -> str:
    # The schema says `response`, the attribute's own example `result`; Anthropic's API `content`.
    result = next((part[key] for key in ("response", "result", "output", "content") if key in part), None)
    if type(result) is list and result:
        texts = [_text(item) for item in result if type(item) is dict and type(item.get("text")) is str]
        if len(texts) == len(result):
            return "\n".join(texts)
    return text_of(result)
