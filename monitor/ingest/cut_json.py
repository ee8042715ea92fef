"""JSON that its sender cut off, as far as it goes: attributes have a longest length, streams end early."""

import re
from typing import Any

from monitor.errors import BadTrace
from monitor.ingest import strict_json

# Possessive, and matching a string without an end too: otherwise each quote in it would be tried as a start.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+("|\\?\Z)|[\[\]{},:]', re.DOTALL)
# An escape without its end, the first half of a surrogate pair without the second, or both.
_ESCAPE_BEGUN = r"\\(?:u[0-9a-fA-F]{0,3})?"
_FIRST_HALF = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_OPEN_ESCAPE = re.compile(rf"(?<!\\)(?:\\\\)*({_FIRST_HALF}(?:{_ESCAPE_BEGUN})?|{_ESCAPE_BEGUN})\Z")
_ENDS = {"{": "}", "[": "]"}


def read_cut(text: str, max_depth: int) -> Any:
    """Return the value that a text begins, without what is incomplete at its end; None if it begins none.

    A string that was cut off is kept as far as it goes; a key without its value is not. One pass.
    """
    closed = _closed(text)
    if closed is None:
        return None
    try:
        return strict_json.parse(closed.encode(), max_depth, ())
    except (BadTrace, UnicodeEncodeError):
        return None


def _closed(text: str) -> str | None:
    """Return the text with what is open in it closed; None if it is not JSON, or whole."""
    stack: list[str] = []
    keep, depth = 0, 0  # end of the last value that can stay, and how many containers are open there
    end = 0
    is_key = False  # whether the next string of an object is a key
    for match in _TOKEN.finditer(text):
        if match[1] is not None and match[1] != '"':  # a string without an end
            break
        mark, end = match[0], match.end()
        if mark in _ENDS:
            stack.append(mark)
            is_key = mark == "{"
        elif mark in {"}", "]"}:
            if not stack or _ENDS[stack.pop()] != mark:
                return None
            is_key = False
        elif mark == ",":
            is_key = bool(stack) and stack[-1] == "{"
        elif mark == ":" or is_key:
            is_key = False
            continue
        keep, depth = (match.start() if mark == "," else end), len(stack)
    begin = text.find('"', end)
    if begin >= 0 and stack and not is_key:
        body = text[begin:]
        if escape := _OPEN_ESCAPE.search(body):
            body = body[: escape.start(1)]
        return text[:begin] + body + '"' + _closers(stack)
    return text[:keep] + _closers(stack[:depth]) if stack else None


def _closers(stack: list[str]) -> str:
    return "".join(_ENDS[opened] for opened in reversed(stack))
