"""Measures of scores and spans: as scikit-learn computes them, and what must hold for any data."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from external import need_module
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monitor.evaluation.measures import (
    Confusion,
    Entity,
    Labels,
    Scores,
    SpanCounts,
    auroc,
    average_precision,
    bootstrap,
    calibration_error,
    classes,
    covered,
    reliability,
    roc,
    span_counts,
    total,
)

SLOW_START = settings(deadline=None)  # the first example imports scikit-learn
STEPS = 8  # few distinct scores, so that ties are common


@st.composite
def labelled(draw: st.DrawFn, *, least: int = 2) -> tuple[Labels, Scores]:
    """Labels and scores of up to 40 rows, with many ties; both classes are there."""
    size = draw(st.integers(least, 40))
    labels = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    assume(labels.any() and not labels.all())
    steps = draw(st.lists(st.integers(0, STEPS), min_size=size, max_size=size))
    return labels, np.array(steps, dtype=np.float64) / STEPS


@st.composite
def entities(draw: st.DrawFn) -> list[Entity]:
    """Spans in a text of 40 characters; they may overlap."""
    pairs = draw(
        st.lists(st.tuples(st.integers(0, 35), st.integers(1, 5), st.sampled_from("AB")), max_size=5)
    )
    return [Entity(start, start + length, kind) for start, length, kind in pairs]


def close(ours: float | None, theirs: Any) -> bool:
    """Whether two figures are equal but for rounding."""
    return ours is not None and math.isclose(ours, float(theirs), abs_tol=1e-12)


@SLOW_START
@given(labelled())
def test_ranking_measures_are_those_of_scikit_learn(data: tuple[Labels, Scores]) -> None:
    """AUROC, average precision and the ROC curve equal scikit-learn's, ties included."""
    metrics = need_module("sklearn.metrics")
    labels, scores = data
    assert close(auroc(labels, scores), metrics.roc_auc_score(labels, scores))
    assert close(average_precision(labels, scores), metrics.average_precision_score(labels, scores))
    theirs = metrics.roc_curve(labels, scores, drop_intermediate=False)
    for mine, other in zip(roc(labels, scores), theirs[:2], strict=True):
        np.testing.assert_allclose(mine, other)


@given(labelled())
def test_auroc_is_the_share_of_pairs_in_order(data: tuple[Labels, Scores]) -> None:
    """It counts pairs of a positive and a negative; reversing scores reverses it; only the order matters."""
    labels, scores = data
    pairs = [(p > n) + (p == n) / 2 for p in scores[labels] for n in scores[~labels]]
    area = auroc(labels, scores)
    assert close(area, np.mean(pairs))
    assert close(auroc(labels, 1.0 - scores), 1.0 - np.mean(pairs))
    assert auroc(labels, scores**3) == area


@SLOW_START
@given(labelled(), st.integers(0, STEPS))
def test_counts_at_a_threshold_are_those_of_scikit_learn(data: tuple[Labels, Scores], step: int) -> None:
    """Precision, recall, F1, F2 and balanced accuracy equal scikit-learn's wherever they are defined."""
    metrics = need_module("sklearn.metrics")
    labels, scores = data
    flagged = scores >= step / STEPS
    counts = Confusion.of(labels, flagged)
    assert sum(counts) == labels.size
    assert close(counts.recall(), metrics.recall_score(labels, flagged))
    assert close(counts.balanced_accuracy(), metrics.balanced_accuracy_score(labels, flagged))
    assert close(counts.f(1.0), metrics.f1_score(labels, flagged))
    assert close(counts.f(2.0), metrics.fbeta_score(labels, flagged, beta=2.0))
    assert close(counts.fpr(), flagged[~labels].mean())
    if flagged.any():
        assert close(counts.precision(), metrics.precision_score(labels, flagged))
    else:
        assert counts.precision() is None


@SLOW_START
@given(labelled())
def test_reliability_bins_are_those_of_scikit_learn(data: tuple[Labels, Scores]) -> None:
    """Bins hold every row once, with scikit-learn's means; the calibration error is their distance."""
    calibration = need_module("sklearn.calibration")
    labels, scores = data
    bins = reliability(labels, scores)
    positives, means = calibration.calibration_curve(labels, scores, n_bins=15)
    np.testing.assert_allclose([b.positives for b in bins], positives)
    np.testing.assert_allclose([b.score for b in bins], means)
    assert sum(b.rows for b in bins) == labels.size
    gaps = [abs(b.score - b.positives) * b.rows / labels.size for b in bins]
    assert close(calibration_error(labels, scores), sum(gaps))


