"""Keys of the sender's JSON that a decoder did not read: its typed shapes do not have them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias, get_args

import msgspec

from monitor.errors import BadTrace
from monitor.ingest.fields import Parse
from monitor.ingest.identifiers import clean_identifier

Shapes: TypeAlias = Mapping[str, Any]
"""Path from the root (`ai.payload.request`; empty: the root itself) to the type that is read there."""
UNNAMED = "…"
"""Replaces keys that do not look like a name and may be user text."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def names_of(shapes: Shapes) -> frozenset[str]:
    """Return every key that the shapes read, at any depth."""
    names: set[str] = set()
    waiting, seen = set(shapes.values()), set()
    while waiting:
        seen.add(shape := waiting.pop())
        names |= _fields(shape).keys()
        waiting |= set(_fields(shape).values()) - seen
    return frozenset(names)


def unused_names(payload: object, shapes: Shapes, parse: Parse) -> Counter[str]:
    """Count the keys that are not read, as paths (`usage.total_tokens`); positions in lists are left out.

    Strings where a shape is expected are read as JSON, as decoders do. Keys below one that is not read are
    not counted.
    """
    counts: Counter[str] = Counter()
    for path, shape in shapes.items():
        for where, value in _at(payload, path.split(".") if path else [], ""):
            _walk(value, shape, where, shapes, counts, parse)
    return counts


def _at(value: object, path: Sequence[str], where: str) -> Iterator[tuple[str, object]]:
    """Yield the values at a path, each with its full path."""
    if not path:
        yield where, value
    elif isinstance(value, list):
        for item in value:
            yield from _at(item, path, where)
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:], f"{where}.{path[0]}".lstrip("."))


def _walk(value: object, shape: Any, where: str, shapes: Shapes, counts: Counter[str], parse: Parse) -> None:
    fields = _fields(shape)
    if isinstance(value, str) and where in shapes:
        try:
            value = parse(value.encode())
        except BadTrace:  # server-sent events, or plain text
            return
    if isinstance(value, list):
        for item in value:
            _walk(item, shape, where, shapes, counts, parse)
    elif isinstance(value, dict) and fields:
        for key, item in value.items():
            path = f"{where}.{name_of(key)}".lstrip(".")
            if key in fields:
                _walk(item, fields[key], path, shapes, counts, parse)
            elif path not in shapes:
                counts[path] += 1


def name_of(key: str) -> str:
    """Return a sender's key if it may be shown: an identifier without personal data; else `…`."""
    return key if _NAME.fullmatch(key) and clean_identifier(key, str) == key else UNNAMED


@cache
def _fields(annotation: Any) -> dict[str, Any]:
    """Keys of the structs that a type holds, alone or in lists, with their types; none where any goes."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(annotation)}
    return {key: inner for part in get_args(annotation) for key, inner in _fields(part).items()}
