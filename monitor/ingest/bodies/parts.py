"""Parts of messages: OpenAI's (chat and Responses), Anthropic's, Gemini's, Bedrock's (Converse) and Cohere's.

`read` takes a message's content of any shape and raises nothing. Texts, calls of tools, their results and
documents are kept; parts without text (images, files, a model's reasoning) are named by their kind. An object
that is no part anybody knows is text, as JSON, so that it is judged.

Sources: PyPI `openai` 3.57 (`types/chat`, `types/responses`); docs.anthropic.com, "Messages"; ai.google.dev,
"Content"; docs.aws.amazon.com, "ContentBlock" of the Bedrock runtime; docs.cohere.com, "Chat" of the v2 API.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from monitor.ingest.bodies.content import Content, Result
from monitor.ingest.fields import number, plain, text_of
from monitor.trace import Document, ToolCall

_TEXTS: Final = frozenset({"", "text", "input_text", "output_text", "refusal"})
_SILENT: Final = frozenset({
    "reasoning", "thinking", "redacted_thinking", "image_url", "input_image", "image", "file", "input_file",
    "video_url", "video", "item_reference", "compaction", "image_generation_call", "computer_screenshot",
})  # fmt: skip
_SPOKEN: Final = frozenset({"audio", "input_audio", "output_audio"})
_CALLS: Final = frozenset({
    "tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "tool-call", "function_call", "mcp_call",
    "custom_tool_call", "mcp_approval_request",
})  # fmt: skip
"""Kinds of calls that name their tool; any other `…_call` is named by its kind."""
_ARGUMENTS: Final = (
    "arguments", "input", "args", "parameters", "code", "action", "operation", "queries",
)  # fmt: skip
_IDS: Final = ("call_id", "tool_use_id", "tool_call_id", "toolUseId", "toolCallId", "id")
_MEDIA: Final = ("image", "video", "audio")
_FOUND: Final = frozenset({"document", "searchResult"})
"""Keys of Bedrock's parts: without a text, and documents."""
_RETURNED: Final = ("output", "outputs", "result", "results")
_RESULTS: Final = (*_RETURNED, "response", "content")


def read(value: Any) -> Content:
    """Read the content of a message: a text, a part, or a list of both."""
    content = Content()
    for part in value if type(value) is list else [value]:
        if type(part) is str:
            content.texts.append(part)
        elif type(part) is dict:
            _take(part, content)
        elif part is not None:
            content.texts.append(text_of(part))
    return content


def result_of(value: Any) -> str:
    """Return what a tool returned as text: that of its parts, which MCP wraps in `content`; else JSON."""
    return _result(value, Content()) if type(value) is dict and "content" in value else text_of(value)


def grounds_of(metadata: Any) -> list[Document]:
    """Read the passages that Gemini's search found, from the metadata that name them."""
    if type(metadata) is not dict:
        return []
    chunks = metadata.get("groundingChunks") or metadata.get("grounding_chunks")
    found = [
        chunk.get("retrievedContext") or chunk.get("retrieved_context")
        for chunk in (chunks if type(chunks) is list else ())
        if type(chunk) is dict
    ]
    return [document_of(each) for each in found if type(each) is dict and each.get("text")]


def call_of(call: dict[str, Any]) -> ToolCall:
    """Read a call of a tool, whichever API's."""
    inner = next((each for key in ("function", "custom") if type(each := call.get(key)) is dict), call)
    arguments = next((inner[key] for key in _ARGUMENTS if inner.get(key) is not None), None)
    name = inner.get("name") or inner.get("toolName")
    return ToolCall(plain(name), text_of(arguments), "", call_id(call))


def call_id(part: dict[str, Any]) -> str:
    """Return the id of the call that a part is, or is the result of; its own id may be another one."""
    return plain(next((part[key] for key in _IDS if part.get(key)), None))


def document_of(item: Any) -> Document:
    """Read a document of a request or of a search: Anthropic's, Bedrock's, Cohere's, OpenAI's."""
    if type(item) is not dict:
        return Document("", text_of(item))
    source, data, score = item.get("source"), item.get("data"), item.get("score")
    own = next((item[key] for key in ("id", "file_id", "title", "name", "filename") if item.get(key)), None)
    texts: list[str] = []
    if type(source) is dict:
        texts = [*_texts_of(source.get("text")), *_texts_of(source.get("content"))]
        texts += _texts_of(source.get("data")) if source.get("type") == "text" else ()
    elif data is not None:
        texts = [text_of(value) for value in data.values()] if type(data) is dict else [text_of(data)]
    for key in ("text", "content", "snippet"):
        texts = texts or list(_texts_of(item.get(key)))
    return Document(plain(own or source), "\n".join(texts), number(score))


