"""Spellings that hide an identifier: full-width and other digits, invisible characters, "at" and "dot" in words.

A text with such signs is written plainly, with a way back to its own offsets, and searched once more.
"""

# ruff: noqa: E501 - a regular expression or a row of a table reads best on one line

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from monitor.detect.pii.context import STOP_WORDS
from monitor.detect.pii.spans import EntitySpan
from monitor.privacy.redact import INVISIBLE

_DASHES = "\u2010-\u2015\u2212\ufe58\ufe63\uff0d"
_SIGN = re.compile(
    rf"[{INVISIBLE}{_DASHES}\u00a0\u2007\u202f\u3000\uff01-\uff5e]|(?=[^\x00-\x7f])\d|[\U0001d7ce-\U0001d7ff]"
)
_HIDDEN = re.compile(f"[{INVISIBLE}]")
_DASH = re.compile(f"[{_DASHES}]")
_AT = r"[ \t]{0,2}(?:[\[({<][ \t]?(?:at|@|arroba)[ \t]?[\])}>]|(?<=[ \t])at(?=[ \t]))[ \t]{0,2}"
_DOT = r"[ \t]{0,2}(?:[\[({<][ \t]?(?:dot|\.|punkt|point)[ \t]?[\])}>]|(?<=[ \t])dot(?=[ \t]))[ \t]{0,2}"
_SPELLED = re.compile(
    rf"(?i)\b[a-z0-9_%+-]{{1,40}}(?:(?:\.|{_DOT})[a-z0-9_%+-]{{1,40}}){{0,3}}(?:@|{_AT})"
    rf"(?P<host>[a-z0-9-]{{2,40}})(?:(?:\.|{_DOT})[a-z0-9-]{{2,20}}){{1,3}}\b"
)
_SPELLED_MARKS = (" dot ", "[dot]", "(dot)", "{dot}", "<dot>", " at ]", "[at]", "(at)", "{at}", "<at>", "[@]", "(@)", "[.]", "(.)")  # fmt: skip
_DIGIT_WORDS = {
    word: str(n)
    for n, words in enumerate(
        ["zero|oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    for word in words.split("|")
}
_SPOKEN = re.compile(
    rf"(?i)\b(?:{'|'.join(_DIGIT_WORDS)})(?:[ ,.-]{{1,2}}(?:{'|'.join(_DIGIT_WORDS)}|double|triple)){{6,19}}\b"
)


class Plain(NamedTuple):
    """A text without disguise; its character `i` begins at `places[i]` of the original."""

    text: str
    places: list[int]

    def back(self, span: EntitySpan) -> EntitySpan:
        """Return a finding with the offsets of the original."""
        return span._replace(start=self.places[span.start], end=self.places[span.end - 1] + 1)


def plain(text: str) -> Plain | None:
    """Return a text with its disguised characters replaced, None when it has none."""
    if text.isascii() or not _SIGN.search(text):
        return None
    out: list[str] = []
    places: list[int] = []
    for place, c in enumerate(text):
        if c.isascii():
            written = c
        elif _HIDDEN.match(c):
            continue
        elif _DASH.match(c):
            written = "-"
        elif c.isdecimal():
            written = str(unicodedata.decimal(c))
        else:
            written = unicodedata.normalize("NFKC", c)
            written = written if len(written) == 1 else c
        out.append(written)
        places.append(place)
    return Plain("".join(out), places)


def spelled(text: str, lower: str) -> Iterator[EntitySpan]:
    """Yield e-mail addresses whose signs are written as words or put in brackets."""
    if any(mark in lower for mark in _SPELLED_MARKS):
        for match in _SPELLED.finditer(text):
            usual = re.search(r"@\S{1,80}$", match.group())
            if usual is None and match.group("host").lower() not in STOP_WORDS:
                yield EntitySpan(*match.span(), "EMAIL_ADDRESS", 0.8)
    if "four" in lower or "five" in lower or "seven" in lower:
        for match in _SPOKEN.finditer(text):
            yield EntitySpan(*match.span(), "PHONE_NUMBER", 0.5)
