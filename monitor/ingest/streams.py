"""Joins the chunks of a streamed response into the body that would have come without streaming."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from monitor.errors import BadTrace
from monitor.ingest.fields import Parse, convert, within
from monitor.ingest.openai_shapes import (
    Body,
    Choice,
    ContentPart,
    Failure,
    Function,
    Item,
    Logprobs,
    Reply,
    StreamEvent,
    WireCall,
)

_LINE = re.compile(r"\r\n|\n|\r")  # of server-sent events; str.splitlines() also cuts within JSON strings
_BLANK = re.compile(r"\r\n\r\n|\n\n|\r\r")


def events_of(text: str, where: str, parse: Parse) -> Iterator[object]:
    """Return the JSON of a stream's server-sent events, without an event that the stream's end cut off.

    Format: WHATWG HTML, section "Server-sent events".
    """
    blocks = _BLANK.split(text)
    for n, block in enumerate(blocks):
        lines = [line[5:].removeprefix(" ") for line in _LINE.split(block) if line.startswith("data:")]
        data = "\n".join(lines)
        if not data or data == "[DONE]":
            continue
        try:
            yield parse(data.encode())
        except BadTrace as error:
            if n < len(blocks) - 1:
                raise within(f"{where}, event {n}", error) from None


def joined(chunks: Sequence[object], where: str) -> Body:
    """Join chunks of a chat or text completion, or events of the Responses API, in order.

    Raises BadTrace naming `where` and the field; missing_field where none is a piece of a response.
    """
    if any(isinstance(chunk, dict) and isinstance(chunk.get("type"), str) for chunk in chunks):
        events = [
            convert(chunk, StreamEvent, [], f"{where}[{n}]")
            for n, chunk in enumerate(chunks)
            if isinstance(chunk, dict) and "type" in chunk
        ]
        return _joined_events(events, where)
    bodies = [convert(chunk, Body, [], f"{where}[{n}]") for n, chunk in enumerate(chunks)]
    if not any(body.choices is not None or body.error for body in bodies):
        raise BadTrace("missing_field", f"{where}: holds no chunk of a response; send them all")
    by_index: dict[int, list[Choice]] = {}
    for body in bodies:
        for choice in body.choices or ():
            by_index.setdefault(choice.index, []).append(choice)
    return Body(
        id=_first(body.id for body in bodies),
        created=_first(body.created for body in bodies),
        model=_first(body.model for body in bodies),
        system_fingerprint=_first(body.system_fingerprint for body in bodies),
        choices=tuple([_joined_choice(index, pieces) for index, pieces in by_index.items()]),
        usage=_first(body.usage for body in reversed(bodies)),
        error=_first(body.error for body in bodies),
    )


def _joined_choice(index: int, pieces: Sequence[Choice]) -> Choice:
    deltas = [piece.delta or piece.message or Reply(content=piece.text) for piece in pieces]
    calls: dict[int, list[WireCall]] = {}
    for delta in deltas:
        for n, call in enumerate(delta.tool_calls or ()):
            calls.setdefault(n if call.index is None else call.index, []).append(call)
    functions = [delta.function_call for delta in deltas if delta.function_call]
    logs = [piece.logprobs for piece in pieces if piece.logprobs]
    content: list[ContentPart | str] = []
    for delta in deltas:
        content += [delta.content] if isinstance(delta.content, str) else delta.content or ()
    return Choice(
        index=index,
        message=Reply(
            content=tuple(content),
            refusal="".join(delta.refusal or "" for delta in deltas),
            tool_calls=tuple([_joined_call(some) for _, some in sorted(calls.items())]),
            function_call=_joined_function(functions) if functions else None,
        ),
        finish_reason=_first(piece.finish_reason for piece in reversed(pieces)),
        logprobs=Logprobs(
            content=tuple([token for log in logs for token in log.content or ()]),
            token_logprobs=tuple([logprob for log in logs for logprob in log.token_logprobs or ()]),
        ),
    )


def _joined_call(pieces: Sequence[WireCall]) -> WireCall:
    functions = [f for piece in pieces if (f := piece.function or piece.custom)]
    return WireCall(id=_first(piece.id for piece in pieces), function=_joined_function(functions))


def _joined_function(pieces: Sequence[Function]) -> Function:
    arguments = [piece.arguments if piece.arguments is not None else piece.input for piece in pieces]
    return Function(
        name=_first(piece.name for piece in pieces), arguments="".join(as_text(some) for some in arguments)
    )


def _joined_events(events: Sequence[StreamEvent], where: str) -> Body:
    """Return the last whole response of a stream; if cut off, its finished items and texts so far."""
    whole = [event.response for event in events if event.response]
    if not whole and not any(event.type == "error" for event in events):
        raise BadTrace("missing_field", f"{where}: holds no event with a response; send them all")
    body = whole[-1] if whole else Body()
    if any(event.type == "error" for event in events):
        body.error = Failure(code=_first(event.code for event in events))
    if body.output:
        return body
    items: dict[int, Item] = {}
    for event in events:
        if event.type == "response.output_item.done" and event.item:
            items[event.output_index] = event.item
    texts: dict[int, list[str]] = {}
    for event in events:
        if event.type == "response.output_text.delta" and isinstance(event.delta, str):
            texts.setdefault(event.output_index, []).append(event.delta)
    for index, pieces in texts.items():
        items.setdefault(index, Item(type="message", content="".join(pieces)))
    body.output = tuple([items[index] for index in sorted(items)])
    return body


def as_text(value: object) -> str:
    """Return a tool's arguments or result as text; other values as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _first(values: Iterable[Any]) -> Any:
    """Return the first non-empty value."""
    return next((value for value in values if value), None)
