"""Pieces of a streamed response: server-sent events, and lines of JSON."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from monitor.errors import BadTrace
from monitor.ingest.cut_json import read_cut
from monitor.ingest.fields import Parse

_MAX_DEPTH = 64  # of an event that was cut off
_NAMING = frozenset({
    "type", "id", "index", "role", "object", "status", "output_index", "content_index", "item_id",
    "sequence_number",
})  # fmt: skip
_SEVERAL = 2  # lines of one event
_LINE = re.compile(r"\r\n|\n|\r")  # of server-sent events; str.splitlines() also cuts within JSON strings
_BLANK = re.compile(r"\r\n\r\n|\n\n|\r\r")


def events_of(text: str, parse: Parse) -> tuple[list[Any], bool]:
    """Return the JSON of a stream's events, and whether one is damaged, or was cut off.

    The last one is read as far as it goes, any other one that is damaged is left out. Formats: WHATWG HTML,
    section "Server-sent events", also without the empty lines, which readers of lines drop; one JSON value a
    line, as Ollama streams.
    """
    if text.startswith("{"):
        blocks = [[line] for line in _LINE.split(text)]
    else:
        blocks = [
            [line[5:].removeprefix(" ") for line in _LINE.split(block) if line.startswith("data:")]
            for block in _BLANK.split(text)
        ]
    events: list[Any] = []
    damaged = False
    cut = ""
    for lines in blocks:
        for data in lines if len(lines) < _SEVERAL else _events(lines, parse):
            if not data or data == "[DONE]":
                continue
            cut = ""
            try:
                events.append(parse(data.encode()))
            except BadTrace:
                damaged, cut = True, data
    if cut and (read := begun(cut)):
        events.append(read)
    return events, damaged


def begun(text: str) -> Any:
    """Return the value that a text begins, None if it begins none.

    Objects at its end that so far only name themselves are left out: nobody can tell what they would have
    been, and what is no part of a message counts as text.
    """
    return _telling(read_cut(text, _MAX_DEPTH))


def _telling(value: Any) -> Any:
    """Return a value without what says nothing at its end, None where nothing is left."""
    if type(value) is list and value:
        last = _telling(value[-1])
        return value[:-1] if last is None else [*value[:-1], last]
    if type(value) is dict:
        key = next(reversed(value), "")
        last = _telling(value.get(key))
        told = (
            {name: each for name, each in value.items() if name != key}
            if last is None
            else value | {key: last}
        )
        return told if told.keys() - _NAMING else None
    return value


def _events(lines: list[str], parse: Parse) -> list[str]:
    """Return the events of lines of data that no empty line parts: JSON over all of them is one."""
    whole = "\n".join(lines)
    try:
        parse(whole.encode())
    except BadTrace:
        return lines
    return [whole]


def first_of(values: Iterable[Any]) -> Any:
    """Return the first value that is not empty."""
    return next((value for value in values if value), None)


def items_of(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, or one that stands alone; nothing for anything else."""
    if type(value) is dict:
        return [value]
    return [item for item in value if type(item) is dict] if type(value) is list else []


def joined(pieces: Sequence[Any]) -> str:
    """Join the texts among the pieces of one."""
    return "".join([piece for piece in pieces if type(piece) is str])