@given(labelled())
def test_a_base_rate_is_calibrated(data: tuple[Labels, Scores]) -> None:
    """Scoring every row with the share of positives has no calibration error, its complement has the gap."""
    labels, _ = data
    share = float(labels.mean())
    assert close(calibration_error(labels, np.full(labels.size, share)), 0.0)
    assert close(calibration_error(labels, np.full(labels.size, 1.0 - share)), abs(1.0 - 2.0 * share))


@pytest.mark.parametrize("label", [True, False])
def test_one_class_defines_no_ranking(label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Of one class only, AUROC, average precision and balanced accuracy are None, and there is no curve."""
    labels, scores = np.array([label] * 3), np.array([0.1, 0.5, 0.9])
    counts = Confusion.of(labels, scores >= 0.5)
    assert (auroc(labels, scores), average_precision(labels, scores)) == (None, None)
    assert counts.balanced_accuracy() is None
    assert (counts.recall() is None, counts.fpr() is None) == (not label, label)
    assert (counts.f(1.0) is None) == (not label)
    with pytest.raises(ValueError, match="positives and negatives"):
        roc(labels, scores)


def test_no_rows_define_nothing() -> None:
    """Without rows there is no calibration error, no sum of spans that divides, and no interval."""
    none: npt.NDArray[np.bool_] = np.array([], dtype=np.bool_)
    assert calibration_error(none, np.array([])) is None
    assert total([]) == SpanCounts()
    assert (SpanCounts().precision(), SpanCounts().recall(), SpanCounts().f(2.0)) == (None, None, None)
    assert bootstrap(lambda _: 1.0, classes(none)) is None


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ([], False),
        ([(0, 4)], False),
        ([(0, 15)], True),
        ([(10, 15)], True),
        ([(10, 14)], False),
        ([(10, 13), (17, 19)], True),
        ([(10, 13), (11, 14)], False),
        ([(0, 99)], True),
    ],
)
def test_a_span_is_found_when_half_of_it_is(others: list[tuple[int, int]], found: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Half of the characters of [10, 20) are enough, from one span or several, each character once."""
    assert covered(Entity(10, 20, "PERSON"), [Entity(*other, "ANY") for other in others]) is found


@given(entities(), entities())
def test_spans_are_counted_from_both_sides(gold: list[Entity], found: list[Entity]) -> None:
    """Swapping sides swaps precision and recall; types do not matter; what equals the labels is all right."""
    counts, swapped = span_counts(gold, found), span_counts(found, gold)
    assert (counts.gold, counts.hit, counts.predicted, counts.right) == (
        swapped.predicted,
        swapped.right,
        swapped.gold,
        swapped.hit,
    )
    assert span_counts([e._replace(kind="C") for e in gold], found) == counts
    same = span_counts(gold, gold)
    assert (same.hit, same.right) == (len(gold), len(gold))
    more = span_counts(gold, [*found, *gold])
    assert more.hit == len(gold)
    assert total([counts, same]).gold == 2 * len(gold)


def test_f2_counts_recall_twice() -> None:
    """Of the same two numbers the one that is recall weighs more; nothing right is 0, not undefined."""
    assert SpanCounts(gold=10, hit=9, predicted=10, right=6).f(2.0) == pytest.approx(
        5 * 0.54 / (4 * 0.6 + 0.9)
    )
    assert SpanCounts(gold=10, hit=6, predicted=10, right=9).f(2.0) == pytest.approx(
        5 * 0.54 / (4 * 0.9 + 0.6)
    )
    assert SpanCounts(gold=10, hit=0, predicted=0, right=0).f(2.0) == 0.0


@given(labelled(least=6))
def test_an_interval_is_the_same_every_time(data: tuple[Labels, Scores]) -> None:
    """It depends on the data alone and lies in the range of the statistic; no round misses a class."""
    labels, scores = data
    drawn = [
        bootstrap(lambda at: auroc(labels[at], scores[at]), classes(labels), rounds=30) for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] is not None
    low, high = drawn[0]
    assert 0.0 <= low <= high <= 1.0


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over 400 samples of 60 numbers, the interval of the mean holds the true one in about 95 of 100."""
    random = np.random.default_rng(7)

    def holds(seed: int) -> bool:
        sample = random.normal(size=60)
        interval = bootstrap(lambda at: float(sample[at].mean()), [np.arange(60)], rounds=300, seed=seed)
        assert interval is not None
        return interval[0] <= 0.0 <= interval[1]

    assert 0.91 <= np.mean([holds(seed) for seed in range(400)]) <= 0.98


def test_rounds_without_a_value_are_left_out() -> None:
    """A statistic that most rounds do not define has the interval of the others; never defined, none."""
    rows = [np.arange(4)]
    assert bootstrap(lambda at: 2.0 if 0 in at else None, rows, rounds=50) == (2.0, 2.0)
    assert bootstrap(lambda _: None, rows, rounds=5) is None
