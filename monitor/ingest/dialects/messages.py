"""Messages as emitters write them: OTel GenAI's `parts`, and those of OpenAI, Anthropic, Gemini and Bedrock.

Everything here takes plain values of any shape and raises nothing. Unknown values are kept as text, so that
they are judged; parts without text (images, files, a model's reasoning) are named by their kind.
"""

import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from monitor.ingest.cut_json import read_cut
from monitor.ingest.dialects.content import take_apart, text_in
from monitor.ingest.dialects.values import MAX_DEPTH, OPENERS, compact, is_digest, opened, structured
from monitor.ingest.fields import ROLES as NATIVE_ROLES
from monitor.ingest.fields import number, plain, text_of
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

_ITEMS: Final = frozenset({"function_call", "function_call_output", "reasoning"})
"""Items of the Responses API that stand between messages."""

# An application's instructions hardly ever change; the rest of a prompt does.
_REMEMBERED, _REMEMBERED_CHARS = 256, 16_384


def asked(value: Any, system: Any = None) -> Asked:
    """Read input messages, after the system instructions where they come apart; both may be JSON text."""
    messages: list[Message] = []
    left_out: list[str] = []
    found: list[Document] = []
    items, unread = _items(value)
    for item in items:
        if type(item) is dict and not KEYS.isdisjoint(item):
            if text := _only_text(item):
                messages.append(Message(_role(item), text))
                continue
            taken = take_apart(item)
            left_out += taken.left_out
            found += taken.documents
            messages.extend([Message("tool", result.text) for result in taken.results])
            if not taken.held() and _lacks_content(item):
                unread = unread or Unreadable.NO_CONTENT
            elif taken.texts or not taken.results:
                messages.append(Message(_role(item), taken.text()))
        elif item or item == 0:
            left_out += _add_item(item, messages)
    if system:
        short = type(system) is str and len(system) <= _REMEMBERED_CHARS
        first = _remembered_system(system) if short else _system(system)
        # Some emitters send the instructions apart and as the first message.
        if first.content and not (messages and messages[0] == first):
            messages.insert(0, first)
    if not (messages or left_out or unread or found):
        return NOTHING_ASKED
    return Asked(tuple(messages), tuple(left_out), unread, tuple(found))


def _system(instructions: Any) -> Message:
    item = {"parts": structured(instructions)}
    text = _only_text(item)
    return Message("system", take_apart(item).text() if text is None else text)


def _add_item(item: Any, messages: list[Message]) -> list[str]:
    """Add what is no message: an item of the Responses API, or a text. Return kinds of what has none."""
    if type(item) is not dict or plain(item.get("type")) not in _ITEMS:
        messages.append(Message("user", text_of(item)))
        return []
    taken = take_apart({"content": [item]})
    messages.extend([Message("tool", result.text) for result in taken.results])
    messages.extend([Message("assistant", "") for _ in taken.calls])
    return taken.left_out


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
        if type(item) is dict and not (KEYS.isdisjoint(item) and plain(item.get("type")) not in _ITEMS):
            finish = finish or item.get("finish_reason")
            if (text := _only_text(item)) is not None:
                if text:
                    texts.append(text)
                continue
            taken = take_apart(_answer(item))
            if taken.texts:
                texts.append(taken.text())
            calls += taken.calls
            results |= {result.own: result.text for result in taken.results}
            left_out += taken.left_out
        elif item or item == 0:
            texts.append(text_of(item))
    if results:
        calls = [
            msgspec.structs.replace(c, result=c.result or results[c.id]) if c.id in results else c
            for c in calls
        ]
    if outputs := [compact(call.arguments) for call in calls if _is_output(call)]:
        calls = [call for call in calls if not _is_output(call)]
        texts[:1] = ["\n".join([*texts[:1], *outputs])]
    if not (texts or calls or left_out or finish or unread):
        return NOTHING_ANSWERED
    return Answered(
        texts[0] if texts else "", tuple(texts[1:]), tuple(calls), finish, tuple(left_out), unread
    )


_OUTPUT_TOOLS = ("final_result", "final_answer")  # Pydantic AI's, smolagents'


def _is_output(call: ToolCall) -> bool:
    """Return whether a call hands over the answer, which belongs to the text of the first sample."""
    return call.name.startswith(_OUTPUT_TOOLS) and bool(call.arguments)


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
    if type(value) is list:
        if str in map(type, value):
            value = [_inner(item) if type(item) is str else item for item in value]
        return value, None
    if type(value) is str:
        if value[:1] in OPENERS and (read := _cut_messages(value)) is not None:
            return read, Unreadable.TRUNCATED if read else Unreadable.NO_CONTENT
        if is_digest(value):
            return [], Unreadable.REDACTED
    return [value], None


def _inner(item: str) -> Any:
    """Return a message that came as JSON in a string as itself."""
    if item[:1] == "{":
        read = structured(item)
        return read if type(read) is dict and not KEYS.isdisjoint(read) else item
    return item


_BEGINS: Final = re.compile(r'\[?\s*\{\s*"(?:role|parts)"\s*:')


def _cut_messages(text: str) -> list[Any] | None:
    """Return the messages of JSON that was cut off, maybe before any of its texts; None for another text."""
    value = read_cut(text, MAX_DEPTH)
    items = value if type(value) is list else [value]
    messages = [item for item in items if type(item) is dict and not KEYS.isdisjoint(item)]
    while messages and not _says(messages[-1]):  # of the last one too little is left
        messages.pop()
    return messages or ([] if value is not None and _BEGINS.match(text) else None)


def _says(message: dict[str, Any]) -> bool:
    taken = take_apart(_answer(message))
    return bool(taken.texts or taken.calls or taken.results)


def _lacks_content(item: dict[str, Any]) -> bool:
    """Return whether a message came without content although its shape has a place for it.

    An empty text is what its sender wrote; an empty list of parts, none at all, or a part of text that has no
    place for one, is what was left of it.
    """
    parts = item["parts"] if "parts" in item else item.get("content")
    if type(parts) is list:
        return all(type(part) is dict and part.keys() <= {"type"} for part in parts)
    return parts is None


def _answer(choice: dict[str, Any]) -> dict[str, Any]:
    """Return the message of a choice, merged with the choice's other keys, or around an item of `_ITEMS`."""
    message = structured(choice.get("message"))
    if not message:
        return {"content": [choice]} if KEYS.isdisjoint(choice) else choice
    return {**choice, **(message if type(message) is dict else {"content": message})}


def _only_text(message: dict[str, Any]) -> str | None:
    """Return the text of a message that is one text and nothing else, the usual case; else None."""
    parts = message.get("parts")
    if type(parts) is list and len(parts) == 1 and "tool_calls" not in message and "message" not in message:
        part = parts[0]
        if type(part) is dict and part.get("type") == "text":
            content = part.get("content")
            return content if type(content) is str else text_in(part)
    return None
