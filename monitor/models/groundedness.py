"""Groundedness: whether each sentence of a response is supported by the texts it was made from.

A sentence becomes 27 measures of what the sources do not hold (words, rare words, word pairs, numbers, names,
negation, opposites, meaning by static embedding) or do not hold together. Boosted trees, monotone in every
measure of novelty, turn them into a probability. `cards/hallucination.md` says from which data, and how well
it ranks.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from monitor import models, text
from monitor.findings import Span
from monitor.models.embedding import Embedding, Vectors, normalised

TREES = "groundedness.npz"
FEATURES: tuple[tuple[str, int], ...] = (
    ("new_words", 1),  # share of content words found in no source and not in the question
    ("new_weight", 1),  # the same, weighted by rarity
    ("new_rarest", 1),  # rarity of the rarest new word
    ("new_tokens", 1),  # share of all words, function words included, found in no source
    ("new_token_pairs", 1),  # share of neighbouring words that are neighbours in no source
    ("new_pairs", 1),  # share of neighbouring content words that are neighbours in no source
    ("regrouped", 1),  # share of such pairs whose words are both known
    ("meaning_new", 1),  # new words, by distance to the nearest word of the sources
    ("uncovered", 1),  # rarity-weighted share of words outside the best-matching source sentence
    ("meaning_far", 1),  # cosine distance to the nearest source sentence
    ("new_numbers", 1),  # share of numbers that no source states
    ("any_new_number", 1),
    ("far_numbers", 1),  # share of numbers stated, but not in the two best-matching source sentences
    ("new_names", 1),  # share of them in no source
    ("any_new_name", 1),
    ("far_names", 1),  # share of them known, but not in the two best-matching source sentences
    ("negation", 1),  # negated here or in the best-matching source sentence, not both; times the match
    ("question_only", 0),  # share of content words known from the question alone
    ("new_triples", 1),  # share of three words in a row that no source has in a row
    ("strangest", 1),  # rarity times distance of the strangest new word
    ("strange_second", 1),  # the same of the second strangest
    ("apart", 1),  # share of neighbouring content words whose like are not near each other in a source
    ("lonely", 1),  # known words whose neighbours are elsewhere: the loneliest
    ("lonely_second", 1),
    ("lonely_number", 1),  # the loneliest number
    ("lonely_name", 1),
    ("opposite", 1),  # opposites of words of the best-matching source sentences that these lack
)
"""Name and direction of each measure; 1 means more of it never lowers the probability."""

MAX_WINDOWS = 512  # longer sources are matched in windows of several sentences, which bounds the cost
_SENTENCES = 64  # measured at once
_CHUNK = 256  # new words compared with the sources' words at once
_ABOUT_SOURCES = frozenset(
    text.stem(word)
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
_NOVEL = [[name for name, _ in FEATURES].index(name) for name in ("new_tokens", "new_token_pairs")]
NOVELTY = 1.5
"""Log odds per unit of novelty, chosen between 0 and 4 on BEGIN, Q2, WiCE and Fool Me Twice left out."""
_OTHERS = 0.7  # how much the other sentences count for a response, chosen by leaving data sets out
_MITIGATION = 0.5  # log odds that good sentences around the worst take away at most
_QUESTION = 0.5  # log odds that a question to the user is less bad than a statement
_COMPANY = (1, 3)  # steps that widen a place to the four content words on either side
_RELATED = 0.35  # cosine of word vectors below which two words have nothing to do with each other
_PLACES = 2048  # longer sources are aligned in places of several content words, which bounds the cost

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

    span: Span
    states: bool
    features: Floats
    new_numbers: tuple[Span, ...]
    new_names: tuple[Span, ...]


class Read(NamedTuple):
    """A response read beside its sources: its checkable sentences, and the novelty of all of it."""

    claims: list[Claim]
    novelty: float


class Judged(NamedTuple):
    """The probability that a response is unsupported, and its claims in order, each with its own."""

    score: float
    claims: list[tuple[Claim, float]]


def response_margin(read: Read, margins: Floats, line: Floats) -> float:
    """Return the log odds of a whole response; without checkable sentences, minus infinity.

    Three views are added up. The trees' `margins` (n,): the worst sentence counts, less as the others are
    better, and never by more than `_MITIGATION`; a response of nothing but questions is as bad as they are,
    but mitigated. A `line` (measures + 1,) over the worst of each measure, which sees weak signs that the
    trees find in no single sentence. And novelty, half of the whole, which ranks free answers best, and half
    of the newest sentence, which many that are not new cannot hide.
    """
    if not read.claims:
        return -np.inf
    newest = max(float(claim.features[_NOVEL].sum()) for claim in read.claims)
    novel = float(worst_measures(read.claims) @ line[:-1] + line[-1])
    novel += NOVELTY * (read.novelty + newest) / 2
    words = np.asarray([1.0 + claim.span.end - claim.span.start for claim in read.claims])
    mean = float((words * margins).sum() / words.sum())
    stated = (float(margin) for claim, margin in zip(read.claims, margins, strict=True) if claim.states)
    worst = max(stated, default=None)
    if worst is None:
        return novel + mean - _QUESTION
    return novel + worst - min(_MITIGATION, _OTHERS * max(worst - mean, 0.0))


def worst_measures(claims: Sequence[Claim]) -> Floats:
    """Return the highest of each measure over the claims that state something, else over all: (measures,)."""
    stating = [claim.features for claim in claims if claim.states]
    found: Floats = np.max(stating or [claim.features for claim in claims], axis=0)
    return found


def novelty(stems: Sequence[str], known: AbstractSet[str], pairs: AbstractSet[tuple[str, str]]) -> float:
    """Return the share of words the sources lack, plus the share of word pairs they lack; in [0, 2].

    All words count, in reading order and by their stems, small ones too: they are what a copy keeps.
    """
    if not stems:
        return 0.0
    new = sum(stem not in known for stem in stems) / len(stems)
    if len(stems) == 1:
        return 2.0 * new
    return new + sum(pair not in pairs for pair in itertools.pairwise(stems)) / (len(stems) - 1)


class _Sentence(NamedTuple):
    """A sentence of the response with what it holds."""

    span: Span
    tokens: Sequence[text.Token]
    numbers: Sequence[text.Quantity]
    stems: Sequence[str]
    names: frozenset[int]  # where its names start
    negated: bool


class _Sources:
    """What the sources hold, indexed once for all sentences of a response."""

    def __init__(self, case: Case, embedding: Embedding) -> None:
        self.windows: list[list[text.Token]] = []
        self.stems: list[set[str]] = []
        self.words: list[set[str]] = []
        self.negated: list[bool] = []
        self.pairs: set[tuple[str, str]] = set()
        self.token_pairs: set[tuple[str, str]] = set()
        self.token_triples: set[tuple[str, str, str]] = set()
        self.numbers: set[str] = set()
        months: set[str] = set()
        for source in case.sources:
            words = self._add(source)
            self.numbers |= text.stated_numbers(source, words)
            months |= text.stated_months(source)
        question = text.tokens(case.question)
        self.numbers |= text.stated_numbers(case.question, {token.word for token in question})
        self.asked = {text.stem(token.word) for token in question} | _ABOUT_SOURCES
        self.known: set[str] = set().union(*self.stems, months)
        self.held = self.known | self.asked
        index = {word: i for i, word in enumerate(dict.fromkeys(t.word for w in self.windows for t in w))}
        vectors = embedding.words(list(index))
        self.meanings = _meanings(self.windows, index, vectors)
        content = [t.word for window in self.windows for t in window if t.word not in text.STOPWORDS]
        self.columns = {word: i for i, word in enumerate(dict.fromkeys(content))}
        self.places = np.fromiter((self.columns[word] for word in content), np.intp, len(content))
        self.directions = normalised(vectors[[i for word, i in index.items() if word not in text.STOPWORDS]])

    def _add(self, source: str) -> set[str]:
        tokens = text.tokens(source)
        spans = text.sentences(source)
        step = -(-len(spans) // MAX_WINDOWS)
        ends = [spans[min(i + step, len(spans)) - 1].end for i in range(0, len(spans), step or 1)]
        position = 0
        for end in ends:
            window = []
            while position < len(tokens) and tokens[position].start < end:
                window.append(tokens[position])
                position += 1
            if window:
                self.windows.append(window)
                self.stems.append({text.stem(token.word) for token in window})
                self.words.append({token.word for token in window})
                self.negated.append(_negated(window))
        self.pairs.update(_pairs(_content(tokens)))
        every = [text.stem(token.word) for token in tokens]
        self.token_pairs.update(_pairs(every))
        self.token_triples.update(zip(every, every[1:], every[2:], strict=False))
        return {token.word for token in tokens}


def _content(tokens: Iterable[text.Token]) -> list[str]:
    return [text.stem(token.word) for token in tokens if token.word not in text.STOPWORDS]


def _pairs(stems: Sequence[str]) -> Iterable[tuple[str, str]]:
    return itertools.pairwise(stems)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _negated(tokens: Iterable[text.Token]) -> bool:
    return any(token.word in text.NEGATIONS for token in tokens)


class Groundedness:
    """Measures and scores responses. Stateless after loading."""

    def __init__(self, embedding: Embedding, trees: "Trees | None", version: str) -> None:
        self.version = version
        self._embedding = embedding
        self._trees = trees

    @classmethod
    def load(cls) -> Self:
        """Load the bundled weights. Raises ConfigError when a file is missing or altered."""
        from monitor.models import embedding

        names = (TREES, embedding.TABLE, embedding.SCALES, embedding.TOKENIZER)
        return cls(Embedding.load(), Trees.load(), models.version(1, *names))

    def assess(self, cases: Sequence[Case]) -> list[Judged]:
        """Return, per case, the probability that the response is unsupported, and its claims with theirs."""
        reads = [self.read(case) for case in cases]
        rows = [claim.features for read in reads for claim in read.claims]
        if not rows or self._trees is None:
            return [Judged(0.0, []) for _ in cases]
        margins = self._trees.margins(np.stack(rows))
        line = self._trees.line
        found: list[Judged] = []
        start = 0
        for read in reads:
            end = start + len(read.claims)
            alone = [
                response_margin(Read([claim], float(claim.features[_NOVEL].sum())), margins[i : i + 1], line)
                for i, claim in enumerate(read.claims, start)
            ]
            whole, *each = self._trees.calibrated(
                np.asarray([response_margin(read, margins[start:end], line), *alone])
            ).tolist()
            stated = [(claim, score) for claim, score in zip(read.claims, each, strict=True) if claim.states]
            found.append(Judged(whole if read.claims else 0.0, stated))
            start = end
        return found

    def read(self, case: Case) -> Read:
        """Return the checkable sentences of a response with their measures, and how new the whole is.

        Left out of the sentences: those without a content word, and refusals, courtesies and lead-ins
        that hold no number or name which the sources lack.
        """
        sources = _Sources(case, self._embedding)
        sentences = [s for s in _split(case.response) if _checkable(case.response, s, sources)]
        found: list[Claim] = []
        for start in range(0, len(sentences), _SENTENCES):
            found += self._measure(case.response, sentences[start : start + _SENTENCES], sources)
        stems = [text.stem(token.word) for token in text.tokens(case.response)]
        return Read(found, novelty(stems, sources.known, sources.token_pairs))

    def _measure(self, response: str, sentences: Sequence[_Sentence], sources: _Sources) -> list[Claim]:
        rarity = {
            text.stem(token.word): self._embedding.rarity(token.word)
            for sentence in sentences
            for token in sentence.tokens
            if token.word not in text.STOPWORDS
        }
        coverage = _coverage(sentences, sources, rarity)
        index = {word: i for i, word in enumerate(dict.fromkeys(t.word for s in sentences for t in s.tokens))}
        vectors = self._embedding.words(list(index))
        meanings = _meanings([sentence.tokens for sentence in sentences], index, vectors)
        closeness = meanings @ sources.meanings.T if sources.windows else np.zeros((len(sentences), 1))
        distances = _distances(index, vectors, sources)
        company = _company(sentences, index, vectors, sources)
        best = np.argsort(-(coverage + 0.1 * closeness), axis=1, kind="stable")[:, :_NEAR].tolist()
        return [
            _claim(
                response,
                sentence,
                sources,
                rarity,
                distances,
                company[i],
                [j for j in best[i] if j < len(sources.windows)],
                float(coverage[i].max()),
                float(closeness[i].max()),
            )
            for i, sentence in enumerate(sentences)
        ]


def _split(response: str) -> list[_Sentence]:
    tokens, numbers = text.tokens(response), text.quantities(response)
    found: list[_Sentence] = []
    token, number = 0, 0
    for span in text.sentences(response):
        first_token, first_number = token, number
        while token < len(tokens) and tokens[token].start < span.end:
            token += 1
        while number < len(numbers) and numbers[number].start < span.end:
            number += 1
        here = tokens[first_token:token]
        names = frozenset(name.start for name in text.names(response, here))
        found.append(
            _Sentence(span, here, numbers[first_number:number], _content(here), names, _negated(here))
        )
    return found


def _checkable(response: str, sentence: _Sentence, sources: _Sources) -> bool:
    words = response[sentence.span.start : sentence.span.end]
    if not (sentence.stems or sentence.numbers):
        return False
    if not (text.declines(words) or text.is_courtesy(words) or words.endswith(":")):
        return True
    return any(n.value not in sources.numbers for n in sentence.numbers) or any(
        text.stem(token.word) not in sources.held
        for token in sentence.tokens
        if token.start in sentence.names
    )


def _meanings(groups: Sequence[Sequence[text.Token]], index: Mapping[str, int], vectors: Vectors) -> Vectors:
    sums = [vectors[[index[token.word] for token in group]].sum(axis=0) for group in groups]
    return normalised(np.stack(sums)) if sums else np.zeros((0, vectors.shape[1]), np.float32)


def _coverage(sentences: Sequence[_Sentence], sources: _Sources, rarity: Mapping[str, float]) -> Floats:
    """Return, per sentence and window, the rarity-weighted share of the sentence's words in the window."""
    columns = {stem: i for i, stem in enumerate(rarity)}
    weights = np.zeros((len(sentences), len(columns)))
    for i, sentence in enumerate(sentences):
        for stem in sentence.stems:
            weights[i, columns[stem]] = rarity[stem]
    holds = np.zeros((len(sources.windows) or 1, len(columns)))
    for j, stems in enumerate(sources.stems):
        holds[j, [columns[stem] for stem in stems if stem in columns]] = 1
    out: Floats = weights @ holds.T / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return out


