"""Cohere's chat, Ollama's, and servers that answer with little more than a text.

Sources: docs.cohere.com, "Chat" and "Streaming" of the v1 and v2 APIs; Ollama's `docs/api.md`; Hugging Face's
text generation inference; Bedrock's InvokeModel of Titan, Llama, Mistral and Claude 2; ai.google.dev,
"Interactions".
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from monitor.ingest.bodies import parts
from monitor.ingest.bodies.anthropic import take
from monitor.ingest.bodies.reading import Answer
from monitor.ingest.bodies.shapes import Body
from monitor.ingest.bodies.streams import first_of, items_of, joined
from monitor.ingest.fields import plain
from monitor.trace import Usage

_TEXTS: Final = (
    "text", "response", "completion", "generation", "generated_text", "output_text", "output_text_",
    "generations", "outputs", "results",
)  # fmt: skip
_INNER: Final = ("text", "generated_text", "outputText")
_COHERE: Final = frozenset({
    "message-start", "content-start", "content-delta", "content-end", "tool-plan-delta", "tool-call-start",
    "tool-call-delta", "tool-call-end", "citation-start", "citation-end", "message-end",
})  # fmt: skip
_PIECES: Final = ("response", "text", "completion", "generation", "outputText", "outputs")
"""Fields of pieces that hold a text, of Ollama, Cohere's v1 and models on Bedrock."""
_FINISHES: Final = ("finish_reason", "stop_reason", "completionReason")


def is_piece(chunk: dict[str, Any]) -> bool:
    """Return whether a chunk is one of a stream of Cohere, Ollama, Hugging Face, or a model on Bedrock."""
    kind = chunk.get("type")
    return (
        (type(kind) is str and kind in _COHERE)
        or "done" in chunk
        or "event_type" in chunk
        or type(chunk.get("token")) is dict
        or type(chunk.get("message")) is dict
        or any(key in chunk for key in _PIECES)
    )


def has_text(body: Body) -> bool:
    """Return whether a body has a field that is an answer."""
    return type(body.message) is dict or type(body.outputs) is list or any(True for _ in _texts(body))


def read(body: Body, answer: Answer) -> None:
    """Read the message, the typed parts, or the texts."""
    items = items_of(body.outputs) or items_of(body.results)
    if type(body.message) is dict:
        take(body.message.get("content"), answer)
        calls = [parts.call_of(call) for call in items_of(body.message.get("tool_calls"))]
        answer.tool_calls = [*answer.tool_calls, *calls]
        plan = body.message.get("tool_plan")
        answer.text = answer.text or (plan if type(plan) is str else "")
        if body.message.get("thinking"):
            answer.left_out = [*answer.left_out, "reasoning"]
    elif any(type(item.get("type")) is str for item in items_of(body.outputs)):
        take(body.outputs, answer)
    else:
        texts = list(_texts(body))
        answer.text = texts[0] if texts else ""
        answer.alternatives = [text for text in texts[1:] if text]
        answer.tool_calls = [parts.call_of(call) for call in items_of(body.tool_calls)]
    answer.documents = [parts.document_of(each) for each in items_of(body.documents)]
    finishes = [item.get(key) for item in items[:1] for key in _FINISHES]
    answer.finish_reason = (
        body.finish_reason or body.done_reason or body.stop_reason or plain(first_of(finishes))
    )
    if answer.usage is None:
        answer.usage = _usage(body, items)


def _usage(body: Body, items: Sequence[dict[str, Any]]) -> Usage | None:
    """Return the tokens that Ollama counts, or a model on Bedrock."""
    asked = (body.prompt_eval_count, body.prompt_token_count, body.input_text_token_count)
    titan = [count for item in items if type(count := item.get("tokenCount")) is int]
    answered = (body.eval_count, body.generation_token_count, sum(titan) if titan else None)
    counts = [next((count for count in side if count is not None), None) for side in (asked, answered)]
    return None if counts == [None, None] else Usage(*counts)


def _texts(body: Body) -> Iterator[str]:
    for name in _TEXTS:
        value = getattr(body, name)
        if type(value) is str:
            yield value
            return
        for item in items_of(value):
            yield from (text for key in _INNER if type(text := item.get(key)) is str)


def join(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that would have come without streaming."""
    if any(plain(chunk.get("type")) in _COHERE for chunk in chunks):
        return _cohere(chunks)
    ended = first_of(chunk.get("response") for chunk in chunks if chunk.get("event_type") == "stream-end")
    if type(ended) is dict:
        return ended
    body = {
        key: value for chunk in chunks for key, value in chunk.items() if value is not None and value != ""
    }
    if any(type(chunk.get("token")) is dict for chunk in chunks):
        tokens = [chunk["token"].get("text") for chunk in chunks if type(chunk.get("token")) is dict]
        return {"generated_text": first_of(chunk.get("generated_text") for chunk in chunks) or joined(tokens)}
    messages = [message for chunk in chunks if type(message := chunk.get("message")) is dict]
    if not messages:
        return {**body, "outputs": None, "text": joined([_piece(chunk) for chunk in chunks])}
    whole = {key: joined([message.get(key) for message in messages]) for key in ("content", "thinking")}
    calls = [call for message in messages for call in items_of(message.get("tool_calls"))]
    return {**body, "message": {**whole, "tool_calls": calls}}


def _piece(chunk: dict[str, Any]) -> str:
    """Return the text of a piece, or of the items it lists."""
    value = first_of(chunk.get(key) for key in _PIECES)
    return value if type(value) is str else joined([item.get("text") for item in items_of(value)])


def _cohere(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {"id": first_of(event.get("id") for event in events)}
    texts: list[Any] = []
    plan: list[Any] = []
    calls: dict[int, dict[str, Any]] = {}
    for event in events:
        delta = event.get("delta")
        delta = delta if type(delta) is dict else {}
        message = delta.get("message")
        message = message if type(message) is dict else {}
        at = event.get("index")
        if type(content := message.get("content")) is dict:
            texts.append(content.get("text"))
        plan.append(message.get("tool_plan"))
        for call in items_of(message.get("tool_calls")):
            begun = calls.setdefault(
                at if type(at) is int else 0, {"id": call.get("id"), "name": None, "arguments": []}
            )
            function = call.get("function")
            function = function if type(function) is dict else {}
            begun["name"] = begun["name"] or function.get("name")
            begun["arguments"].append(function.get("arguments"))
        if event.get("type") == "message-end":
            body |= {key: delta.get(key) for key in ("finish_reason", "usage") if delta.get(key)}
    made = [{**call, "arguments": joined(call["arguments"])} for _, call in sorted(calls.items())]
    body["message"] = {"content": joined(texts), "tool_plan": joined(plan), "tool_calls": made}
    return body
