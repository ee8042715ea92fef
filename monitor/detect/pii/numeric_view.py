"""The parts of a text that can hold an identifier, found in one pass over it."""

import re
from bisect import bisect_right
from functools import cached_property

_TRIGGER = re.compile(r"[\d@.:-](?:(?<=[\d@])|(?<=\.)(?=\w\w)|(?<=:)(?=[0-9A-Fa-f:])|(?<=-)(?=[A-Fa-f]{2}-))")
_NUMBER = re.compile(r"(?<![\w.,$\u20ac\u00a3#/:-])\d+")
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"[^\W_]+")
_GAP = 3


class NumericView:
    """One text and its digest: the words that hold a digit, an at sign, or a dot, colon or hyphen inside.

    `digest` is those words, line by line; a line is also broken by more than three characters between two of
    them. A pattern that needs such a character and crosses no line break finds in the digest what it finds
    in the text, because every line has a blank on both sides. `place` leads back.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        blank = text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
        starts: list[int] = []
        ends: list[int] = []
        end = 0
        search = _TRIGGER.search
        while match := search(blank, end):
            at = match.start()
            start = blank.rfind(" ", end, at) + 1 or end
            end = blank.find(" ", at)
            if end < 0:
                end = len(blank)
            if ends and start - ends[-1] <= _GAP:
                ends[-1] = end
            else:
                starts.append(start)
                ends.append(end)
        self._starts = starts
        parts = [text[start:end] for start, end in zip(starts, ends, strict=True)]
        self.digest = "\n".join(parts)
        self._lines: list[int] = []
        at = 0
        for part in parts:
            self._lines.append(at)
            at += len(part) + 1

    def place(self, at: int) -> int:
        """Return the offset in the text of an offset in the digest."""
        line = bisect_right(self._lines, at) - 1
        return self._starts[line] + at - self._lines[line]

    @cached_property
    def numbers(self) -> list[tuple[int, int]]:
        """Start and end in the text of every run of digits that begins outside a word or another number."""
        return [
            (start := self.place(match.start()), start + len(match.group()))
            for match in _NUMBER.finditer(self.digest)
        ]

    @cached_property
    def most_digits(self) -> int:
        """Return the largest number of digits on one line of the digest."""
        return max((len(_DIGIT.findall(line)) for line in self.digest.split("\n")), default=0)

    @cached_property
    def words(self) -> frozenset[str]:
        """Return the words of the text, in lower case."""
        return frozenset(_WORD.findall(self.lower))

    @cached_property
    def lower(self) -> str:
        """Return the text in lower case. Its offsets are not the text's: some letters become two."""
        return self.text.lower()
