"""Features of a response that its sources do not hold, or deny: groundedness is judged by them.

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
from monitor.models.source_index import ResponseSentence, SourceIndex, is_checkable, split_sentences
from monitor.text.segments import TextSpan
from monitor.text.words import NEGATIONS, OPPOSITES, STOPWORDS, stem

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

_SENTENCES = 64  # matched at once
_NEAR = 2  # source sentences that count as near a claim
_CLAUSE = re.compile(r"[,;:()\u2014]|\b(?:and|but|which|who|where|while|when|because|although)\b")
_DOUBT = 0.7  # how far a clause of nothing but new words is taken to be unsupported

Floats = npt.NDArray[np.float64]


class Case(NamedTuple):
    """A response to check, the texts it should rest on, and what was asked."""

    response: str
    sources: Sequence[str]
    question: str = ""


class ResponseClaim(NamedTuple):
    """A sentence of a response: its span, its measures, and those of its words that no source holds.

    A question is measured too, but states nothing: `states` is false and it is never evidence.
    """

    span: TextSpan
    states: bool
    features: Floats
    new_numbers: tuple[TextSpan, ...]
    new_names: tuple[TextSpan, ...]


class ResponseFeatures(NamedTuple):
    """The checkable sentences of a response, and the measures of them together.

    Both leave courtesies out: no source holds what an answer says to be friendly.
    """

    claims: list[ResponseClaim]
    whole: Floats


def measure(case: Case, embedding: Embedding) -> ResponseFeatures:
    """Measure each checkable sentence of a response, and all of them together."""
    sources = SourceIndex(case.sources, case.question)
    sentences = [s for s in split_sentences(case.response) if s.tokens]
    checkable = [is_checkable(case.response, sentence, sources) for sentence in sentences]
    if not any(checkable):
        return ResponseFeatures([], np.zeros(len(FEATURES)))
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
        ResponseClaim(
            span=sentence.span,
            states=case.response[sentence.span.end - 1] != "?",
            features=row,
            new_numbers=numbers,
            new_names=names,
        )
        for sentence, row, (_, numbers, names) in zip(sentences, measures[:-1], counted, strict=True)
    ]
    return ResponseFeatures(claims, measures[-1])


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


class _Counts(NamedTuple):
    """Counts of a sentence, from which `FEATURES` follow; the last three come from `_matched`."""

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
"""Counts of which a whole response takes its sentences' largest; it sums all others."""
_MATCHED = [_AT[name] for name in ("negation", "opposite", "uncovered")]


def _counted(
    response: str, sentence: ResponseSentence, sources: SourceIndex, rarity: Mapping[str, float]
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
    numbers = [TextSpan(n.start, n.end) for n in sentence.numbers if sources.lacks(n, response)]
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
    longest = run = 0
    for is_held in held:
        run = run + 1 if is_held else 0
        longest = max(longest, run)
    return longest


def _doubt(
    response: str, sentence: ResponseSentence, held: AbstractSet[str], rarity: Mapping[str, float]
) -> float:
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


def _matched(
    sentences: Sequence[ResponseSentence], sources: SourceIndex, rarity: Mapping[str, float]
) -> Floats:
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
    matched = np.zeros((len(sentences), len(_MATCHED)))
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
        matched[i] = (match if opposed else 0.0, opposite, 1.0 - match)
    return matched


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
        ratio: Floats = of[part] / np.maximum(of[whole], 1e-9)
        return ratio

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
