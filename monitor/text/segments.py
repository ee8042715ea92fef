"""Segments of a text: its sentences, and its words and numbers as tokens."""

import re
from typing import NamedTuple

import msgspec


class TextSpan(msgspec.Struct, frozen=True, gc=False):
    """A half-open range of characters [start, end)."""

    start: int
    end: int


class Token(NamedTuple):
    """A word or number of a text: its span and its lower-case form."""

    start: int
    end: int
    word: str


def word_set(listed: str) -> frozenset[str]:
    """Return the words of a list that is separated by blanks."""
    return frozenset(listed.split())


# Possessive quantifiers, and runs entered only at their beginning, keep this linear.
_BREAK = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019)\]*_]*+\s++|[\u3002\uff01\uff1f]++|\n\s*+"
)
_ABBREVIATIONS = word_set(
    "mr mrs ms dr prof sr jr st vs etc inc ltd co corp dept approx est gen col sgt rev hon gov sen rep e.g"
    " i.e a.m p.m u.s u.k ph.d jan feb mar apr jun jul aug sep sept oct nov dec al cf"
)
_BEFORE_NUMBERS = word_set("no nos fig figs vol p pp ch sec art")
_LAST_WORD = re.compile(r"[^\W_](?:[\w.]{0,14}\w)?\Z")


def sentences(text: str) -> list[TextSpan]:
    """Return the sentences of a text, trimmed of white space, in order; a line break always ends one.

    A full stop ends no sentence after a known abbreviation or a single initial, or before a lower-case
    letter. Every character that is not white space belongs to exactly one sentence.
    """
    spans: list[TextSpan] = []
    start = 0
    for match in _BREAK.finditer(text):
        if _ends_sentence(text, start, match):
            _append_trimmed(spans, text, start, match.end())
            start = match.end()
    _append_trimmed(spans, text, start, len(text))
    return spans


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    mark = match.group()
    following = text[match.end() : match.end() + 1]
    if mark[0] in "!?\u3002\uff01\uff1f" or "\n" in mark:
        return True
    if following.islower():
        return False
    word = _LAST_WORD.search(text, max(start, match.start() - 16), match.start())
    if word is None or mark[0] == "…" or mark.startswith(".."):
        return True
    last = word.group()
    is_initial = len(last) == 1 and last.isupper() and last != "I"
    is_list_marker = last.isdigit() and not text[start : word.start()].strip(" *#-(")
    introduces_number = last.lower() in _BEFORE_NUMBERS and following.isdigit()
    return not (is_initial or is_list_marker or introduces_number or last.lower() in _ABBREVIATIONS)


def _append_trimmed(spans: list[TextSpan], text: str, start: int, end: int) -> None:
    part = text[start:end]
    left = len(part) - len(part.lstrip())
    if left < len(part):
        spans.append(TextSpan(start + left, start + len(part.rstrip())))


_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+(?:[.,:]\d+)*")


def tokens(text: str) -> list[Token]:
    """Return words (letters, with an inner apostrophe) and numbers (digits, with inner separators)."""
    return [Token(m.start(), m.end(), m.group().lower().replace("\u2019", "'")) for m in _WORD.finditer(text)]


def words(text: str) -> list[str]:
    """Return the lower-case forms of `tokens`, several times as fast."""
    return [word.lower() for word in _WORD.findall(text.replace("\u2019", "'"))]
