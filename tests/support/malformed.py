"""Shapes of records that no decoder may accept, each a dead letter, and of such as cost a value at most."""

import json
from typing import Any

_GOOD: dict[str, Any] = {
    "id": "malformed",
    "time": 1_700_000_000,
    "app": "shop",
    "messages": [{"role": "user", "content": "Hello?"}],
    "response": "Hello.",
    "context": [{"id": "d1", "content": "A greeting."}],
}


def _with(**changes: object) -> bytes:
    return json.dumps(_GOOD | changes).encode()


def shapes() -> dict[str, bytes | None]:
    """Malformed record values by name; `None` is a tombstone."""
    good = _with()
    deep = 10_000
    return {
        "tombstone": None,
        "empty": b"",
        "blank": b" \n\t ",
        "number": b"42",
        "string": b'"hello"',
        "null": b"null",
        "true": b"true",
        "list": b"[" + good + b"]",
        "object_without_anything": b"{}",
        "text": b"hello, world",
        "random_bytes": bytes(range(256)),
        "truncated": good[: len(good) // 2],
        "trailing_garbage": good + b" {}",
        "two_lines": good + b"\n" + good,
        "byte_order_mark": b"\xef\xbb\xbf" + good,
        "utf_16": good.decode().encode("utf-16"),
        "latin_1": good.replace(b"Hello.", "Grüße".encode("latin-1")),
        "overlong_utf_8": good.replace(b"Hello.", b"\xc0\xaf"),
        "surrogate_in_utf_8": good.replace(b"Hello.", b"\xed\xa0\x80"),
        "raw_control_character": good.replace(b"Hello.", b"line\nbreak"),
        "raw_nul": good.replace(b"Hello.", b"a\x00b"),
        "bad_escape": good.replace(b"Hello.", b"\\x41"),
        "single_quotes": b"{'response': 'hello'}",
        "trailing_comma": good[:-1] + b",}",
        "deep": b"[" * deep + b"]" * deep,
        "deep_unclosed": b'{"a":' * deep,
        "deep_in_unknown_field": good[:-1] + b', "note": ' + b"[" * deep + b"]" * deep + b"}",
        "deep_in_label": good[:-1] + b', "labels": ' + b'{"a":' * 80 + b"1" + b"}" * 80 + b"}",
        "duplicate_response": good[:-1] + b', "response": "Good-bye."}',
        "duplicate_spaced": good[:-1] + b', "response"\t : "Good-bye."}',
        "duplicate_escaped": good[:-1] + b', "r\\u0065sponse": "Good-bye."}',
        "duplicate_content": good.replace(b'"role"', b'"content": "", "role"'),
        "duplicate_equal": good[:-1] + b', "app": "shop"}',
        "no_response": good.replace(b'"response"', b'"answer"'),
        "null_response": _with(response=None),
        "list_response": _with(response=["Hello."]),
        "number_response": _with(response=3),
        "cloudevent_without_type": json.dumps(
            {"specversion": "1.0", "id": "1", "source": "/a", "data": _GOOD}
        ).encode(),
        "cloudevent_without_data": json.dumps(
            {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
        ).encode(),
        "ten_megabytes": _with(response="x" * 10 * 2**20),
    }


def odd() -> dict[str, bytes]:
    """Records of which one value cannot be used, or not as it is, by name: everything else is judged."""
    good = _with()
    return {
        "lone_surrogate": good.replace(b"Hello.", b"cut \\ud800 here"),
        "lone_surrogate_in_unknown_field": good[:-1] + b', "note": "\\udc00"}',
        "nan": good.replace(b"1700000000", b"NaN"),
        "infinity": good.replace(b"1700000000", b"Infinity"),
        "huge_float": good.replace(b"1700000000", b"1e999"),
        "huge_float_in_unknown_field": good[:-1] + b', "note": -1e999}',
        "huge_integer": good.replace(b"1700000000", b"9" * 5000),
        "big_integer": good.replace(b"1700000000", b"9" * 400),
        "milliseconds": _with(time=1_700_000_000_000),
        "negative_time": _with(time=-1),
        "time_without_zone": _with(time="2026-01-01T00:00:00"),
        "time_in_words": _with(time="yesterday"),
        "time_true": _with(time=True),
        "object_messages": _with(messages={"role": "user", "content": "Hello?"}),
        "string_messages": _with(messages=["Hello?"]),
        "null_message": _with(messages=[None]),
        "number_content": _with(messages=[{"role": "user", "content": 1}]),
        "unknown_role": _with(messages=[{"role": "critic", "content": "Hello?"}]),
        "number_context": _with(context=[7]),
        "number_id": _with(id=7),
        "string_tokens": _with(usage={"input_tokens": "7"}),
        "negative_tokens": _with(usage={"input_tokens": -7}),
        "negative_latency": _with(latency=-0.1),
        "number_label": _with(labels={"tier": 1}),
        "string_logprobs": _with(logprobs="-0.1"),
    }
