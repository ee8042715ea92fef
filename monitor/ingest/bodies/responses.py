"""OpenAI's Responses API, and its Realtime API, whose events are of the same family.

Source: PyPI `openai` 3.57, `types/responses` and `types/realtime`.
"""

from collections.abc import Sequence
from typing import Any, Final

from monitor.ingest.bodies import parts
from monitor.ingest.bodies.reading import Answer
from monitor.ingest.bodies.shapes import Body
from monitor.ingest.bodies.streams import first_of, items_of, joined
from monitor.ingest.texts import FAILED

_DELTAS: Final = {
    "response.output_text": ("message", "text"),
    "response.text": ("message", "text"),
    "response.refusal": ("message", "refusal"),
    "response.audio.transcript": ("message", "transcript"),
    "response.audio_transcript": ("message", "transcript"),
    "response.output_audio_transcript": ("message", "transcript"),
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
    "response.mcp_call_arguments": ("mcp_call", "arguments"),
    "response.mcp_call.arguments": ("mcp_call", "arguments"),
    "response.code_interpreter_call_code": ("code_interpreter_call", "code"),
    "response.code_interpreter_call.code": ("code_interpreter_call", "code"),
}
"""Events by their name without `.delta` or `.done`: the type of the item they build, and its field."""


def is_piece(event: dict[str, Any]) -> bool:
    """Return whether an event is one of a response or of a realtime session."""
    kind = event.get("type")
    return (
        type(kind) is str and kind.startswith(("response.", "session.", "conversation.", "input_audio"))
    ) or (kind == "error" and type(event.get("error")) is not dict)


def read(body: Body, answer: Answer) -> None:
    """Read the output items: texts, calls with their results, and what a search of files found."""
    content = parts.Content()
    for item in items_of(body.output):
        content.add(parts.read(item))
    answer.text = "".join(content.texts)
    answer.tool_calls = content.answered_calls()
    answer.documents, answer.logprobs = content.documents, content.logprobs
    answer.left_out = [*answer.left_out, *content.left_out]
    answer.refused = content.refused
    reason = (body.incomplete_details.reason if body.incomplete_details else None) or body.status or ""
    only_calls = answer.tool_calls and not answer.text
    answer.finish_reason = "tool_calls" if only_calls else FAILED if reason == "failed" else reason


def join(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the last whole response of a stream, or what came of it; of a session, all its responses."""
    whole = [response for event in events if type(response := event.get("response")) is dict]
    body = dict(whole[-1]) if whole else {}
    done = [
        event["response"]
        for event in events
        if event.get("type") == "response.done" and event.get("response")
    ]
    if len(done) > 1:
        body["output"] = [
            item for each in done if type(each) is dict for item in items_of(each.get("output"))
        ]
    if failed := [event for event in events if event.get("type") == FAILED]:
        body["error"] = {"code": first_of(event.get("code") for event in failed)}
    if not body.get("output"):
        body["output"] = _built(events)
    return body


def heard(events: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the turns of a session that are not the model's: instructions, and what the user said."""
    turns: dict[object, Any] = {}
    instructions = [
        s["instructions"] for e in events if type(s := e.get("session")) is dict and s.get("instructions")
    ]
    for n, event in enumerate(events):
        kind = event.get("type")
        item = event.get("item")
        if kind == "conversation.item.input_audio_transcription.completed":
            turns[parts.name_of(event.get("item_id")) or n] = {
                "role": "user",
                "content": event.get("transcript"),
            }
        elif (
            type(item) is dict
            and item.get("role") != "assistant"
            and parts.name_of(kind).startswith("conversation.item.")
        ):
            turns.setdefault(parts.name_of(item.get("id")) or n, item)
    return [*({"role": "system", "content": text} for text in instructions[-1:]), *turns.values()]


def _built(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items of a stream that was cut off: finished ones, and the rest as far as it came."""
    items: dict[tuple[int, str], dict[str, Any]] = {}
    texts: dict[tuple[tuple[int, str], str], list[Any]] = {}
    whole: dict[tuple[tuple[int, str], str], Any] = {}
    for event in events:
        kind = parts.name_of(event.get("type"))
        index = event.get("output_index", 0)
        item = event.get("item")
        if kind.startswith("response.output_item.") and type(item) is dict:
            at = (_index(index), parts.name_of(item.get("type")))
            if kind.endswith(".done") or at not in items:
                items[at] = item
            continue
        name, _, step = kind.rpartition(".")
        if name not in _DELTAS:
            continue
        made, field = _DELTAS[name]
        at = (_index(index), made)
        items.setdefault(at, {"type": made})
        if step == "delta":
            texts.setdefault((at, field), []).append(event.get("delta"))
        else:
            whole[at, field] = event.get(field, event.get("text"))
    for (at, field), pieces in texts.items():
        whole.setdefault((at, field), joined(pieces))
    for (at, field), text in whole.items():
        if at[1] != "message":
            items[at] = {**items[at], field: items[at].get(field) or text}
        elif not items[at].get("content"):
            items[at] = {**items[at], "content": [_part(field, text)]}
    return [items[at] for at in sorted(items, key=lambda at: at[0])]


def _part(field: str, text: Any) -> dict[str, Any]:
    return {"type": "audio", "transcript": text} if field == "transcript" else {"type": "", field: text}


def _index(index: object) -> int:
    return index if type(index) is int else 0
