"""What the APIs of models answer: two turns, the same for each API, whole and streamed.

Asked with tools and without a tool's result, the model calls one; else it answers. Of OpenAI there are chat
completions, responses and embeddings; Anthropic's messages, Gemini's generateContent, Bedrock's converse.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

import scenario

_CREATED = 1_795_000_000
Body = dict[str, Any]


class Turn(NamedTuple):
    """What the model says: a text, or the call of a tool."""

    text: str
    tool: str = ""
    arguments: Body = {}  # noqa: RUF012 - a tuple is immutable, and nobody changes it

    @property
    def number(self) -> int:
        """A number for ids, as no two answers have the same."""
        return crc32(repr(self).encode())

    @property
    def call(self) -> Body:
        """The call as OpenAI's chat completions have it."""
        return {"name": self.tool, "arguments": json.dumps(self.arguments)}


def turn(asked: Body) -> Turn:
    """Return what the model says to a request of any API."""
    sent = json.dumps(asked, ensure_ascii=False)
    names = list(_tools(asked))
    known = scenario.RESULT in sent
    for mark, answer in _PROTOCOLS.items():
        if mark in sent and not names:
            return Turn(answer(known))
    if not known:
        name = next((name for name in names if name.endswith(scenario.TOOL)), names[0] if names else "")
        return Turn("", name, {"order": scenario.ORDER}) if name else Turn(scenario.ANSWER)
    if "final_answer" in names:
        return Turn("", "final_answer", {"answer": scenario.ANSWER})
    return Turn(scenario.ANSWER)


def _dspy_step(known: bool) -> str:  # noqa: FBT001 - one meaning
    fields = {
        "next_thought": "It says so." if known else "Look it up.",
        "next_tool_name": "finish" if known else scenario.TOOL,
        "next_tool_args": json.dumps({} if known else {"order": scenario.ORDER}),
        "completed": "",
    }
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


_PROTOCOLS: dict[str, Callable[[bool], str]] = {
    "[[ ## next_tool_name ## ]]": _dspy_step,
    "[[ ## answer ## ]]": lambda _: (
        f"[[ ## reasoning ## ]]\nSo.\n\n[[ ## answer ## ]]\n{scenario.ANSWER}\n\n[[ ## completed ## ]]"
    ),
}
"""What a prompt says whose framework calls tools in text, and how that is answered."""


def _tools(asked: Body) -> Iterator[str]:
    config = asked.get("toolConfig")
    listed = config.get("tools", []) if isinstance(config, dict) else []
    for tool in [*(asked.get("tools") or []), *listed]:
        for each in tool.get("functionDeclarations") or tool.get("function_declarations") or [tool]:
            held = each.get("function") or each.get("toolSpec") or each
            if isinstance(held.get("name"), str):
                yield held["name"]


def answer(path: str, asked: Body) -> tuple[str, bytes] | None:
    """Return content type and body of the answer to a request; nothing for a path that no API has."""
    path = path.partition("?")[0]
    for end, whole, pieces in _APIS:
        if path.endswith(end):
            said = turn(asked)
            if pieces and (asked.get("stream") or "stream" in end):
                return "text/event-stream", b"".join(_event(each) for each in pieces(said))
            return "application/json", json.dumps(whole(said)).encode()
    if path.endswith("/embeddings"):
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        rows = [{"object": "embedding", "index": n, "embedding": [0.5] * 8} for n in range(len(texts))]
        usage = {"prompt_tokens": 8, "total_tokens": 8}
        made = {"object": "list", "data": rows, "model": asked["model"], "usage": usage}
        return "application/json", json.dumps(made).encode()
    return None


def _event(data: Body | str) -> bytes:
    if isinstance(data, str):
        return f"data: {data}\n\n".encode()
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _head(kind: str, said: Turn) -> Body:
    return {
        "id": f"chatcmpl-{said.number}",
        "object": kind,
        "created": _CREATED,
        "model": f"{scenario.MODEL}-2024-07-18",
    }


_CHAT_USAGE = {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30}


