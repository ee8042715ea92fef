"""Exports of generations in protobuf, encoded by hand from the JSON that the SDKs send."""

import base64
import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

_VARINT, _FIXED, _BYTES = 0, 1, 2
_ENUMERATED: Final = {
    "GENERATION_MODE_SYNC": 1,
    "GENERATION_MODE_STREAM": 2,
    "MESSAGE_ROLE_USER": 1,
    "MESSAGE_ROLE_ASSISTANT": 2,
    "MESSAGE_ROLE_TOOL": 3,
}
_SHAPES: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "export": {"generations": (1, "generation")},
    "generation": {
        "id": (1, ""), "conversation_id": (2, ""), "operation_name": (3, ""), "mode": (4, "number"),
        "trace_id": (5, ""), "span_id": (6, ""), "model": (7, "model"), "response_id": (8, ""),
        "response_model": (9, ""), "system_prompt": (10, ""), "input": (11, "message"),
        "output": (12, "message"), "tools": (13, "tool"), "usage": (14, "usage"), "stop_reason": (15, ""),
        "started_at": (16, "time"), "completed_at": (17, "time"), "tags": (18, "tags"),
        "metadata": (19, "metadata"), "call_error": (21, ""), "agent_name": (22, ""),
        "agent_version": (23, ""),
    },
    "model": {"provider": (1, ""), "name": (2, "")},
    "message": {"role": (1, "number"), "name": (2, ""), "parts": (3, "part")},
    "part": {
        "text": (2, ""), "thinking": (3, ""), "tool_call": (4, "call"), "tool_result": (5, "result"),
        "media": (6, "media"),
    },
    "call": {"id": (1, ""), "name": (2, ""), "input_json": (3, "base64")},
    "result": {
        "tool_call_id": (1, ""), "name": (2, ""), "content": (3, ""), "content_json": (4, "base64"),
        "is_error": (5, "number"),
    },
    "media": {"kind": (1, ""), "url": (2, "")},
    "tool": {"name": (1, ""), "description": (2, ""), "type": (3, "")},
    "usage": {"input_tokens": (1, "number"), "output_tokens": (2, "number"), "total_tokens": (3, "number")},
}  # fmt: skip


def encoded(export: Mapping[str, Any]) -> bytes:
    """Return an export, JSON with protobuf's own names, as an ExportGenerationsRequest."""
    return _message(export, "export")


def field(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes."""
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _message(value: Mapping[str, Any], shape: str) -> bytes:
    made = b""
    for key, content in value.items():
        number, kind = _SHAPES[shape][key]
        if kind in {"tags", "metadata"}:
            made += b"".join(_map(number, kind, content))
            continue
        for each in content if isinstance(content, list) else [content]:
            made += _field(number, kind, each)
    return made


def _field(number: int, kind: str, value: Any) -> bytes:
    match kind:
        case "number":
            known = _ENUMERATED.get(value, value)
            return _varint(number << 3 | _VARINT) + _varint(int(known) % 2**64)
        case "base64":
            return field(number, base64.b64decode(value))
        case "time":
            moment = datetime.fromisoformat(value)
            seconds = int(moment.replace(microsecond=0).timestamp())
            nanos = moment.microsecond * 1000
            return field(number, _field(1, "number", seconds) + _field(2, "number", nanos))
        case "":
            return field(number, value.encode())
        case _:
            return field(number, _message(value, kind))


def _map(number: int, kind: str, value: Mapping[str, Any]) -> list[bytes]:
    """Return a map, or a Struct, which is a map of values."""
    if kind == "metadata":
        entries = b"".join(
            field(1, field(1, key.encode()) + field(2, _scalar(held))) for key, held in value.items()
        )
        return [field(number, entries)]
    return [field(number, field(1, key.encode()) + field(2, held.encode())) for key, held in value.items()]


def _scalar(value: Any) -> bytes:
    if isinstance(value, bool):
        return _varint(4 << 3 | _VARINT) + _varint(int(value))
    if isinstance(value, int | float):
        return _varint(2 << 3 | _FIXED) + struct.pack("<d", value)
    if isinstance(value, list):
        return field(6, b"".join(field(1, _scalar(item)) for item in value))
    return b"" if value is None else field(3, value.encode())


def _varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])
