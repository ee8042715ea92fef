"""A quick test of which texts of a batch may hold a pattern, by classes of their characters.

A regular expression costs microseconds a text even where it matches nothing, and most texts are plain. A few
numpy operations over a whole batch say which ones cannot match, so that the expressions run on the others
alone. Every answer errs towards "may": what it rules out is certain.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Flags: TypeAlias = npt.NDArray[np.bool_]
Kinds: TypeAlias = npt.NDArray[np.uint8]

LETTER, SEPARATOR, LEET, DIGIT, BASE64, HEX_OR_BLANK, BORDER = (np.uint8(1 << n) for n in range(7))
"""Classes: letters, separators and substitutes of letters, digits, alphabets of codes, borders."""

_MEMBERS: Final = {
    LETTER: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    SEPARATOR: " .*_-",
    LEET: "0134578@$!",
    DIGIT: "0123456789",
    BASE64: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/",
    HEX_OR_BLANK: "0123456789abcdefABCDEF ",
}
_KIND: Final = np.array(
    [
        sum(int(bit) for bit, members in _MEMBERS.items() if chr(code) in members)
        + int(BORDER) * (not chr(code).isalnum() and chr(code) != "_")
        for code in range(128)
    ],
    np.uint8,
)
_ASIDE: Final = np.array([chr(n).isdigit() or chr(n).isspace() for n in range(128)])
_FOLDED: Final = np.array([ord(chr(n).lower()) for n in range(128)], np.uint8)
_END: Final = "\0"  # before and after each text; of no class but BORDER


class AsciiTexts:
    """The ASCII texts of a batch, by classes of characters. A text that is not ASCII may hold anything."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._foreign = np.array([not text.isascii() for text in texts], np.bool_)
        self._places = np.flatnonzero(~self._foreign)
        ascii_texts = [texts[n] for n in self._places.tolist()]
        self._codes = np.frombuffer(_END.join(("", *ascii_texts, "")).encode("ascii"), np.uint8)
        self._kinds: Kinds = _KIND[self._codes]
        self._starts = np.cumsum([1, *(len(text) + 1 for text in ascii_texts)])

    def any(self, kind: np.uint8) -> Flags:
        """Return which texts may hold a character of a class."""
        return self._texts_at(np.flatnonzero(self._kinds & kind))

    def sequence(self, *kinds: np.uint8) -> Flags:
        """Return which texts may hold neighbours of these classes."""
        length = max(0, len(self._kinds) - len(kinds) + 1)
        matching = self._kinds[:length] & kinds[0]
        for n, kind in enumerate(kinds[1:], 1):
            # Each class is a bit of its own: both sides become 0 or 1 before they are combined.
            matching = np.minimum(matching, 1) & np.minimum(self._kinds[n : n + length] & kind, 1)
        return self._texts_at(np.flatnonzero(matching))

    def run(self, kind: np.uint8, length: int) -> Flags:
        """Return which texts may hold at least `length` characters of a class in a row."""
        others = np.flatnonzero((self._kinds & kind) == 0)  # the last is the end of the last text
        gaps = np.diff(others, prepend=-1)
        return self._texts_at(others[gaps > length] - 1)

    def thrice(self) -> Flags:
        """Return which texts may hold a character, in any case, thrice in a row; digits and blanks aside."""
        codes = _FOLDED[self._codes]
        at = np.flatnonzero((codes[:-2] == codes[1:-1]) & (codes[1:-1] == codes[2:]))
        return self._texts_at(at[~_ASIDE[codes[at]]])

    def _texts_at(self, at: npt.NDArray[np.intp]) -> Flags:
        """Return which texts hold one of these places, or are not ASCII."""
        possible = self._foreign.copy()
        if len(at):
            # A place before a text's beginning is where a pattern begins with the border.
            possible[self._places[np.searchsorted(self._starts, at + 1, "right") - 1]] = True
        return possible
