"""The English pattern recognizers of Presidio, without loading Presidio.

The regular expressions, scores and context words are Presidio's own (`presidio.json`, MIT); they run in the
`regex` module as there, on the digest of a text (`NumericView`) instead of the text, and the weak ones only
where one of their context words occurs. They report every span that Presidio's AnalyzerEngine reports at the
same threshold, with its type, offsets and score; a test compares the two. Support by context words reaches a
little further here.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

from monitor.detect.pii import checks, presidio_checks
from monitor.detect.pii.context import context_words, is_supported
from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.spans import EntitySpan

_SUPPORT, _LEAST_SUPPORTED = 0.35, 0.4  # of LemmaContextAwareEnhancer
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}")
_IBAN_REACH = 64  # longer than an IBAN with a separator after every fourth character
_VALIDATED: Mapping[str, Callable[[str], bool]] = {  # passing proves the value
    "CREDIT_CARD": checks.luhn,
    "UK_NHS": presidio_checks.nhs,
    "CRYPTO": presidio_checks.bitcoin,
    "EMAIL_ADDRESS": presidio_checks.email,
    "MEDICAL_LICENSE": presidio_checks.dea,
}
_NOT_INVALID: Mapping[str, Callable[[str], bool]] = {  # passing proves nothing
    "US_SSN": presidio_checks.ssn,
    "IP_ADDRESS": presidio_checks.ip,
    "MAC_ADDRESS": presidio_checks.mac,
    "UUID": presidio_checks.uuid,
}
# What every match contains: a character, and how many digits on its line.
_MARKS: Mapping[str, str] = {"EMAIL_ADDRESS": "@", "URL": ".", "UUID": "-"}
_DIGITS: Mapping[str, int] = {
    "CREDIT_CARD": 12,
    "UK_NHS": 10,
    "MEDICAL_LICENSE": 7,
    "US_ITIN": 9,
    "US_SSN": 9,
}


class _Pattern(NamedTuple):
    kind: str
    finditer: Callable[..., Iterator[Any]]
    score: float
    context: tuple[str, ...]
    mark: str
    digits: int
    validate: Callable[[str], bool] | None
    invalidate: Callable[[str], bool] | None


def data() -> dict[str, Any]:
    """Return the content of `presidio.json`."""
    loaded: dict[str, Any] = json.loads(
        resources.files("monitor.detect.pii").joinpath("presidio.json").read_text("utf-8")
    )
    return loaded


def patterns() -> Iterator[tuple[str, str]]:
    """Yield each pattern with the kind that it finds."""
    for recognizer in data()["recognizers"]:
        for _, pattern in recognizer["patterns"]:
            yield recognizer["kind"], pattern


class Patterns:
    """Presidio's patterns at one threshold; each may take `seconds` per text.

    `find` raises TimeoutError when a pattern takes longer.
    """

    def __init__(self, threshold: float, seconds: float) -> None:
        import regex  # type: ignore[import-untyped] # its stubs are not among our tools

        content = data()
        self.version: str = content["version"]
        self._threshold = threshold
        self._seconds = seconds
        self._strong: list[_Pattern] = []
        self._weak: dict[tuple[str, ...], list[_Pattern]] = {}
        for recognizer in content["recognizers"]:
            kind, flags = recognizer["kind"], recognizer["flags"]
            words = context_words(recognizer["context"])
            for score, pattern in recognizer["patterns"]:
                if kind == "IBAN_CODE":
                    self._iban = regex.compile(pattern, flags).finditer
                    self._iban_score, self._iban_context = score, words
                    continue
                compiled = _Pattern(
                    kind,
                    regex.compile(pattern, flags).finditer,
                    score,
                    words,
                    _mark(kind, pattern),
                    _DIGITS.get(kind, 0),
                    _VALIDATED.get(kind),
                    _NOT_INVALID.get(kind),
                )
                weak = score < threshold and kind not in _VALIDATED
                if weak:
                    self._weak.setdefault(words, []).append(compiled)
                else:
                    self._strong.append(compiled)
        self._words = {word for words in self._weak for word in words}
        self._iban_formats = {code: regex.compile(p, 24) for code, p in content["iban"].items()}

    def find(self, view: NumericView) -> Iterator[EntitySpan]:
        """Yield what the patterns find, spans inside others included, in no order."""
        digest = view.digest
        if not digest:
            return
        for pattern in self._strong:
            if pattern.mark in digest and pattern.digits <= view.most_digits:
                yield from self._matches(view, digest, pattern)
        lower = view.lower
        present = {word for word in self._words if word in lower}
        for words, patterns in self._weak.items():
            if not present.isdisjoint(words):
                for pattern in patterns:
                    yield from self._matches(view, digest, pattern)
        yield from self._ibans(view)

    def _matches(self, view: NumericView, digest: str, pattern: _Pattern) -> Iterator[EntitySpan]:
        for match in pattern.finditer(digest, timeout=self._seconds):
            start, end = match.span()
            score = pattern.score
            if start == end:
                continue
            if pattern.validate is not None:
                if not pattern.validate(match.group()):
                    continue
                score = 1.0
            elif pattern.invalidate is not None and not pattern.invalidate(match.group()):
                continue
            place = view.place(start)
            score = supported(view.text, place, score, pattern.context)
            if score >= self._threshold:
                yield EntitySpan(place, place + end - start, pattern.kind, score)

    def _ibans(self, view: NumericView) -> Iterator[EntitySpan]:
        for begin, end in _iban_windows(view):
            for match in self._iban(view.text[begin:end], timeout=self._seconds):
                # The last groups may be words after the number: try without them, as Presidio does.
                for last in range(match.re.groups, 0, -1):
                    start, stop = begin + match.start(), begin + match.end(last)
                    score = self._iban_validity(view.text[start:stop])
                    if score:
                        score = supported(view.text, start, score, self._iban_context)
                        if score >= self._threshold:
                            yield EntitySpan(start, stop, "IBAN_CODE", score)
                        break

    def _iban_validity(self, value: str) -> float:
        value = value.replace("-", "").replace(" ", "")
        if not presidio_checks.iban(value):
            return 0.0
        if self._has_iban_format(value):
            return 1.0
        return self._iban_score if self._has_iban_format(value.upper()) else 0.0

    def _has_iban_format(self, value: str) -> bool:
        wanted = self._iban_formats.get(value[:2])
        return wanted is not None and wanted.match(value, timeout=self._seconds) is not None


def _iban_windows(view: NumericView) -> Iterator[tuple[int, int]]:
    """Yield the parts of the text around what can begin an IBAN, with the character before; disjoint."""
    begin = end = -1
    for match in _IBAN_START.finditer(view.digest):
        at = view.place(match.start())
        if at > end:
            if end >= 0:
                yield begin, end
            begin = max(0, at - 1)
        end = at + _IBAN_REACH
    if end >= 0:
        yield begin, end


def _mark(kind: str, pattern: str) -> str:
    """Return what every match contains, empty when nothing is known."""
    if kind == "DATE_TIME":
        return "/" if "/" in pattern else "." if r"\.(" in pattern else "-"
    if kind == "IP_ADDRESS":
        return ":" if "A-Fa-f" in pattern or "::" in pattern else "."
    return _MARKS.get(kind, "")


def supported(text: str, start: int, score: float, words: tuple[str, ...]) -> float:
    """Return the score of a finding after Presidio's context enhancement."""
    if words and score < 1.0 and is_supported(text, start, words):
        return min(1.0, max(score + _SUPPORT, _LEAST_SUPPORTED))
    return score
