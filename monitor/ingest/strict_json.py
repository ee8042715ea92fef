"""Strict JSON: valid UTF-8, no duplicate keys, bounded depth.

Parsers disagree about a duplicate key (first wins, last wins), so another reader of the same bytes would not
see what was judged. RFC 8259 section 4 leaves it open; here it is an error.

Three faults of writers cost only themselves, as what they spoil is plain: half of a surrogate pair, which a
cut within a character leaves, becomes U+FFFD; NaN, Infinity and numbers that no float holds become null.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Collection
from typing import Any, TypeAlias

import msgspec

from monitor.errors import BadTrace

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None

_CONTAINERS = (dict, list)
_NO_MARKS = bytes(set(range(256)) - set(b'{["\\'))
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# A string, closed or not, or what may be no number. Possessive, so that a string is gone over only once.
_TOKEN = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|-?(?:NaN|Infinity)|-?[0-9][0-9.eE+-]*+', re.DOTALL
)
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rb"(" + _HIGH + _LOW + rb")|(" + _HIGH + rb"|" + _LOW + rb")|\\.", re.DOTALL)


def parse(raw: bytes, max_depth: int, known: Collection[str]) -> Json:
    """Decode one JSON value nested at most `max_depth` containers deep.

    `known` are the keys that error messages may name.

    Raises BadTrace: invalid_utf8, invalid_json (trailing bytes included), too_deep, duplicate_key.
    """
    try:
        value: Json = _decode(raw)
        if type(value) not in _CONTAINERS:
            return value
        # The usual case: too few brackets to nest too deep. Then the encoder, being fast, finds the strings.
        marks = raw.translate(None, _NO_MARKS)  # one pass, as each count would be
        if marks.count(b"{") + marks.count(b"[") <= max_depth:
            written = _encode(value)
            # Both write a quote within a string as `\"`, unless the sender wrote it as a number.
            if written.count(b'"') == marks.count(b'"') and not (b"\\" in marks and b"\\u0022" in raw):
                return value
            quotes = _count_quotes(written)
        else:
            quotes = 2 * _count_strings(value, max_depth)
    except UnicodeDecodeError:
        raise BadTrace("invalid_utf8", "a string is not UTF-8; send UTF-8 text") from None
    except msgspec.DecodeError as error:
        if (mended := _TOKEN.sub(_mend, raw)) != raw:
            return parse(mended, max_depth, known)
        raise _refusal(raw, error) from None
    except RecursionError:
        raise BadTrace("too_deep", "nested too deep; flatten it") from None
    # The decoder keeps one of two equal keys, so fewer strings come out than were written.
    if quotes != _count_quotes(raw):
        raise BadTrace(
            "duplicate_key", f"{_duplicate_key(raw, known)} occurs twice in one object; send it once"
        )
    return value


def _refusal(raw: bytes, error: msgspec.DecodeError) -> BadTrace:
    if isinstance(error, msgspec.ValidationError):  # untyped decoding validates nothing but numbers
        return BadTrace("out_of_range", "a number is too large; send it as a string")
    detail = "starts with a byte order mark; remove it" if raw[:3] == b"\xef\xbb\xbf" else str(error)
    return BadTrace("invalid_json", detail)


def _mend(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if text[:1] == b'"':
        return _ESCAPE.sub(_whole, text) if b"\\u" in text else text
    try:
        return text if math.isfinite(float(text)) else b"null"
    except ValueError:  # no number: the parser says so
        return text


def _whole(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[2] else escape[0]


def _count_strings(value: Any, depth: int) -> int:
    """Count the strings in a list or dict, keys included. Raises RecursionError beyond `depth`."""
    if depth <= 0:
        raise RecursionError
    keys, items = (len(value), value.values()) if isinstance(value, dict) else (0, value)
    strings = keys
    for item in items:
        kind = type(item)
        if kind is str:
            strings += 1
        elif kind is dict or kind is list:
            strings += _count_strings(item, depth - 1)
    return strings


def _count_quotes(raw: bytes) -> int:
    """Count the quotes of valid JSON that begin or end a string: two for every string written."""
    if b"\\" not in raw:
        return raw.count(b'"')
    # Escaped backslashes go first, so that the last one of a string is not taken for its quote's.
    raw = raw.replace(b"\\\\", b"")
    return raw.count(b'"') - raw.count(b'\\"')


def _duplicate_key(raw: bytes, known: Collection[str]) -> str:
    """Describe the first duplicate key of JSON that has one."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        twice.extend(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)

    json.loads(raw, object_pairs_hook=look)
    # A key is whatever the sender wrote, so only those of the documented format are repeated.
    return f"key {twice[0]}" if twice[0] in known else "an unknown key"
