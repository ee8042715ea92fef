"""OpenAI's Responses API, and its Realtime API, whose events are of the same family.

Source: PyPI `openai` 3.57, `types/responses` and `types/realtime`.
"""

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from monitor.ingest.bodies import parts
from monitor.ingest.bodies.content import Content
from monitor.ingest.bodies.reading import Answer
from monitor.ingest.bodies.shapes import Body
from monitor.ingest.bodies.streams import first_of, items_of, joined
from monitor.ingest.fields import plain
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
_Place: TypeAlias = tuple[str, int, str]
"""Of an item: its response's id, which only sessions name, its index there, and its type."""
_Pieces: TypeAlias = dict[tuple[int, str], list[Any]]
"""Of an item: by the index and the field of the part that they belong to."""


def is_piece(event: dict[str, Any]) -> bool:
    """Return whether an event is one of a response or of a realtime session."""
    kind = event.get("type")
    return type(kind) is str and kind.startswith(("response.", "session.", "conversation.", "input_audio"))


def read(body: Body, answer: Answer) -> None:
    """Read the output items: texts, calls with their results, and what a search of files found."""
    content = Content()
    for item in items_of(body.output):
        content.add(parts.read(item))
    answer.text = "".join(content.texts)
    answer.tool_calls = content.answered_calls()
    answer.documents, answer.logprobs = content.documents, content.logprobs
    answer.left_out = [*answer.left_out, *content.left_out]
    answer.refused = content.refused
    reason = (body.incomplete_details.reason if body.incomplete_details else None) or body.status or ""
    details = body.status_details
    if reason == "failed" and not answer.failed:  # a session's, whose error stands there
        answer.failed = details.error.kind() if details and details.error else FAILED
    only_calls = answer.tool_calls and not answer.text
    answer.finish_reason = "tool_calls" if only_calls else FAILED if reason == "failed" else reason


def join(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the last whole response of a stream, or what came of it; of a session, all its responses.

    An error ends a stream, but not a session that goes on: then its last response tells how it ended.
    """
    whole = [response for event in events if type(response := event.get("response")) is dict]
    body = dict(whole[-1]) if whole else {}
    done = {
        plain(response.get("id")): response
        for event in events
        if event.get("type") == "response.done" and type(response := event.get("response")) is dict
    }
    failed = [event for event in events if event.get("type") == FAILED]
    if failed and not done:
        body["error"] = first_of(event.get("error") or {"code": event.get("code")} for event in failed)
    if done or not body.get("output"):
        finished = [item for each in done.values() for item in items_of(each.get("output"))]
        body["output"] = [*finished, *_built(events, done)]
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
            turns[plain(event.get("item_id")) or n] = {
                "role": "user",
                "content": event.get("transcript"),
            }
        elif (
            type(item) is dict
            and item.get("role") != "assistant"
            and plain(kind).startswith("conversation.item.")
        ):
            turns.setdefault(plain(item.get("id")) or n, item)
    return [*({"role": "system", "content": text} for text in instructions[-1:]), *turns.values()]


def _built(events: Sequence[dict[str, Any]], done: Collection[str]) -> list[dict[str, Any]]:
    """Return the items of responses that were cut off: finished ones, and the rest as far as it came."""
    items: dict[_Place, dict[str, Any]] = {}
    pieces: dict[_Place, _Pieces] = {}
    for event in events:
        own = plain(event.get("response_id"))
        if done and (own in done or not own):
            continue
        kind, index = plain(event.get("type")), _index(event.get("output_index"))
        if kind.startswith("response.output_item.") and type(item := event.get("item")) is dict:
            place = (own, index, plain(item.get("type")))
            if kind.endswith(".done") or place not in items:
                items[place] = item
        elif made := _piece_of(kind, event):
            place = (own, index, made[0])
            items.setdefault(place, {"type": made[0]})
            _add_piece(pieces.setdefault(place, {}), kind, event, made[1])
    for place, some in pieces.items():
        items[place] = _filled(items[place], place[2], some)
    turns = {own: n for n, own in enumerate(dict.fromkeys(place[0] for place in items))}
    return [items[place] for place in sorted(items, key=lambda place: (turns[place[0]], place[1]))]


def _piece_of(kind: str, event: dict[str, Any]) -> tuple[str, str] | None:
    """Return the type of the item that an event is a piece of, and the piece's field; None for no piece."""
    if kind == "response.content_part.done" and type(event.get("part")) is dict:
        return "message", "part"
    if kind.startswith("response.reasoning"):
        return "reasoning", ""
    return _DELTAS.get(kind.rpartition(".")[0])


def _add_piece(pieces: _Pieces, kind: str, event: dict[str, Any], field: str) -> None:
    at = (_index(event.get("content_index")), field)
    if kind.endswith(".delta"):
        pieces.setdefault(at, []).append(event.get("delta"))
    else:
        pieces[at] = [event.get(field, event.get("text"))]


def _filled(item: dict[str, Any], kind: str, pieces: _Pieces) -> dict[str, Any]:
    """Return an item with what its pieces say, where it does not say more itself."""
    if kind == "message":
        return item if item.get("content") else {**item, "content": _parts(pieces)}
    read = {field: joined(texts) for (_, field), texts in pieces.items() if field}
    return {**item, **{field: item.get(field) or text for field, text in read.items()}}


def _parts(pieces: _Pieces) -> list[dict[str, Any]]:
    """Return the parts of a message: a whole one where it came, else the text of its pieces."""
    whole = {index for index, field in pieces if field == "part"}
    return [
        texts[0] if field == "part" else _part(field, joined(texts))
        for (index, field), texts in sorted(pieces.items(), key=itemgetter(0))
        if field == "part" or index not in whole
    ]


def _part(field: str, text: str) -> dict[str, Any]:
    return {"type": "audio", "transcript": text} if field == "transcript" else {"type": "", field: text}


def _index(index: object) -> int:
    return index if type(index) is int else 0
