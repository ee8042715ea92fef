"""Bodies of model APIs that say what a test gives them: whole, and as the pieces of a stream.

Sources: those that `monitor/ingest/bodies` names. `test_bodies.py` checks OpenAI's with its client's types.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple


class Said(NamedTuple):
    """What an exchange says; `pieces` are those of the answer, `arguments` of the call of `tool`."""

    system: str = "Answer only from the policy."
    question: str = "Can I return shoes?"
    pieces: tuple[str, ...] = ("Yes, within ", "30 days.")
    tool: str = "order"
    arguments: Mapping[str, Any] = {"id": 7}
    document: str = "Shoes may be returned within 30 days."

    @property
    def answer(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


class Bodies(NamedTuple):
    """A request, its response, and what the response is when it is streamed."""

    request: dict[str, Any]
    response: dict[str, Any]
    events: list[dict[str, Any]]


def halves(text: str) -> tuple[str, str]:
    """A text in two pieces."""
    return text[: len(text) // 2], text[len(text) // 2 :]


def chat(said: Said) -> Bodies:
    """OpenAI's chat completions."""
    arguments = json.dumps(said.arguments)
    call = {"id": "c1", "type": "function", "function": {"name": said.tool, "arguments": arguments}}
    messages = [{"role": "system", "content": said.system}, {"role": "user", "content": said.question}]
    message = {"role": "assistant", "content": said.answer, "refusal": None, "tool_calls": [call]}
    whole = {
        "id": "r1", "object": "chat.completion", "created": 1_795_000_000, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }  # fmt: skip
    first, then = halves(arguments)
    deltas: list[dict[str, Any]] = [
        *({"content": piece} for piece in said.pieces),
        {"tool_calls": [{"index": 0, **call, "function": {"name": said.tool, "arguments": first}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": then}}]},
    ]
    common = {"id": "r1", "object": "chat.completion.chunk", "created": 1_795_000_000, "model": "m"}
    events = [
        {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}]}
        for delta in deltas
    ]
    return Bodies({"model": "m", "messages": messages}, whole, events)


def responses(said: Said) -> Bodies:
    """OpenAI's Responses API."""
    arguments = json.dumps(said.arguments)
    text = {"type": "output_text", "text": said.answer, "annotations": [], "logprobs": []}
    message = {"id": "m1", "type": "message", "status": "completed", "role": "assistant", "content": [text]}
    call = {"id": "f1", "type": "function_call", "status": "completed", "call_id": "c1", "name": said.tool}
    search = {
        "id": "s1", "type": "file_search_call", "status": "completed", "queries": ["q"],
        "results": [{"file_id": "d1", "filename": "policy", "score": 0.5, "text": said.document}],
    }  # fmt: skip
    whole = {
        "id": "r1", "object": "response", "created_at": 1_795_000_000, "model": "m", "status": "completed",
        "output": [search, message, {**call, "arguments": arguments}],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {
            "input_tokens": 5, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 12,
        },
    }  # fmt: skip
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "output": [], "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": search},
        {"type": "response.output_item.added", "output_index": 1, "item": {**message, "content": []}},
        *(
            {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": piece}
            for piece in said.pieces
        ),
        {"type": "response.output_item.added", "output_index": 2, "item": {**call, "arguments": ""}},
        *(
            {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": half}
            for half in halves(arguments)
        ),
    ]
    request = {"model": "m", "instructions": said.system, "input": said.question}
    return Bodies(request, whole, events)


def anthropic(said: Said) -> Bodies:
    """Anthropic's messages."""
    use = {"type": "tool_use", "id": "c1", "name": said.tool}
    document = {
        "type": "document", "title": "policy", "citations": {"enabled": True},
        "source": {"type": "text", "media_type": "text/plain", "data": said.document},
    }  # fmt: skip
    found = {
        "type": "search_result", "source": "kb", "title": "policy",
        "content": [{"type": "text", "text": said.document}],
    }  # fmt: skip
    request = {
        "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": said.system}],
        "messages": [
            {"role": "user", "content": [document, found, {"type": "text", "text": said.question}]}
        ],
    }  # fmt: skip
    base = {"id": "r1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    whole = {
        **base, "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 7},
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": said.answer, "citations": None}, {**use, "input": dict(said.arguments)},
        ],
    }  # fmt: skip
    started: dict[str, Any] = {
        **base,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    block = {"type": "content_block_start"}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": started},
        {"type": "ping"},
        {**block, "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        _delta(0, type="thinking_delta", thinking="hm"),
        {**block, "index": 1, "content_block": {"type": "text", "text": ""}},
        *(_delta(1, type="text_delta", text=piece) for piece in said.pieces),
        {**block, "index": 2, "content_block": {**use, "input": {}}},
        *(_delta(2, type="input_json_delta", partial_json=h) for h in halves(json.dumps(said.arguments))),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    return Bodies(request, whole, events)


def _delta(index: int, **delta: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def gemini(said: Said) -> Bodies:
    """Gemini's generateContent."""
    call = {"functionCall": {"id": "c1", "name": said.tool, "args": dict(said.arguments)}}
    request = {
        "systemInstruction": {"parts": [{"text": said.system}]},
        "contents": [{"role": "user", "parts": [{"text": said.question}]}],
    }
    count = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
    answer: list[dict[str, Any]] = [{"text": "hm", "thought": True}, {"text": said.answer}, call]

    def body(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "candidates": [
                {"content": {"role": "model", "parts": parts}, "index": 0, "finishReason": "STOP"}
            ],
            "usageMetadata": count, "modelVersion": "m", "responseId": "r1",
        }  # fmt: skip

    return Bodies(request, body(answer), [*(body([{"text": piece}]) for piece in said.pieces), body([call])])


def converse(said: Said) -> Bodies:
    """Bedrock's Converse."""
    document = {"document": {"format": "txt", "name": "policy", "source": {"text": said.document}}}
    request = {
        "modelId": "m", "system": [{"text": said.system}],
        "messages": [{"role": "user", "content": [document, {"text": said.question}]}],
    }  # fmt: skip
    use = {"toolUseId": "c1", "name": said.tool}
    content = [
        {"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": said.answer},
        {"toolUse": {**use, "input": dict(said.arguments)}},
    ]  # fmt: skip
    usage = {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}
    whole = {
        "output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use",
        "usage": usage, "metrics": {"latencyMs": 3},
    }  # fmt: skip

    def delta(index: int, **change: Any) -> dict[str, Any]:
        return {"contentBlockDelta": {"contentBlockIndex": index, "delta": change}}

    events: list[dict[str, Any]] = [
        {"messageStart": {"role": "assistant"}},
        *(delta(0, text=piece) for piece in said.pieces),
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"contentBlockStart": {"contentBlockIndex": 1, "start": {"toolUse": use}}},
        *(delta(1, toolUse={"input": half}) for half in halves(json.dumps(said.arguments))),
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": usage, "metrics": {"latencyMs": 3}}},
    ]
    return Bodies(request, whole, events)


def cohere(said: Said) -> Bodies:
    """Cohere's chat, version 2."""
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": said.tool, "arguments": json.dumps(said.arguments)},
    }
    request = {
        "model": "m", "documents": [{"id": "d1", "data": {"text": said.document}}],
        "messages": [{"role": "system", "content": said.system}, {"role": "user", "content": said.question}],
    }  # fmt: skip
    usage = {"tokens": {"input_tokens": 5, "output_tokens": 7}}
    message = {"role": "assistant", "content": [{"type": "text", "text": said.answer}], "tool_calls": [call]}
    whole = {"id": "r1", "finish_reason": "TOOL_CALL", "message": message, "usage": usage}
    first, then = halves(json.dumps(said.arguments))

    def event(kind: str, message: dict[str, Any], index: int = 0) -> dict[str, Any]:
        return {"type": kind, "index": index, "delta": {"message": message}}

    start = {**call, "function": {"name": said.tool, "arguments": first}}
    events: list[dict[str, Any]] = [
        {"type": "message-start", "id": "r1", "delta": {"message": {"role": "assistant"}}},
        *(event("content-delta", {"content": {"text": piece}}) for piece in said.pieces),
        event("tool-call-start", {"tool_calls": start}, 1),
        event("tool-call-delta", {"tool_calls": {"function": {"arguments": then}}}, 1),
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": usage}},
    ]
    return Bodies(request, whole, events)


APIS: Final[Mapping[str, Callable[[Said], Bodies]]] = {
    "chat": chat,
    "responses": responses,
    "anthropic": anthropic,
    "gemini": gemini,
    "converse": converse,
    "cohere": cohere,
}
DOCUMENTED: Final = frozenset({"responses", "anthropic", "converse", "cohere"})
"""APIs whose bodies hold documents."""


def sse(events: list[dict[str, Any]]) -> str:
    """Server-sent events, with their names where they have a type."""
    return "".join(
        f"{'event: ' + event['type'] + chr(10) if 'type' in event else ''}data: {json.dumps(event)}\n\n"
        for event in events
    )
