"""Anthropic's messages. Source: docs.anthropic.com, "Messages" and "Streaming messages"."""

from collections.abc import Sequence
from typing import Any, Final

from monitor.ingest.bodies import parts
from monitor.ingest.bodies.reading import Answer
from monitor.ingest.bodies.shapes import Body
from monitor.ingest.bodies.streams import first_of, joined
from monitor.ingest.fields import plain

_EVENTS: Final = frozenset({
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop",
})  # fmt: skip
_DELTAS: Final = {
    "text_delta": ("text", "text", "text"),
    "input_json_delta": ("tool_use", "partial_json", "input"),
    "thinking_delta": ("thinking", "thinking", "thinking"),
    "compaction_delta": ("compaction", "content", "content"),
}
"""Kinds of deltas: the type of the block they build, their own field and the block's."""


def is_piece(event: dict[str, Any]) -> bool:
    """Return whether an event is one of a streamed message."""
    kind = event.get("type")
    return type(kind) is str and kind in _EVENTS


def read(body: Body, answer: Answer) -> None:
    """Read a message: its texts, and calls of tools with what servers returned for them."""
    take(body.content, answer)
    answer.finish_reason = body.stop_reason or ""


def take(content: Any, answer: Answer) -> None:
    """Read the content of the one message of a response into the answer."""
    found = parts.read(content)
    answer.text = "".join(found.texts)
    answer.tool_calls = found.answered_calls()
    answer.documents = [*answer.documents, *found.documents]
    answer.left_out = [*answer.left_out, *found.left_out]
    answer.refused = found.refused


def join(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that would have come without streaming."""
    started = first_of(event.get("message") for event in events if event.get("type") == "message_start")
    body: dict[str, Any] = dict(started) if type(started) is dict else {}
    usage = dict(body["usage"]) if type(body.get("usage")) is dict else {}
    for event in events:
        delta, more = event.get("delta"), event.get("usage")
        if event.get("type") == "message_delta":
            if type(delta) is dict and delta.get("stop_reason"):
                body["stop_reason"] = delta["stop_reason"]
            usage |= more if type(more) is dict else {}
    if usage:
        body["usage"] = usage
    return {**body, "content": _blocks(events)}


def _blocks(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks of a message's content, each as far as it came."""
    blocks: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[int, str], list[Any]] = {}
    for event in events:
        at, block, delta = event.get("index"), event.get("content_block"), event.get("delta")
        index = at if type(at) is int else 0
        if type(block) is dict:
            blocks[index] = block
        elif type(delta) is dict and (built := _DELTAS.get(plain(delta.get("type")))):
            kind, own, field = built
            blocks.setdefault(index, {"type": kind})
            texts.setdefault((index, field), []).append(delta.get(own))
    for (index, field), pieces in texts.items():
        blocks[index] = {**blocks[index], field: joined([blocks[index].get(field), *pieces])}
    return [blocks[index] for index in sorted(blocks)]
