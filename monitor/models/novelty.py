"""What a response says that its sources do not hold, or deny: the measures that groundedness is judged by.

A sentence becomes 25 measures of what the sources do not hold (words, rare words, runs of two to four words,
numbers, names) or deny (negation, opposites); a whole response becomes the same measures of all its
sentences together.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.models.embedding import Embedding
from monitor.text import segments, wording
from monitor.text.numbers import Quantity, quantities, stated_months, stated_numbers
from monitor.text.segments import TextSpan, Token
from monitor.text.words import NEGATIONS, OPPOSITES, STOPWORDS, name_tokens, stem

FEATURES: tuple[tuple[str, int], ...] = (
    ("new_words", 1),  # share of content words found in no source and not in the question
    ("new_weight", 1),  # the same, weighted by rarity
    ("new_to_sources", 1),  # share of content words found in no source
    ("new_tokens", 1),  # share of all words, function words included, found in no source
    ("new_small", 1),  # share of function words found in no source
    ("new_token_pairs", 1),  # share of neighbouring words that are neighbours in no source
    ("new_triples", 1),  # the same of three words in a row
    ("new_quads", 1),  # and of four
    ("apart", 1),  # share of neighbouring content words that no source has within three content words
    ("regrouped", 0),  # share of such pairs whose words are both known
    ("copied", -1),  # words in the longest run that sources hold pair by pair, over all words
    ("new_rarest", 1),  # rarity of the rarest new word
    ("new_amount", 1),  # log of one plus the summed rarity of new words
    ("clauses", 1),  # chance that some clause is unsupported, were that its share of new weight
    ("new_numbers", 1),  # share of numbers that no source states
    ("any_new_number", 1),
    ("many_new_numbers", 1),  # log of one plus how many
    ("numbers", 0),  # log of one plus how many there are
    ("new_names", 1),  # share of parts of names in no source
    ("any_new_name", 1),
    ("negation", 1),  # negated here or in the best-matching source sentence, not both; times the match
    ("opposite", 1),  # opposites of words of the best-matching source sentences that these lack
    ("uncovered", 1),  # rarity-weighted share of words outside the best-matching source sentence
    ("length", 0),  # log of one plus the number of words
    ("source_length", 0),  # the same of all sources
)
"""Name and direction of each measure; 1 means more of it never lowers the probability."""

MAX_WINDOWS = 512  # longer sources are matched in windows of several sentences, which bounds the cost
_SENTENCES = 64  # matched at once
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
)  # words by which an answer speaks of its sources; no source needs to hold them
_NEAR = 2  # source sentences that count as near a claim
_REACH = 3  # content words within which two are together
_CLAUSE = re.compile(r"[,;:()\u2014]|\b(?:and|but|which|who|where|while|when|because|although)\b")
_DOUBT = 0.7  # how far a clause of nothing but new words is taken to be unsupported

Floats = npt.NDArray[np.float64]


class Case(NamedTuple):
    """A response to check, the texts it should rest on, and what was asked."""

    response: str
    sources: Sequence[str]
    question: str = ""


class Claim(NamedTuple):
    """A sentence of a response: its span, measures, and the words of it no source holds.

    A question is measured too, but states nothing: `states` is false and it is never evidence.
    """

    span: TextSpan
    states: bool
    features: Floats
    new_numbers: tuple[TextSpan, ...]
    new_names: tuple[TextSpan, ...]


class Read(NamedTuple):
    """A response read beside its sources: its checkable sentences, and the measures of them together.

    A courtesy is no part of either: what an answer says to be friendly is in no source.
    """

    claims: list[Claim]
    whole: Floats


def read(case: Case, embedding: Embedding) -> Read:
    """Return the checkable sentences of a response with their measures, and those of them together.

    Left out of the sentences: those without a content word, and refusals, courtesies and lead-ins
    that hold no number or name which the sources lack.
    """
    sources = _Sources(case)
    sentences = [s for s in _split(case.response) if s.tokens]
    checkable = [_checkable(case.response, sentence, sources) for sentence in sentences]
    if not any(checkable):
        return Read([], np.zeros(len(FEATURES)))
    sentences = list(itertools.compress(sentences, checkable))
    rarity = {
        stem: embedding.rarity(token.word)
        for sentence in sentences
        for token, stem in zip(sentence.tokens, sentence.stems, strict=True)
        if token.word not in STOPWORDS
    }
    counted = [_counted(case.response, sentence, sources, rarity) for sentence in sentences]
    counts = np.asarray([row for row, _, _ in counted], dtype=np.float64)
    for start in range(0, len(sentences), _SENTENCES):
        part = sentences[start : start + _SENTENCES]
        counts[start : start + len(part), _MATCHED] = _matched(part, sources, rarity)
    measures = _measures(np.vstack((counts, _together(counts))), sources.size)
    claims = [
        Claim(
            span=sentence.span,
            states=case.response[sentence.span.end - 1] != "?",
            features=row,
            new_numbers=numbers,
            new_names=names,
        )
        for sentence, row, (_, numbers, names) in zip(sentences, measures[:-1], counted, strict=True)
    ]
    return Read(claims, measures[-1])


class _Sentence(NamedTuple):
    """A sentence of the response with what it holds."""

    span: TextSpan
    tokens: Sequence[Token]
    stems: Sequence[str]  # one per token
    content: Sequence[str]  # the stems of its content words
    numbers: Sequence[Quantity]
    names: Sequence[Token]


class _Sources:
    """What the sources hold, indexed once for all sentences of a response."""

    def __init__(self, case: Case) -> None:
        self.windows: list[frozenset[str]] = []  # the words of each
        self.stems: list[frozenset[str]] = []
        self.runs: set[tuple[str, ...]] = set()  # two to four stems in a row
        self.near: set[tuple[str, str]] = set()  # content stems within reach of each other, in order
        self.known: set[str] = set()
        self.size = 0
        self._words: set[str] = set()
        self._texts = (*case.sources, case.question)
        for source in case.sources:
            self._add(source)
            self.known |= stated_months(source)
        question = segments.words(case.question)
        self._words.update(question)
        self.held = self.known | {stem(word) for word in question} | _ABOUT_SOURCES
        self._numbers: set[str] | None = None

    def states(self, number: str, written: str) -> bool:
        """Whether a source or the question states a number of this canonical value, written like this."""
        if written in self._words:
            return True
        if self._numbers is None:
            found = (stated_numbers(body, self._words) for body in self._texts)
            self._numbers = set().union(*found)
        return number in self._numbers

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


def _split(response: str) -> list[_Sentence]:
    tokens, numbers = segments.tokens(response), quantities(response)
    stems = [stem(token.word) for token in tokens]
    found: list[_Sentence] = []
    token, number = 0, 0
    for span in segments.sentences(response):
        first_token, first_number = token, number
        while token < len(tokens) and tokens[token].start < span.end:
            token += 1
        while number < len(numbers) and numbers[number].start < span.end:
            number += 1
        here = tokens[first_token:token]
        found.append(
            _Sentence(
                span,
                here,
                stems[first_token:token],
                [stems[i] for i in range(first_token, token) if tokens[i].word not in STOPWORDS],
                numbers[first_number:number],
                name_tokens(response, here),
            )
        )
    return found


def _checkable(response: str, sentence: _Sentence, sources: _Sources) -> bool:
    if not (sentence.content or sentence.numbers):
        return False
    words = response[sentence.span.start : sentence.span.end]
    declines = wording.declines(words) and not any(token.word == "but" for token in sentence.tokens)
    if not (declines or wording.is_courtesy(words) or words.endswith(":")):
        return True
    return any(_is_new(response, number, sources) for number in sentence.numbers) or any(
        stem(name.word) not in sources.held for name in sentence.names
    )


def _is_new(response: str, number: Quantity, sources: _Sources) -> bool:
    return not sources.states(number.value, response[number.start : number.end].lower())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


class _Counts(NamedTuple):
    """What is counted of a sentence, see `FEATURES`; the last three come from `_matched`."""

    words: float
    content: float
    small: float
    pairs: float
    triples: float
    quads: float
    content_pairs: float
    weight: float  # summed rarity of content words
    numbers: float
    names: float
    new: float
    new_to_sources: float
    new_tokens: float
    new_small: float
    new_pairs: float
    new_triples: float
    new_quads: float
    apart: float
    regrouped: float
    new_weight: float
    new_numbers: float
    new_names: float
    copied: float
    rarest: float
    doubt: float
    negation: float = 0.0
    opposite: float = 0.0
    uncovered: float = 0.0


_AT = {name: i for i, name in enumerate(_Counts._fields)}
_LARGEST = [_AT[name] for name in ("copied", "rarest", "negation", "opposite")]
"""Of a whole response the counts of its sentences are summed up, but of these the largest is taken."""
_MATCHED = [_AT[name] for name in ("negation", "opposite", "uncovered")]


def _counted(
    response: str, sentence: _Sentence, sources: _Sources, rarity: Mapping[str, float]
) -> tuple[_Counts, tuple[TextSpan, ...], tuple[TextSpan, ...]]:
    """Return the counts of a sentence but for the matched ones, its new numbers and its new names."""
    stems, content = sentence.stems, sentence.content
    known, held, runs = sources.known, sources.held, sources.runs
    pairs = [pair in runs for pair in itertools.pairwise(stems)]
    triples = list(zip(stems, stems[1:], stems[2:], strict=False))
    quads = list(zip(stems, stems[1:], stems[2:], stems[3:], strict=False))
    apart = [pair for pair in itertools.pairwise(content) if _apart(pair, sources.near)]
    new = [rarity[stem] for stem in content if stem not in held]
    new_tokens = sum(stem not in known for stem in stems)
    new_to_sources = sum(stem not in known for stem in content)
    numbers = [TextSpan(n.start, n.end) for n in sentence.numbers if _is_new(response, n, sources)]
    names = [TextSpan(n.start, n.end) for n in sentence.names if stem(n.word) not in held]
    counts = _Counts(
        words=len(stems),
        content=len(content),
        small=len(stems) - len(content),
        pairs=len(pairs),
        triples=len(triples),
        quads=len(quads),
        content_pairs=max(len(content) - 1, 0),
        weight=sum(rarity[stem] for stem in content),
        numbers=len(sentence.numbers),
        names=len(sentence.names),
        new=len(new),
        new_to_sources=new_to_sources,
        new_tokens=new_tokens,
        new_small=new_tokens - new_to_sources,
        new_pairs=len(pairs) - sum(pairs),
        new_triples=sum(triple not in runs for triple in triples),
        new_quads=sum(quad not in runs for quad in quads),
        apart=len(apart),
        regrouped=sum(a in held and b in held for a, b in apart),
        new_weight=sum(new),
        new_numbers=len(numbers),
        new_names=len(names),
        copied=_longest(pairs) + 1 if any(pairs) else float(new_tokens < len(stems)),
        rarest=max(new, default=0.0),
        doubt=_doubt(response, sentence, held, rarity) if new else 0.0,
    )
    return counts, tuple(numbers), tuple(names)


def _apart(pair: tuple[str, str], near: AbstractSet[tuple[str, str]]) -> bool:
    return pair not in near and (pair[1], pair[0]) not in near


def _longest(held: Iterable[bool]) -> int:
    longest = here = 0
    for one in held:
        here = here + 1 if one else 0
        longest = max(longest, here)
    return longest


def _doubt(response: str, sentence: _Sentence, held: AbstractSet[str], rarity: Mapping[str, float]) -> float:
    """Return minus the log of the chance that each clause is supported."""
    ends = [match.end() for match in _CLAUSE.finditer(response, sentence.span.start, sentence.span.end)]
    clause, new, total, doubt = 0, 0.0, 0.0, 0.0
    for token, root in zip(sentence.tokens, sentence.stems, strict=True):
        while clause < len(ends) and ends[clause] <= token.start:
            doubt -= math.log(1.0 - _DOUBT * _share(new, total))
            clause, new, total = clause + 1, 0.0, 0.0
        if token.word not in STOPWORDS:
            total += rarity[root]
            new += rarity[root] * (root not in held)
    return doubt - math.log(1.0 - _DOUBT * _share(new, total))


def _matched(sentences: Sequence[_Sentence], sources: _Sources, rarity: Mapping[str, float]) -> Floats:
    """Return, per sentence, negation, opposites, and the rarity outside the best-matching window."""
    columns = {stem: i for i, stem in enumerate(dict.fromkeys(stem for s in sentences for stem in s.content))}
    weights = np.zeros((len(sentences), len(columns)))
    for i, sentence in enumerate(sentences):
        for root in sentence.content:
            weights[i, columns[root]] = rarity[root]
    holds = np.zeros((len(columns), max(len(sources.windows), 1)))
    for j, stems in enumerate(sources.stems):
        holds[[columns[stem] for stem in stems & columns.keys()], j] = 1
    coverage = weights @ holds / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    best = np.argsort(-coverage, axis=1, kind="stable")[:, :_NEAR].tolist()
    found = np.zeros((len(sentences), len(_MATCHED)))
    for i, sentence in enumerate(sentences):
        match = float(coverage[i].max())
        near = [sources.windows[j] for j in best[i] if j < len(sources.windows)]
        words = {token.word for token in sentence.tokens}
        opposed = bool(near) and words.isdisjoint(NEGATIONS) != near[0].isdisjoint(NEGATIONS)
        lacks = frozenset().union(*near) - words
        opposite = sum(
            not OPPOSITES[word].isdisjoint(lacks)
            for word in words & OPPOSITES.keys()
            if not any(word in window for window in near)
        )
        found[i] = (match if opposed else 0.0, opposite, 1.0 - match)
    return found


def _together(counts: Floats) -> Floats:
    """Return the counts of all sentences together, shape (counts,)."""
    whole: Floats = counts.sum(axis=0)
    whole[_LARGEST] = counts[:, _LARGEST].max(axis=0)
    weights = counts[:, _AT["weight"]]
    whole[_AT["uncovered"]] = _share(float(weights @ counts[:, _AT["uncovered"]]), float(weights.sum()))
    return whole


def _measures(counts: Floats, source_length: int) -> Floats:
    """Return the measures of rows of counts, shape (rows, measures)."""
    of = dict(zip(_Counts._fields, counts.T, strict=True))

    def share(part: str, whole: str) -> Floats:
        found: Floats = of[part] / np.maximum(of[whole], 1e-9)
        return found

    columns = {
        "new_words": share("new", "content"),
        "new_weight": share("new_weight", "weight"),
        "new_to_sources": share("new_to_sources", "content"),
        "new_tokens": share("new_tokens", "words"),
        "new_small": share("new_small", "small"),
        "new_token_pairs": share("new_pairs", "pairs"),
        "new_triples": share("new_triples", "triples"),
        "new_quads": share("new_quads", "quads"),
        "apart": share("apart", "content_pairs"),
        "regrouped": share("regrouped", "content_pairs"),
        "copied": share("copied", "words"),
        "new_rarest": of["rarest"],
        "new_amount": np.log1p(of["new_weight"]),
        "clauses": 1.0 - np.exp(-of["doubt"]),
        "new_numbers": share("new_numbers", "numbers"),
        "any_new_number": of["new_numbers"] > 0,
        "many_new_numbers": np.log1p(of["new_numbers"]),
        "numbers": np.log1p(of["numbers"]),
        "new_names": share("new_names", "names"),
        "any_new_name": of["new_names"] > 0,
        "negation": of["negation"],
        "opposite": of["opposite"],
        "uncovered": of["uncovered"],
        "length": np.log1p(of["words"]),
        "source_length": np.full(len(counts), math.log1p(source_length)),
    }
    out: Floats = np.stack([columns[name] for name, _ in FEATURES], axis=1).astype(np.float64)
    return out