def _distances(index: Mapping[str, int], vectors: Vectors, sources: _Sources) -> dict[str, float]:
    """Return how far each new word is from the sources' nearest word, in [0, 1]."""
    new = [
        word
        for word in index
        if text.stem(word) not in sources.held and text.stem(word) not in text.STOPWORDS
    ]
    if not len(sources.directions):
        return dict.fromkeys(new, 1.0)
    found: dict[str, float] = {}
    for start in range(0, len(new), _CHUNK):
        chunk = new[start : start + _CHUNK]
        directions = normalised(vectors[[index[word] for word in chunk]])
        nearest = (directions @ sources.directions.T).max(axis=1)
        found.update(zip(chunk, np.clip(1 - nearest, 0, 1).tolist(), strict=True))
    return found


def _company(
    sentences: Sequence[_Sentence], index: Mapping[str, int], vectors: Vectors, sources: _Sources
) -> list[tuple[float, ...]]:
    """Return, per sentence, `apart` and the four `lonely` measures.

    A word is at a place of the sources as far as the word there is the same or means the like; two neighbours
    keep company as far as there is a place of the one with the other at most four content words away.
    """
    words = list(dict.fromkeys(t.word for s in sentences for t in s.tokens if t.word not in text.STOPWORDS))
    if not words or not len(sources.places):
        return [(0.0,) * 5] * len(sentences)
    alike = normalised(vectors[[index[word] for word in words]]) @ sources.directions.T
    alike[alike < _RELATED] = 0.0
    stems: dict[str, list[int]] = {}
    for word, column in sources.columns.items():
        stems.setdefault(text.stem(word), []).append(column)
        if word[0].isdigit():
            alike[:, column] = 0.0
    for i, word in enumerate(words):
        if word[0].isdigit():
            alike[i] = 0.0
        alike[i, stems.get(text.stem(word), [])] = 1.0
    rows = {word: i for i, word in enumerate(words)}
    at = alike[:, sources.places]
    step = -(-at.shape[1] // _PLACES)
    at = np.maximum.reduceat(at, np.arange(0, at.shape[1], step), axis=1)
    around = at
    for by in _COMPANY:
        around = _spread(around, by)
    held = at.max(axis=1)
    return [_lonely(sentence, rows, at, around, held) for sentence in sentences]


def _spread(rows: Vectors, by: int) -> Vectors:
    out = rows.copy()
    np.maximum(out[:, by:], rows[:, :-by], out=out[:, by:])
    np.maximum(out[:, :-by], rows[:, by:], out=out[:, :-by])
    return out


def _lonely(
    sentence: _Sentence, rows: Mapping[str, int], at: Vectors, around: Vectors, held: Vectors
) -> tuple[float, ...]:
    tokens = [token for token in sentence.tokens if token.word in rows]
    if len(tokens) < 2:  # noqa: PLR2004 - no neighbours
        return (0.0,) * 5
    order = np.asarray([rows[token.word] for token in tokens])
    together = np.minimum(at[order[:-1]], around[order[1:]]).max(axis=1)
    link = np.maximum(np.append(together, 0.0), np.insert(together, 0, 0.0))
    lonely = np.maximum(held[order] - link, 0.0)
    ranked = np.sort(lonely)[::-1]
    numbers = [token.word[0].isdigit() for token in tokens]
    names = [token.start in sentence.names for token in tokens]
    return (
        1.0 - float(together.mean()),
        float(ranked[0]),
        float(ranked[1]),
        float(lonely[numbers].max(initial=0.0)),
        float(lonely[names].max(initial=0.0)),
    )


def _claim(
    response: str,
    sentence: _Sentence,
    sources: _Sources,
    rarity: Mapping[str, float],
    distances: Mapping[str, float],
    company: tuple[float, ...],
    best: Sequence[int],
    match: float,
    closeness: float,
) -> Claim:
    stems = list(dict.fromkeys(sentence.stems))
    new = [stem for stem in stems if stem not in sources.held]
    total = sum(rarity[stem] for stem in stems)
    every = [text.stem(token.word) for token in sentence.tokens]
    every_pair = list(_pairs(every))
    pairs = list(_pairs(sentence.stems))
    new_pairs = [pair for pair in pairs if pair not in sources.pairs]
    regrouped = sum(a in sources.known and b in sources.known for a, b in new_pairs)
    words = {token.word for token in sentence.tokens if token.word not in text.STOPWORDS}
    strange = sorted((rarity[text.stem(word)] * distances.get(word, 0.0) for word in words), reverse=True)
    meaning_new = sum(strange)
    triples = list(zip(every, every[1:], every[2:], strict=False))
    near_words = set().union(*(sources.words[j] for j in best))
    own_words = {token.word for token in sentence.tokens}
    opposite = sum(
        not text.OPPOSITES.get(word, frozenset()).isdisjoint(near_words - own_words)
        for word in own_words - near_words
    )
    numbers = sentence.numbers
    new_numbers = [n for n in numbers if n.value not in sources.numbers]
    far_numbers = sum(
        n.value in sources.numbers
        and not any({n.value, response[n.start : n.end].lower()} & sources.words[j] for j in best)
        for n in numbers
    )
    names = [(name, text.stem(name.word)) for name in sentence.tokens if name.start in sentence.names]
    new_names = [name for name, stem in names if stem not in sources.held]
    far_names = sum(
        stem in sources.known and not any(stem in sources.stems[j] for j in best) for _, stem in names
    )
    opposed = bool(best) and sentence.negated != sources.negated[best[0]]
    features = (
        _share(len(new), len(stems)),
        _share(sum(rarity[stem] for stem in new), total),
        max((rarity[stem] for stem in new), default=0.0),
        _share(sum(stem not in sources.known for stem in every), len(every)),
        _share(sum(pair not in sources.token_pairs for pair in every_pair), len(every_pair)),
        _share(len(new_pairs), len(pairs)),
        _share(regrouped, len(pairs)),
        _share(meaning_new, total),
        1 - match,
        1 - closeness,
        _share(len(new_numbers), len(numbers)),
        float(bool(new_numbers)),
        _share(far_numbers, len(numbers)),
        _share(len(new_names), len(names)),
        float(bool(new_names)),
        _share(far_names, len(names)),
        match if opposed else 0.0,
        _share(sum(stem in sources.asked and stem not in sources.known for stem in stems), len(stems)),
        _share(sum(triple not in sources.token_triples for triple in triples), len(triples)),
        strange[0] if strange else 0.0,
        strange[1] if len(strange) > 1 else 0.0,
        *company,
        float(opposite),
    )
    return Claim(
        span=sentence.span,
        states=not response[: sentence.span.end].endswith("?"),
        features=np.asarray(features, dtype=np.float64),
        new_numbers=tuple(Span(n.start, n.end) for n in new_numbers),
        new_names=tuple(Span(n.start, n.end) for n in new_names),
    )


class Trees:
    """Boosted trees over the measures, as flat arrays, with Platt scaling on top."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.float64]]) -> None:
        self.arrays = arrays
        self._feature = arrays["feature"].astype(np.intp)  # (trees, nodes); leaves point at themselves
        self._threshold = arrays["threshold"]
        self._left = arrays["left"].astype(np.intp)
        self._right = arrays["right"].astype(np.intp)
        self._value = arrays["value"]
        self._depth = int(arrays["depth"])
        self._base, self._slope, self._offset = arrays["scaling"].tolist()
        self.line = arrays["line"]  # (measures + 1,); the last is the constant

    @classmethod
    def load(cls) -> Self:
        """Load the bundled trees. Raises ConfigError when the file is missing or altered."""
        with np.load(models.verified(TREES), allow_pickle=False) as file:
            return cls({name: file[name] for name in file.files})

    def margins(self, features: Floats) -> Floats:
        """Return the raw log odds for rows of measures, shape (n,)."""
        trees = np.arange(len(self._feature))
        rows = np.arange(len(features))[:, None]
        node = np.zeros((len(features), len(trees)), dtype=np.intp)
        for _ in range(self._depth):
            goes_left = features[rows, self._feature[trees, node]] <= self._threshold[trees, node]
            node = np.where(goes_left, self._left[trees, node], self._right[trees, node])
        total: Floats = self._base + self._value[trees, node].sum(axis=1)
        return total

    def calibrated(self, margins: Floats) -> Floats:
        """Return the probability for each raw log odds, shape (n,)."""
        out: Floats = 1 / (1 + np.exp(-(self._slope * margins + self._offset)))
        return out
