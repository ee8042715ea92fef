"""All patterns over one text: the entities they find, and which of several in one place counts."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from monitor.detect.pii import addresses, custom, disguise, phones, presidio, wording
from monitor.detect.pii.context import context_words
from monitor.detect.pii.identifiers import Identifiers
from monitor.detect.pii.numeric_view import NumericView
from monitor.detect.pii.phones import Phones
from monitor.detect.pii.presidio import Patterns, supported
from monitor.detect.pii.secrets import Secrets
from monitor.detect.pii.spans import EntitySpan, Index, Kinds, without_contained

WINDOW = 16_384
MARGIN = 4_096  # longer than an RSA-4096 key in PEM; a span that is longer still is cut at the window's end

Reason = Literal["", "regex_timeout", "recognizer_failed"]


class ScanResult(NamedTuple):
    """The entities of one text; `reason` says why the text was not analysed to the end."""

    spans: tuple[EntitySpan, ...]
    reason: Reason = ""


class Scanner:
    """Every pattern at one threshold; each may take `seconds` per text and pattern.

    `recognizers` are the user's, from `custom.read`; raises ConfigError naming one that cannot be used.
    """

    def __init__(self, threshold: float, seconds: float, recognizers: Sequence[custom.File] = ()) -> None:
        phone = presidio.data()["phone"]
        self._threshold = threshold
        self._patterns = Patterns(threshold, seconds)
        self._phones = Phones(phone["regions"])
        self._phone_score: float = phone["score"]
        self._phone_context = context_words(phone["context"])
        self._secrets = Secrets(seconds)
        self._identifiers = Identifiers(threshold)
        self._custom = custom.Custom(recognizers, threshold, seconds)
        self.version = f"presidio-{self._patterns.version}{custom.version(recognizers)}"

    def find(self, text: str) -> ScanResult:
        """Return the entities of one text of any length, in order of position."""
        spans: list[EntitySpan] = []
        for start, end, core_start, core_end in _windows(len(text)):
            try:
                entities = self._window(text[start:end])
            except TimeoutError:
                return ScanResult(tuple(sorted(spans)), "regex_timeout")
            except custom.RecognizerError:
                return ScanResult(tuple(sorted(spans)), "recognizer_failed")
            spans.extend(
                EntitySpan(start + s.start, start + s.end, s.kind, s.score)
                for s in entities
                if core_start <= start + s.start < core_end
            )
        return ScanResult(tuple(sorted(spans)))

    def _window(self, text: str) -> list[EntitySpan]:
        entities = self._plainly(text)
        plain = disguise.plain(text)
        if plain is not None:
            found = Kinds(entities)
            hidden = (plain.back(span) for span in self._plainly(plain.text))
            entities.extend(span for span in hidden if found.add_if_new(span))
        return entities

    def _plainly(self, text: str) -> list[EntitySpan]:
        view = NumericView(text)
        primary = list(self._patterns.find(view))
        primary.extend(self._phone_numbers(view))
        primary.extend(self._custom.find(view))
        found = Kinds(primary)
        additional = (s for s in self._own(view) if s.score >= self._threshold)
        entities = without_contained([*primary, *(s for s in additional if not found.repeat(s))])
        taken = Index(entities)
        calls = [s for s in phones.written(view) if not taken.overlaps(s)]
        return [*entities, *without_contained(calls)]

    def _own(self, view: NumericView) -> Iterator[EntitySpan]:
        yield from self._secrets.find(view)
        yield from self._identifiers.find(view)
        yield from addresses.find(view)
        yield from wording.find(view)
        yield from disguise.spelled(view.text, view.lower)

    def _phone_numbers(self, view: NumericView) -> Iterator[EntitySpan]:
        for start, end in set(self._phones.find(view.text)) if view.digest else ():
            score = supported(view.text, start, self._phone_score, self._phone_context)
            if score >= self._threshold:
                yield EntitySpan(start, end, "PHONE_NUMBER", score)


def _windows(length: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, end, core start, core end); cores tile the text, windows add a margin on both sides."""
    if length <= WINDOW + 2 * MARGIN:
        yield 0, length, 0, length + 1
        return
    for core in range(0, length, WINDOW):
        yield max(0, core - MARGIN), min(length, core + WINDOW + MARGIN), core, core + WINDOW
