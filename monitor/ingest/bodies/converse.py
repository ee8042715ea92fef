"""Amazon Bedrock's Converse. Source: docs.aws.amazon.com, "Converse" and "ConverseStream" of its runtime."""

from collections.abc import Sequence
from typing import Any, Final

from monitor.ingest.bodies.anthropic import take
from monitor.ingest.bodies.reading import Answer
from monitor.ingest.bodies.shapes import Body
from monitor.ingest.bodies.streams import joined

_EVENTS: Final = frozenset({
    "messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop",
})  # fmt: skip


def is_piece(event: dict[str, Any]) -> bool:
    """Return whether an event is one of a streamed message, with its name or as it goes over the wire."""
    return not _EVENTS.isdisjoint(event) or "contentBlockIndex" in event or any(map(_is_error, event))


def _is_error(name: str) -> bool:
    return name.endswith("Exception")


def _named(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event under its name, which goes over the wire in a header."""
    if "contentBlockIndex" in event:
        return {"contentBlockStart" if "start" in event else "contentBlockDelta": event}
    if "stopReason" in event:
        return {"messageStop": event}
    return {"metadata": event} if "usage" in event else event


def read(body: Body, answer: Answer) -> None:
    """Read the one message of a response."""
    message = body.output.get("message") if type(body.output) is dict else None
    take(message.get("content") if type(message) is dict else message, answer)
    answer.finish_reason = body.stop_reason_ or ""


def join(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that would have come without streaming."""
    body: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    texts: dict[int, list[Any]] = {}
    for kind, value in [(k, v) for event in events for k, v in _named(event).items() if type(v) is dict]:
        at = value.get("contentBlockIndex")
        index = at if type(at) is int else 0
        delta = value.get("start" if kind == "contentBlockStart" else "delta")
        if kind == "messageStop":
            body["stopReason"] = value.get("stopReason")
        elif kind == "metadata":
            body["usage"] = value.get("usage")
        elif _is_error(kind):
            body["error"] = {"type": kind}
        elif kind in _EVENTS and type(delta) is dict:
            if type(use := delta.get("toolUse")) is dict:
                blocks.setdefault(index, {"toolUse": use})
                texts.setdefault(index, []).append(use.get("input"))
            elif "text" in delta:
                texts.setdefault(index, []).append(delta["text"])
            elif delta:
                blocks.setdefault(index, delta)
    for index, pieces in texts.items():
        use = blocks.get(index, {}).get("toolUse")
        text = joined(pieces)
        blocks[index] = {"toolUse": {**use, "input": text}} if type(use) is dict else {"text": text}
    return {**body, "output": {"message": {"content": [blocks[index] for index in sorted(blocks)]}}}
