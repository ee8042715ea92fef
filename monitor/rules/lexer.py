"""Tokens of rule expressions, and the one error that says where an expression is wrong."""

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

MAX_LENGTH = 2_000  # characters
HINTS = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!", "AND": "&&", "OR": "||"}
"""Operators of other languages, and CEL's spelling of them."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<double>(?:[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)(?![\w.]))
    |(?P<int>(?:0x[0-9a-fA-F]+|[0-9]+)(?![\w.]))
    |(?P<string>[rR]"[^"\n]*"|[rR]'[^'\n]*'|"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<operator>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]])""",
    re.VERBOSE | re.ASCII,
)


class ExpressionError(Exception):
    """An expression that cannot be used; `offset` is the character at fault."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


class Lexeme(NamedTuple):
    """A token: kind is double, int, string, name, operator or end."""

    kind: str
    text: str
    offset: int


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for the closest known name, or a list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; use one of {', '.join(names)}"


def tokens(source: str) -> list[Lexeme]:
    """Split an expression; the last token is the end. Raises ExpressionError."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(0, f"longer than {MAX_LENGTH} characters; split it into several rules")
    lexemes, offset = [], 0
    while offset < len(source):
        match = _TOKEN.match(source, offset)
        if match is None:
            raise ExpressionError(offset, _unexpected(source[offset:]))
        kind = match.lastgroup
        assert kind is not None  # every alternative of the pattern is named
        if kind != "space":
            lexemes.append(Lexeme(kind, match.group(), offset))
        offset = match.end()
    return [*lexemes, Lexeme("end", "", len(source))]


def _unexpected(rest: str) -> str:
    if rest[0] in "\"'":
        return "text is not closed"
    if rest[0].isascii() and rest[0].isdigit():
        return "not a number; write it like 3 or 0.5"
    hint = HINTS.get(rest[0])
    return f"unexpected {rest[0]!r}" + (f"; did you mean {hint}?" if hint else "")


def number(token: Lexeme) -> float:
    """Return the value of a number token: int or double."""
    if token.kind == "double":
        return float(token.text)
    return int(token.text, 16 if token.text.startswith("0x") else 10)
