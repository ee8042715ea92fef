"""An index of the texts a model was given: a value of the response that comes from there is not a leak."""

import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")
_PHONE_DIGITS = 9


class PromptIndex:
    """The texts that the model was given, searchable for a value of the response.

    Values are compared casefolded and without separators, from the start of a word to the end of one, so that
    "ann" is not found inside "planning". Phone numbers are compared by their last nine digits, because a
    response may add or leave out the country code.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self._index: tuple[str, frozenset[int], frozenset[int]] | None = None

    def has(self, value: str, kind: str) -> bool:
        """Return whether the texts hold the value."""
        text, starts, ends = self._indexed()
        wanted = "".join(_WORD.findall(_fold(value)))
        partial = kind == "PHONE_NUMBER" and len(wanted) > _PHONE_DIGITS
        if partial:
            wanted = wanted[-_PHONE_DIGITS:]
        at = text.find(wanted) if wanted else -1
        while at >= 0:
            if at + len(wanted) in ends and (partial or at in starts):
                return True
            at = text.find(wanted, at + 1)
        return False

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


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
