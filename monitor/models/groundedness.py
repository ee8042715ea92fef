"""Groundedness: whether a response is supported by the texts it was made from.

One set of boosted trees over `monitor.models.grounding_features`, monotone in every measure of what is new,
judges each sentence and the whole response. `cards/hallucination.md` says from which data, and how well it
ranks.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from monitor import models
from monitor.models import grounding_features
from monitor.models.embedding import Embedding
from monitor.models.grounding_features import FEATURES, Case, Floats, ResponseClaim, ResponseFeatures

TREES = "groundedness.npz"
NOVELTY = 1.0
"""Log odds per unit of `new_tokens` and of `new_token_pairs`, which the trees start from."""
_MITIGATION = 0.3  # log odds that the rest of a response takes away from its worst sentence at most
_QUESTION = 0.5  # log odds that a question to the user is less bad than a statement

_LENGTH, _SOURCE_LENGTH = ([name for name, _ in FEATURES].index(name) for name in ("length", "source_length"))
_LENGTHS = (3.5, 5.0)
"""Log of words, about 30 to 150: outside, the length of sources does not count. Chosen on the card's sets."""
_SHORT = (1.3, 2.4)
"""Log of words, about 3 to 10: an answer of as many is short, or no longer. Chosen on the card's sets."""
_PRIOR = np.asarray([NOVELTY * (name in {"new_tokens", "new_token_pairs"}) for name, _ in FEATURES])


class GroundednessScore(NamedTuple):
    """The probability that a response is unsupported, and its claims in order with theirs."""

    score: float
    claims: list[tuple[ResponseClaim, float]]


def response_margin(whole: float, claims: Sequence[ResponseClaim], margins: Floats) -> float:
    """Return the log odds of a response from those of the whole and of each claim, shape (claims,).

    A third of the worst sentence that states something and the rest of the whole, but never more than
    `_MITIGATION` below the worst sentence: good ones do not hide a bad one. A response of nothing but
    questions is as bad as the whole, but mitigated. Without checkable sentences, minus infinity.
    """
    if not claims:
        return -np.inf
    worst = max((float(m) for claim, m in zip(claims, margins, strict=True) if claim.states), default=None)
    if worst is None:
        return whole - _QUESTION
    return max((2 * whole + worst) / 3, worst - _MITIGATION)


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
        return cls(Embedding.load(), Trees.load(), models.version(2, *names))

    def assess(self, cases: Sequence[Case]) -> list[GroundednessScore]:
        """Return, per case, the probability that the response is unsupported, and its claims with theirs."""
        measured = [self.measure(case) for case in cases]
        rows = [
            row
            for response in measured
            for row in (response.whole, *(claim.features for claim in response.claims))
        ]
        if not rows or self._trees is None:
            return [GroundednessScore(0.0, []) for _ in cases]
        margins = self._trees.margins(np.stack(rows))
        start = 0
        for response in measured:
            end = start + 1 + len(response.claims)
            margins[start] = response_margin(float(margins[start]), response.claims, margins[start + 1 : end])
            start = end
        # A sentence is scaled as its response: a short one among others is not a short answer.
        wholes = np.stack([response.whole for response in measured]).repeat(
            [1 + len(response.claims) for response in measured], axis=0
        )
        scores = iter(self._trees.calibrated(margins, wholes).tolist())
        results: list[GroundednessScore] = []
        for response in measured:
            whole = next(scores)
            each = [(claim, next(scores)) for claim in response.claims]
            results.append(
                GroundednessScore(whole, [(claim, score) for claim, score in each if claim.states])
            )
        return results

    def measure(self, case: Case) -> ResponseFeatures:
        """Measure a response, see `grounding_features.measure`."""
        return grounding_features.measure(case, self._embedding)


class Trees:
    """Boosted trees over the measures, as flat arrays, on top of novelty; with Platt scaling."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.float64]]) -> None:
        self.arrays = arrays
        roots = arrays["feature"].shape[1] * np.arange(len(arrays["feature"]))[:, None]
        children = np.stack((arrays["left"] + roots, arrays["right"] + roots), axis=-1)
        self._roots = roots.ravel()
        self._feature = arrays["feature"].astype(np.intp).ravel()  # all trees' nodes in a row
        self._threshold = arrays["threshold"].ravel()
        self._children = children.astype(np.intp).ravel()  # left, right; leaves point at themselves
        self._value = arrays["value"].ravel()
        self._depth = int(arrays["depth"])
        self.scaling = arrays["scaling"]  # see `scaled`

    @classmethod
    def load(cls) -> Self:
        """Load the bundled trees. Raises ConfigError when the file is missing or altered."""
        with np.load(models.verified(TREES), allow_pickle=False) as file:
            return cls({name: file[name] for name in file.files})

    def margins(self, features: Floats) -> Floats:
        """Return the raw log odds for rows of measures, shape (n,)."""
        flat = np.ascontiguousarray(features).ravel()
        rows = features.shape[1] * np.arange(len(features))[:, None]
        node = np.broadcast_to(self._roots, (len(features), len(self._roots)))
        for _ in range(self._depth):
            right = flat.take(rows + self._feature.take(node)) > self._threshold.take(node)
            node = self._children.take(2 * node + right)
        total: Floats = prior(features) + self._value.take(node).sum(axis=1)
        return total

    def calibrated(self, margins: Floats, features: Floats) -> Floats:
        """Return the probability for each raw log odds and its row of measures, shape (n,)."""
        out: Floats = 1 / (1 + np.exp(-(scaled(margins, features) @ self.scaling)))
        return out


def scaled(margins: Floats, features: Floats) -> Floats:
    """Return the inputs of the scaling, shape (n, 4): log odds, length of the sources, 1, how short it is.

    New words are less often wrong with a long source than with a short one: the more a text says, the less of
    it an answer copies. In an answer of a few words, the new words are the answer; but not with a source as
    short, such as a tool's "locked".
    """
    lengths = np.clip(features[:, _SOURCE_LENGTH], *_LENGTHS)
    source_excess = np.maximum(features[:, _SOURCE_LENGTH] - _SHORT[1], 0)
    short = np.minimum(_SHORT[1] - np.clip(features[:, _LENGTH], *_SHORT), source_excess)
    return np.stack((margins, lengths, np.ones(len(margins)), short), axis=1)


def prior(features: Floats) -> Floats:
    """Return the log odds that the trees start from, for rows of measures, shape (n,)."""
    out: Floats = features @ _PRIOR
    return out
