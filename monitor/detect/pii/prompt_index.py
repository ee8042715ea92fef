"""An index of the texts a model was given: a value of the response that comes from there is not a leak."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")
_PHONE_DIGITS = 9
_FEW = 16


class PromptIndex:
    """The texts that the model was given, searchable for values of the response.

    Values are compared casefolded and without separators, from the start of a word to the end of one, so that
    "ann" is not found inside "planning". Phone numbers are compared by their last nine digits, because a
    response may add or leave out the country code.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self._index: tuple[str, frozenset[int], frozenset[int]] | None = None

    def has(self, value: str, kind: str) -> bool:
        """Return whether the texts hold the value."""
        return bool(self.held([(value, kind)]))

    def held(self, values: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Return those of the (value, kind) pairs whose value the texts hold."""
        sought = {pair: _sought(*pair) for pair in values}
        whole = {wanted for wanted, partial in sought.values() if wanted and not partial}
        ends = {wanted for wanted, partial in sought.values() if partial}
        if not whole and not ends:
            return frozenset()
        found = self._whole(whole)
        text, _, word_ends = self._indexed()
        tails = (
            ends.intersection(text[end - _PHONE_DIGITS : end] for end in word_ends if end >= _PHONE_DIGITS)
            if ends
            else ends
        )
        return frozenset(
            pair for pair, (wanted, partial) in sought.items() if wanted in (tails if partial else found)
        )

    def _whole(self, values: set[str]) -> set[str]:
        """Return those of the values that begin and end where words do.

        A few are searched for one by one. Many would take as many passes over the texts, and more where they
        occur within words, so they are compared with all words, length by length.
        """
        text, starts, ends = self._indexed()
        if len(values) <= _FEW:
            return {value for value in values if _is_held(value, text, starts, ends)}
        by_length: defaultdict[int, set[str]] = defaultdict(set)
        for value in values:
            by_length[len(value)].add(value)
        found: set[str] = set()
        for length, wanted in by_length.items():
            found |= wanted.intersection(
                text[start : start + length] for start in starts if start + length in ends
            )
        return found

    def _indexed(self) -> tuple[str, frozenset[int], frozenset[int]]:
        if self._index is None:
            words = [word for text in self._texts for word in _WORD.findall(_fold(text))]
            ends: list[int] = []
            at = 0
            for word in words:
                at += len(word)
                ends.append(at)
            self._index = "".join(words), frozenset([0, *ends]), frozenset(ends)
        return self._index


def _sought(value: str, kind: str) -> tuple[str, bool]:
    """Return what to look for, and whether it may begin within a word."""
    wanted = "".join(_WORD.findall(_fold(value)))
    partial = kind == "PHONE_NUMBER" and len(wanted) > _PHONE_DIGITS
    return (wanted[-_PHONE_DIGITS:] if partial else wanted), partial


def _is_held(value: str, text: str, starts: frozenset[int], ends: frozenset[int]) -> bool:
    at = text.find(value)
    while at >= 0:
        if at in starts and at + len(value) in ends:
            return True
        at = text.find(value, at + 1)
    return False


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
