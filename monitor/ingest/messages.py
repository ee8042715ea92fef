"""Messages as emitters write them: OTel GenAI's `parts`, OpenAI's `content` and `tool_calls`, or bare text.

Everything here takes plain values of any shape and raises nothing. Unknown values are kept as text, so that
they are judged; those without text (images, files, a model's reasoning) are left out.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from monitor.errors import BadTrace
from monitor.ingest import strict_json
from monitor.ingest.fields import ROLES as NATIVE_ROLES
from monitor.ingest.spans import number, plain
from monitor.trace import Document, Message, ToolCall

ROLES = NATIVE_ROLES | {"human": "user", "ai": "assistant", "bot": "assistant"}  # LangChain's names
KEYS = frozenset({"role", "content", "parts", "tool_calls", "message", "finish_reason", "index"})
"""Keys of a message or choice; an object without any of them is an application's own text."""
MAX_DEPTH = 64  # of JSON in an attribute; deeper is taken as text

# An application's instructions hardly ever change; the rest of a prompt does.
_REMEMBERED, _REMEMBERED_CHARS = 256, 16_384
_OPENERS = frozenset("[{")
_encode = msgspec.json.encode
_NOT_SAID = frozenset({"reasoning", "thinking", "redacted_thinking", "blob", "file", "uri", "image", "audio"})
_CALLS = frozenset({"tool_call", "tool_use", "function_call"})
_RESULTS = frozenset({"tool_call_response", "tool_result", "function_call_output"})
_SERVER_CALL = "server_tool_call"
_SERVER_RESULT = "server_tool_call_response"


class Output(NamedTuple):
    """A model's output: the first sample with text, then the others."""

    response: str = ""
    alternatives: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    finish: object = None


class _Content(NamedTuple):
    """One message taken apart: its texts, the calls in it, and results of calls by id, in order."""

    texts: list[str]
    calls: list[ToolCall]
    results: list[tuple[str, str]]

    def text(self) -> str:
        return "\n".join(self.texts)


def structured(value: Any) -> Any:
    """Return the list or dict that `value` is or holds as JSON, else `value`.

    JSON that is cut off, or holds a key twice, stays text: judged as it is rather than half read.
    """
    if type(value) is str and value[:1] in _OPENERS:
        try:
            return strict_json.parse(value.encode(), MAX_DEPTH, ())
        except (BadTrace, UnicodeEncodeError):
            return value
    return value


def text_of(value: Any) -> str:
    """Return `value` as text: a string as it is, anything else as JSON, nothing as an empty string."""
    if type(value) is str:
        return value
    return "" if value is None else _encode(value).decode()


def prompt(value: Any, system: Any = None) -> tuple[Message, ...]:
    """Read input messages, after the system instructions where they come apart; both may be JSON text."""
    messages = []
    if system:
        short = type(system) is str and len(system) <= _REMEMBERED_CHARS
        messages.append(_remembered_system(system) if short else _system(system))
    value = structured(value)
    for item in value if type(value) is list else [value]:
        if type(item) is dict and not KEYS.isdisjoint(item):
            role = item.get("role")
            role = (ROLES.get(role) or ROLES.get(role.lower(), "user")) if type(role) is str else "user"
            if (text := _only_text(item)) is not None:
                messages.append(Message(role, text))
                continue
            taken = _take_apart(item)
            messages.extend([Message("tool", result) for _, result in taken.results])
            if taken.texts or not taken.results:
                messages.append(Message(role, taken.text()))
        elif item or item == 0:
            messages.append(Message("user", text_of(item)))
    return tuple(messages)


def _system(instructions: Any) -> Message:
    item = {"parts": structured(instructions)}
    text = _only_text(item)
    return Message("system", _take_apart(item).text() if text is None else text)


_remembered_system = lru_cache(_REMEMBERED)(_system)


def output(value: Any) -> Output:
    """Read output messages, one for each sample; may be JSON text."""
    value = structured(value)
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: dict[str, str] = {}
    finish: object = None
    for item in value if type(value) is list else [value]:
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
        elif item or item == 0:
            texts.append(text_of(item))
    if results:
        calls = [
            msgspec.structs.replace(c, result=c.result or results[c.id]) if c.id in results else c
            for c in calls
        ]
    return Output(texts[0] if texts else "", tuple(texts[1:]), tuple(calls), finish)


def documents(value: Any, keys: tuple[str, ...]) -> tuple[Document, ...]:
    """Read retrieved documents, maybe JSON text; a document's text is under one of `keys`."""
    value = structured(value)
    if type(value) is dict:
        nested = value.get("documents")
        value = nested if type(nested) is list else [value]
    return tuple([document(item, keys) for item in value if item]) if type(value) is list else ()


def document(item: Any, keys: tuple[str, ...]) -> Document:
    """Read one document."""
    if type(item) is not dict:
        return Document("", text_of(item))
    content = next((text_of(value) for key in keys if (value := item.get(key))), "")
    return Document(plain(item.get("id")), content, number(item.get("score")))


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
    content = _Content([], [], [])
    for part in parts if type(parts) is list else [parts]:
        if type(part) is dict:
            _take_part(part, content)
        elif part:
            content.texts.append(text_of(part))
    calls = message.get("tool_calls")
    if type(calls) is list:
        content.calls.extend([_call(call) for call in calls if type(call) is dict])
    return content


def _take_part(part: dict[str, Any], content: _Content) -> None:
    kind = plain(part.get("type"))
    if kind in _CALLS:
        content.calls.append(_call(part))
    elif kind in _RESULTS:
        content.results.append((plain(part.get("id") or part.get("tool_use_id")), _result(part)))
    elif kind == _SERVER_CALL:
        content.calls.append(_server_call(part))
    elif kind == _SERVER_RESULT:
        content.results.append((plain(part.get("id")), text_of(part.get(_SERVER_RESULT))))
    elif kind not in _NOT_SAID and (text := _text(part)):
        content.texts.append(text)


def _text(part: dict[str, Any]) -> str:
    for key in ("content", "text", "refusal"):
        value = part.get(key)
        if type(value) is str:
            return value
    return ""


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")  # OpenAI's nesting
    inner = function if type(function) is dict else call
    arguments = inner.get("arguments")
    if arguments is None:
        arguments = inner.get("input")  # Anthropic's name
    return ToolCall(plain(inner.get("name")), text_of(arguments), "", plain(call.get("id")))


def _server_call(part: dict[str, Any]) -> ToolCall:
    return ToolCall(plain(part.get("name")), text_of(part.get(_SERVER_CALL)), "", plain(part.get("id")))


def _result(part: dict[str, Any]) -> str:
    # The schema says `response`, the attribute's own example `result`; Anthropic's API `content`.
    result = next((part[key] for key in ("response", "result", "output", "content") if key in part), None)
    return text_of(result)
