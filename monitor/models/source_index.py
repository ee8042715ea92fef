"""The sentences of a response, and an index of the sources that they are checked against."""

from collections.abc import Sequence
from typing import NamedTuple

from monitor.text import segments, wording
from monitor.text.numbers import Quantity, quantities, stated_months, stated_numbers
from monitor.text.segments import TextSpan
from monitor.text.words import STOPWORDS, name_tokens, stem

MAX_WINDOWS = 512  # longer sources are matched in windows of several sentences, which bounds the cost
# Words with which an answer refers to its sources; the sources need not hold them.
_ABOUT_SOURCES = frozenset(
    stem(word)
    for word in (
        "according",
        "answer",
        "article",
        "based",
        "below",
        "context",
        "document",
        "documentation",
        "following",
        "information",
        "mention",
        "note",
        "passage",
        "provided",
        "question",
        "source",
        "state",
        "summary",
        "text",
    )
)
_REACH = 3  # content words within which two are together


class ResponseSentence(NamedTuple):
    """A sentence of the response with its words, numbers and names."""

    span: TextSpan
    tokens: Sequence[segments.Token]
    stems: Sequence[str]  # one per token
    content: Sequence[str]  # the stems of its content words
    numbers: Sequence[Quantity]
    names: Sequence[segments.Token]


class SourceIndex:
    """Words, runs of words and numbers of the sources, indexed once for all sentences of a response."""

    def __init__(self, sources: Sequence[str], question: str) -> None:
        self.windows: list[frozenset[str]] = []  # the words of each
        self.stems: list[frozenset[str]] = []
        self.runs: set[tuple[str, ...]] = set()  # two to four stems in a row
        self.near: set[tuple[str, str]] = set()  # content stems within reach of each other, in order
        self.known: set[str] = set()
        self.size = 0
        self._words: set[str] = set()
        self._texts = (*sources, question)
        for source in sources:
            self._add(source)
            self.known |= stated_months(source)
        asked = segments.words(question)
        self._words.update(asked)
        self.held = self.known | {stem(word) for word in asked} | _ABOUT_SOURCES
        self._numbers: set[str] | None = None

    def lacks(self, number: Quantity, response: str) -> bool:
        """Return whether a number of the response is in no source and not in the question."""
        if response[number.start : number.end].lower() in self._words:
            return False
        if self._numbers is None:
            stated = (stated_numbers(body, self._words) for body in self._texts)
            self._numbers = set().union(*stated)
        return number.value not in self._numbers

    def _add(self, source: str) -> None:
        spans = segments.sentences(source)
        step = -(-len(spans) // MAX_WINDOWS)
        every: list[str] = []
        content: list[str] = []
        for i in range(0, len(spans), step or 1):
            end = spans[min(i + step, len(spans)) - 1].end
            words = segments.words(source[spans[i].start : end])
            if not words:
                continue
            stems = [stem(word) for word in words]
            every += stems
            content += [s for s, word in zip(stems, words, strict=True) if word not in STOPWORDS]
            self.windows.append(frozenset(words))
            self.stems.append(frozenset(stems))
            self._words.update(words)
        self.size += len(every)
        self.known.update(every)
        for length in (2, 3, 4):
            self.runs.update(_runs(every, length))
        for by in range(1, _REACH + 1):
            self.near.update(zip(content, content[by:], strict=False))


def _runs(stems: Sequence[str], length: int) -> "zip[tuple[str, ...]]":
    return zip(*(stems[i:] for i in range(length)), strict=False)


def split_sentences(response: str) -> list[ResponseSentence]:
    """Cut a response into sentences and analyse each."""
    tokens, numbers = segments.tokens(response), quantities(response)
    stems = [stem(token.word) for token in tokens]
    sentences: list[ResponseSentence] = []
    token, number = 0, 0
    for span in segments.sentences(response):
        first_token, first_number = token, number
        while token < len(tokens) and tokens[token].start < span.end:
            token += 1
        while number < len(numbers) and numbers[number].start < span.end:
            number += 1
        own_tokens = tokens[first_token:token]
        sentences.append(
            ResponseSentence(
                span,
                own_tokens,
                stems[first_token:token],
                [stems[i] for i in range(first_token, token) if tokens[i].word not in STOPWORDS],
                numbers[first_number:number],
                name_tokens(response, own_tokens),
            )
        )
    return sentences


def is_checkable(response: str, sentence: ResponseSentence, sources: SourceIndex) -> bool:
    """Return whether a sentence states something that the sources could support.

    Sentences without a content word do not, nor do refusals, courtesies and lead-ins that hold no number or
    name which the sources lack.
    """
    if not (sentence.content or sentence.numbers):
        return False
    words = response[sentence.span.start : sentence.span.end]
    declines = wording.declines(words) and not any(token.word == "but" for token in sentence.tokens)
    if not (declines or wording.is_courtesy(words) or words.endswith(":")):
        return True
    return any(sources.lacks(number, response) for number in sentence.numbers) or any(
        stem(name.word) not in sources.held for name in sentence.names
    )