def _take(part: dict[str, Any], content: Content) -> None:
    kind = part.get("type")
    kind = kind if type(kind) is str else ""
    if kind in _TEXTS and part.get("thought") is not True and _take_text(part, kind, content):
        return
    if reader := _BY_KIND.get(kind):
        reader(part, kind, content)
    elif kind.endswith("_call"):
        _take_call(part, kind, content)
    elif kind.endswith(("_output", "tool_result", "tool-result")):
        _add_result(part, content)
    elif kind:
        texts = list(_texts_of(part.get("text") or part.get("content")))
        content.texts += texts
        if not texts:
            content.left_out.append(kind)
    elif key := next((key for key in _BY_KEY if key in part), None):
        _BY_KEY[key](part[key], content)
    else:
        content.texts.append(text_of(part))


def _take_text(part: dict[str, Any], kind: str, content: Content) -> bool:
    """Take a part that is nothing but a text; return whether it is one."""
    for key in ("text", "refusal"):
        if (value := part.get(key)) is not None:
            content.texts += _texts_of(value)
            content.refused |= key == "refusal"
            logs = part.get("logprobs")
            for token in logs if type(logs) is list else ():
                log = number(token.get("logprob")) if type(token) is dict else None
                content.logprobs += [log] if log is not None else ()
            return True
    if kind and "content" in part:
        content.texts += _texts_of(part["content"])
    return bool(kind)


def _leave_out(_: dict[str, Any], kind: str, content: Content) -> None:
    content.left_out.append(kind)


def _take_speech(part: dict[str, Any], kind: str, content: Content) -> None:
    inner = next((each for key in _SPOKEN if type(each := part.get(key)) is dict), part)
    transcript = inner.get("transcript") or part.get("transcript")
    if type(transcript) is str and transcript:
        content.texts.append(transcript)
    else:
        content.left_out.append(kind)


def _take_call(part: dict[str, Any], kind: str, content: Content) -> None:
    call = call_of(part)
    result = next((part[key] for key in _RETURNED if part.get(key) is not None), None)
    if kind not in _CALLS and not (call.name or call.arguments):
        content.left_out.append(kind)
        return
    name = call.name or ("" if kind in _CALLS else kind.removesuffix("_call"))
    text = "" if result is None else _result_text(result, content)
    content.calls.append(ToolCall(name, call.arguments, text, call.id, _failed(part)))


def _take_search(part: dict[str, Any], _: str, content: Content) -> None:
    results = part.get("results")
    content.documents += [document_of(item) for item in results if item] if type(results) is list else []


def _take_document(part: dict[str, Any], _: str, content: Content) -> None:
    inner = part.get("document")
    document = document_of(inner if type(inner) is dict else part)
    if document.content:
        content.documents.append(document)
    else:
        content.left_out.append("document")


def _take_message(part: dict[str, Any], _: str, content: Content) -> None:
    """Take an output item of the Responses API that is a message with parts of its own."""
    content.add(read(part.get("content")))


_BY_KIND: Final[Mapping[str, Callable[[dict[str, Any], str, Content], None]]] = {
    "message": _take_message,
    "document": _take_document,
    "search_result": _take_document,
    "file_search_call": _take_search,
    **dict.fromkeys(_CALLS, _take_call),
    **dict.fromkeys(_SPOKEN, _take_speech),
    **dict.fromkeys(_SILENT, _leave_out),
}
"""Readers of parts that have a type."""


def _bare_call(value: Any, content: Content) -> None:
    if type(value) is dict:
        content.calls.append(call_of(value))


def _bare_result(value: Any, content: Content) -> None:
    if type(value) is dict:
        _add_result(value, content)


def _bare_code(value: Any, content: Content) -> None:
    if type(value) is dict:
        own = plain(value.get("id"))
        content.calls.append(ToolCall("code_execution", text_of(value.get("code")), "", own))


def _bare_code_result(value: Any, content: Content) -> None:
    if type(value) is dict:
        failed = plain(value.get("outcome")) not in {"", "OUTCOME_OK"}
        own, text = plain(value.get("id")), text_of(value.get("output"))
        content.results.append(Result(own, text, failed, "code_execution", len(content.calls)))


def _bare_document(value: Any, content: Content) -> None:
    _take_document({"document": value}, "", content)


