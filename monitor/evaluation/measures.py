"""Measures of scores and spans against labels: the usual ones, and intervals for them.

Pure arithmetic on arrays: `labels` are booleans (true: the risk is there), `scores` floats in [0, 1], higher
is riskier, of equal length. A measure that the data does not define (one class only, nothing flagged) is
None, never a made-up 0 or 1.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Labels: TypeAlias = npt.NDArray[np.bool_]
Scores: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.intp]

BINS: Final = 15
"""Equal-width bins of the calibration error (Guo et al. 2017, arXiv:1706.04599)."""
ROUNDS: Final = 1000
LEVEL: Final = 0.95


def auroc(labels: Labels, scores: Scores) -> float | None:
    """Return the probability that a positive scores above a negative, ties half; None of one class."""
    positives, negatives = scores[labels], np.sort(scores[~labels])
    if not positives.size or not negatives.size:
        return None
    below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
    return float(below.sum() / (2.0 * positives.size * negatives.size))


def average_precision(labels: Labels, scores: Scores) -> float | None:
    """Return the area under the precision-recall curve, by steps without interpolation; None of one class."""
    if labels.all() or not labels.any():
        return None
    hits, alarms = _cumulative(labels, scores)
    recall = np.concatenate([[0.0], hits / hits[-1]])
    return float(np.sum(np.diff(recall) * hits / (hits + alarms)))


def roc(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """Return false- and true-positive rates from (0, 0) to (1, 1), one point per distinct score.

    Raises ValueError of one class.
    """
    if labels.all() or not labels.any():
        raise ValueError("a ROC curve needs positives and negatives")
    hits, alarms = _cumulative(labels, scores)
    return np.concatenate([[0.0], alarms / alarms[-1]]), np.concatenate([[0.0], hits / hits[-1]])


def _cumulative(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """Return true and false positives when flagging from each distinct score on, highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0.0, [True]))
    hits = np.cumsum(labels[order], dtype=np.float64)[last]
    return hits, last + 1.0 - hits


class Bin(NamedTuple):
    """Rows whose scores lie in one bin: how many, their mean score and the share of positives."""

    rows: int
    score: float
    positives: float


def reliability(labels: Labels, scores: Scores, bins: int = BINS) -> list[Bin]:
    """Return the bins of equal width that hold a row, lowest first; a score on an edge in the lower one."""
    number = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], scores)
    return [
        Bin(int(inside.sum()), float(scores[inside].mean()), float(labels[inside].mean()))
        for inside in (number == bin_number for bin_number in range(bins))
        if inside.any()
    ]


def calibration_error(labels: Labels, scores: Scores, bins: int = BINS) -> float | None:
    """Return the expected calibration error: mean of |score - share of positives| over rows, bin by bin."""
    if not labels.size:
        return None
    return sum(b.rows * abs(b.score - b.positives) for b in reliability(labels, scores, bins)) / labels.size


class Confusion(NamedTuple):
    """Counts of true and false positives and negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, labels: Labels, flagged: Labels) -> "Confusion":
        """Count rows."""
        tp, fp = int((labels & flagged).sum()), int((~labels & flagged).sum())
        return cls(tp, fp, int(labels.sum()) - tp, int((~labels).sum()) - fp)

    def precision(self) -> float | None:
        """Return the share of flagged that is positive; None when nothing is flagged."""
        return _ratio(self.tp, self.tp + self.fp)

    def recall(self) -> float | None:
        """Return the share of positives that is flagged; None without positives."""
        return _ratio(self.tp, self.tp + self.fn)

    def fpr(self) -> float | None:
        """Return the share of negatives that is flagged; None without negatives."""
        return _ratio(self.fp, self.fp + self.tn)

    def balanced_accuracy(self) -> float | None:
        """Return the mean of recall and the share of negatives left alone; None of one class."""
        recall, fpr = self.recall(), self.fpr()
        return None if recall is None or fpr is None else (recall + 1.0 - fpr) / 2.0

    def f(self, beta: float) -> float | None:
        """Return F-beta (recall counts `beta` times); None when there is nothing to find."""
        square = beta * beta
        if not self.tp + self.fn:
            return None
        return _ratio((1.0 + square) * self.tp, (1.0 + square) * self.tp + square * self.fn + self.fp)


class Entity(NamedTuple):
    """A span of a text, [start, end) in characters, and its type."""

    start: int
    end: int
    kind: str


def covered(span: Entity, others: Sequence[Entity]) -> bool:
    """Return whether at least half of a span's characters lie in the others (any of them, together)."""
    inside = {at for o in others for at in range(max(o.start, span.start), min(o.end, span.end))}
    return 2 * len(inside) >= span.end - span.start


class SpanCounts(NamedTuple):
    """Labelled spans and how many of them are covered; predicted spans and how many of them are right."""

    gold: int = 0
    hit: int = 0
    predicted: int = 0
    right: int = 0

    def precision(self) -> float | None:
        """Return the share of predicted spans that half lie in labelled ones; None without any."""
        return _ratio(self.right, self.predicted)

    def recall(self) -> float | None:
        """Return the share of labelled spans that are half covered by predicted ones; None without any."""
        return _ratio(self.hit, self.gold)

    def f(self, beta: float) -> float | None:
        """Return F-beta of the two, as presidio-evaluator does with beta = 2; None without labelled spans."""
        square, precision, recall = beta * beta, self.precision() or 0.0, self.recall()
        if recall is None:
            return None
        return (1.0 + square) * precision * recall / max(square * precision + recall, 1e-12)


def span_counts(gold: Sequence[Entity], predicted: Sequence[Entity]) -> SpanCounts:
    """Count one text, types ignored."""
    return SpanCounts(
        len(gold),
        sum(covered(g, predicted) for g in gold),
        len(predicted),
        sum(covered(p, gold) for p in predicted),
    )


def total(counts: Sequence[SpanCounts]) -> SpanCounts:
    """Add the counts of several texts."""
    return SpanCounts(*(sum(column) for column in zip(*counts, strict=True))) if counts else SpanCounts()


def bootstrap(
    statistic: Callable[[Rows], float | None], strata: Sequence[Rows], *, rounds: int = ROUNDS, seed: int = 0
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of level 0.95 of a statistic of rows.

    Rows are drawn with replacement within each stratum, e.g. positives and negatives. Rounds in which the
    statistic is not defined are left out; None when it never is.
    """
    random = np.random.default_rng(seed)
    drawn = (
        statistic(np.concatenate([random.choice(rows, rows.size) for rows in strata if rows.size]))
        for _ in range(rounds if any(rows.size for rows in strata) else 0)
    )
    values = [value for value in drawn if value is not None]
    if not values:
        return None
    low, high = np.quantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)


def classes(labels: Labels) -> tuple[Rows, Rows]:
    """Return the strata of a label: rows that are positive, rows that are not."""
    return np.flatnonzero(labels), np.flatnonzero(~labels)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