def _chat(said: Turn) -> Body:
    message: Body = {"role": "assistant", "content": said.text or None}
    if said.tool:
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": said.call}]
    reason = "tool_calls" if said.tool else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return _head("chat.completion", said) | {"choices": [choice], "usage": _CHAT_USAGE}


def _chat_pieces(said: Turn) -> Iterator[Body | str]:
    head = _head("chat.completion.chunk", said)
    deltas: list[Body] = [{"role": "assistant", "content": part} for part in _halves(said.text)]
    if said.tool:
        call = {"index": 0, "id": "call_1", "type": "function", "function": said.call}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    for delta in deltas:
        yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    reason = "tool_calls" if said.tool else "stop"
    yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    yield head | {"choices": [], "usage": _CHAT_USAGE}
    yield "[DONE]"


def _halves(text: str) -> list[str]:
    return [text[:12], text[12:]] if text else []


def _response(said: Turn) -> Body:
    item: Body = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": said.text, "annotations": []}],
    }
    if said.tool:
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed"} | said.call
    usage = {
        "input_tokens": 21,
        "output_tokens": 9,
        "total_tokens": 30,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        "id": f"resp_{said.number}",
        "object": "response",
        "created_at": _CREATED,
        "status": "completed",
        "model": f"{scenario.MODEL}-2024-07-18",
        "output": [item],
        "usage": usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
    }


def _response_pieces(said: Turn) -> Iterator[Body | str]:
    whole = _response(said)
    item = whole["output"][0]
    yield {
        "type": "response.created",
        "sequence_number": 0,
        "response": whole | {"status": "in_progress", "output": []},
    }
    yield {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0, "logprobs": []}
    for number, part in enumerate(_halves(said.text)):
        yield {
            "type": "response.output_text.delta",
            "sequence_number": number + 2,
            "delta": part,
        } | place
    yield {"type": "response.output_item.done", "sequence_number": 5, "output_index": 0, "item": item}
    yield {"type": "response.completed", "sequence_number": 6, "response": whole}


def _anthropic(said: Turn) -> Body:
    block: Body = {"type": "text", "text": said.text}
    if said.tool:
        block = {"type": "tool_use", "id": "toolu_1", "name": said.tool, "input": said.arguments}
    return {
        "id": f"msg_{said.number}",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [block],
        "stop_reason": "tool_use" if said.tool else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 21, "output_tokens": 9},
    }


def _anthropic_pieces(said: Turn) -> Iterator[Body | str]:
    whole = _anthropic(said)
    block = whole["content"][0]
    start = {"type": "text", "text": ""} if not said.tool else block | {"input": {}}
    yield {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": start}
    if said.tool:
        delta = {"type": "input_json_delta", "partial_json": json.dumps(said.arguments)}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    for part in _halves(said.text):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": part}}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


def _gemini(said: Turn) -> Body:
    part: Body = {"text": said.text}
    if said.tool:
        part = {"functionCall": {"name": said.tool, "args": said.arguments}}
    return {
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 21, "candidatesTokenCount": 9, "totalTokenCount": 30},
        "modelVersion": "gemini-2.5-flash",
        "responseId": f"gem-{said.number}",
    }


def _converse(said: Turn) -> Body:
    block: Body = {"text": said.text}
    if said.tool:
        block = {"toolUse": {"toolUseId": "tooluse_1", "name": said.tool, "input": said.arguments}}
    return {
        "output": {"message": {"role": "assistant", "content": [block]}},
        "stopReason": "tool_use" if said.tool else "end_turn",
        "usage": {"inputTokens": 21, "outputTokens": 9, "totalTokens": 30},
        "metrics": {"latencyMs": 12},
    }


_Pieces = Callable[[Turn], Iterator[Body | str]]
_APIS: tuple[tuple[str, Callable[[Turn], Body], _Pieces | None], ...] = (
    ("/chat/completions", _chat, _chat_pieces),
    ("/responses", _response, _response_pieces),
    ("/messages", _anthropic, _anthropic_pieces),
    (":streamGenerateContent", _gemini, lambda said: iter([_gemini(said)])),
    (":generateContent", _gemini, None),
    ("/converse", _converse, None),
)
"""End of the path, the whole answer, and what is streamed; `generateContent` says in its path which."""