def _bare_text(value: Any, content: Content) -> None:
    content.texts += _texts_of(value)


def _bare_speech(value: Any, content: Content) -> None:
    _take_speech({"transcript": value}, "audio", content)


def _silent(kind: str) -> Callable[[Any, Content], None]:
    return lambda _, content: content.left_out.append(kind)


_BY_KEY: Final[Mapping[str, Callable[[Any, Content], None]]] = {
    **dict.fromkeys(("toolUse", "functionCall", "function_call"), _bare_call),
    **dict.fromkeys(("toolResult", "functionResponse", "function_response"), _bare_result),
    **dict.fromkeys(("executableCode", "executable_code"), _bare_code),
    **dict.fromkeys(("codeExecutionResult", "code_execution_result"), _bare_code_result),
    **dict.fromkeys(("document", "searchResult"), _bare_document),
    **dict.fromkeys(("guardContent", "citationsContent", "content"), _bare_text),
    **dict.fromkeys(("inlineData", "inline_data"), _silent("blob")),
    **dict.fromkeys(("fileData", "file_data"), _silent("file")),
    **dict.fromkeys(("reasoningContent", "thought"), _silent("reasoning")),
    **{kind: _silent(kind) for kind in _MEDIA},
    "transcript": _bare_speech,
    "cachePoint": lambda _, __: None,
}
"""Readers of parts that have no type but the key that names them: Bedrock's and Gemini's."""


def _add_result(part: dict[str, Any], content: Content) -> None:
    text, name = _result(part, content), plain(part.get("name"))
    content.results.append(Result(call_id(part), text, _failed(part), name, len(content.calls)))


def _result(part: dict[str, Any], content: Content) -> str:
    value = next((part[key] for key in _RESULTS if part.get(key) is not None), None)
    return "" if value is None else _result_text(value, content)


def _result_text(value: Any, content: Content) -> str:
    """Return a tool's result as text: that of its parts where it has some, else JSON.

    Tells the content which parts of it are no text, and which are documents.
    """
    if type(value) is not list:
        found = _part_text(value, content)
        return text_of(value) if found is None else found
    texts = [_part_text(item, content) for item in value]
    if all(text is None for text in texts):
        return text_of(value)
    each = [text_of(item) if text is None else text for item, text in zip(value, texts, strict=True)]
    return "\n".join([text for text in each if text])


def _part_text(item: Any, content: Content) -> str | None:
    """Return the text of a part of a tool's result, empty for an image; None for what is no part."""
    if type(item) is not dict:
        return item if type(item) is str else None
    kind = plain(item.get("type"))
    text = next((item[key] for key in ("text", "logs") if type(item.get(key)) is str), None)
    if silent := kind if kind in _SILENT else next((key for key in _MEDIA if not kind and key in item), ""):
        content.left_out.append("image" if silent == "computer_screenshot" else silent)
        text = ""
    elif kind in {"document", "search_result"} or not _FOUND.isdisjoint(item):
        inner = next((item[key] for key in _FOUND if type(item.get(key)) is dict), item)
        _take_document(inner, kind, content)
        text = document_of(inner).content
    elif kind.endswith("_fetch_result"):
        inner = item.get("content")
        text = document_of(inner if type(inner) is dict else item).content
    elif kind == "resource":
        text = "\n".join(_texts_of(item.get("resource")))
    elif kind == "web_search_result":
        text = " ".join(_texts_of([item.get("title"), item.get("url")]))
    elif text is None and kind.endswith("_result"):
        found = [
            *_texts_of(item.get("stdout")),
            *_texts_of(item.get("stderr")),
            *_texts_of(item.get("content")),
        ]
        text = "\n".join(found) if found else None
    elif text is None and "json" in item:
        text = text_of(item["json"])
    return text


def _failed(part: dict[str, Any]) -> bool:
    inner = part.get("content")
    return (
        bool(part.get("is_error") or part.get("error"))
        or part.get("status") == "error"
        or (type(inner) is dict and "error_code" in inner)
    )


def _texts_of(value: Any) -> Iterator[str]:
    """Yield the texts of a value that is one, holds one as `text`, `value` or `content`, or lists some."""
    if type(value) is str:
        if value:
            yield value
    elif type(value) is list:
        for item in value:
            yield from _texts_of(item)
    elif type(value) is dict:
        for key in ("value", "text", "content"):
            if value.get(key):
                yield from _texts_of(value[key])
                return
    elif type(value) in {int, float}:
        yield str(value)
