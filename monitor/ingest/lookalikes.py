"""Traces in formats that are not read, told by their shape, so that a dead letter can name the remedy.

Sources: Jaeger's `model.proto` (`Span`: 1 trace id of 16 bytes, 2 span id of 8, 3 operation name) and its
JSON; Zipkin's `zipkin.proto` (`ListOfSpans`: 1 spans, of which 1 trace id of 8 or 16 bytes, 3 id of 8) and
its JSON, version 2. A Collector's `kafka` exporter writes them with `encoding: jaeger_proto` and the like.
Generations are those of `agento11y_proto`.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

_JAEGER: Final = "Jaeger's spans"
_ZIPKIN: Final = "Zipkin's spans"
_REMEDY: Final = "set the exporter's encoding to otlp_proto or otlp_json"
_GENERATIONS: Final = "generations of Agent Observability: set the topic's format to agento11y_proto"
_OF_GENERATIONS: Final = range(14, 31)  # fields of a generation, from its usage on
_TRACE_IDS: Final = frozenset({8, 16})  # bytes
_SPAN_ID: Final = 8
_LENGTHS: Final = {1: 8, 5: 4}  # bytes of fixed fields by wire type
_VARINT, _BYTES = 0, 2
_MAX_FIELDS: Final = 1000
_JAEGER_KEYS: Final = ({"operationName", "traceID"}, {"operationName", "traceId"}, {"traceID", "spans"})
_ZIPKIN_KEYS: Final = (
    {"traceId", "localEndpoint"},
    {"traceId", "id", "timestamp"},
    {"traceId", "id", "duration"},
)


OTHERS: Final = (*_JAEGER_KEYS, *_ZIPKIN_KEYS, {"process", "spans"}, {"data"})
"""Keys of objects that may be told here, and are of no format that is read: of each set all."""


def named_json(value: Any) -> str:
    """Return what decoded JSON looks like, and the remedy, or an empty string."""
    found = ""
    items = value.get("data", value) if isinstance(value, dict) else value
    first = items[0] if isinstance(items, list) and items else value
    if isinstance(first, dict):
        if "spans" in first and isinstance(first["spans"], list) and first["spans"]:
            inner = first["spans"][0]
            first = first | inner if isinstance(inner, dict) else first
        if any(keys <= first.keys() for keys in _JAEGER_KEYS):
            found = _JAEGER
        elif any(keys <= first.keys() for keys in _ZIPKIN_KEYS):
            found = _ZIPKIN
    return f"it looks like {found}: {_REMEDY}" if found else ""


def named_protobuf(value: bytes) -> str:
    """Return what bytes that are no OTLP look like, and the remedy, or an empty string."""
    if value[:1] in {b"{", b"["}:
        try:
            return named_json(msgspec.json.decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
    found = ""
    fields = list(_fields(value))
    numbers = {number for number, _ in fields}
    by_number = dict(reversed(fields))  # of each field the first
    if len(by_number.get(1, b"")) in _TRACE_IDS and len(by_number.get(2, b"")) == _SPAN_ID:
        found = _JAEGER
    elif numbers == {1}:
        inner = dict(reversed(list(_fields(by_number[1]))))
        if len(inner.get(1, b"")) in _TRACE_IDS and len(inner.get(3, b"")) == _SPAN_ID:
            found = _ZIPKIN
        elif holds_generations(value):
            return f"it looks like {_GENERATIONS}"
    return f"it looks like {found}: {_REMEDY}" if found else ""


def holds_generations(value: bytes) -> bool:
    """Return whether protobuf is an export of generations: a group of OTLP has no fields so numbered."""
    first = next(_fields(value), (0, b""))
    return first[0] == 1 and any(number in _OF_GENERATIONS for number, _ in _fields(first[1]))


def _fields(value: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of a message's fields as far as they can be read; numbers have no bytes."""
    at = 0
    for _ in range(_MAX_FIELDS):
        tag, at = _varint(value, at)
        number, kind = tag >> 3, tag & 7
        if not number or at > len(value):
            return
        if kind == _BYTES:
            length, at = _varint(value, at)
            yield number, value[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _varint(value, at)
            yield number, b""
        elif kind in _LENGTHS:
            at += _LENGTHS[kind]
            yield number, b""
        else:
            return


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """Decode a varint of 64 bits; return it and where it ends, beyond the value if there is none."""
    number = 0
    for shift, byte in enumerate(value[at : at + 10]):
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return number, at + shift + 1
    return 0, len(value) + 1
