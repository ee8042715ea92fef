"""Rates of risk: unbiased under load shedding, and in their interval as often as promised."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import ManualClock
from monitor.detect.cascade import EXPLORATION_RATE, Cascade
from monitor.findings import Assessment, Status
from monitor.telemetry.rates import TERMS, THRESHOLD, Rate, RateWindow, Sums, corrected, estimate, sums_of


def assessment(score: float, *, tier: int = 0, probability: float = 1.0, **values: float) -> Assessment:
    """One scored answer."""
    return Assessment(
        detector="d",
        version="1",
        status=Status.SCORED,
        score=score,
        tier=tier,
        probability=probability,
        values=values,
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (assessment(0.49), 0.0),
        (assessment(0.5), 1.0),
        (assessment(0.9, tier=1), 1.0),  # a certain look: only what it found counts
        (assessment(0.1, tier=1, tier0=0.9), 0.0),
        (assessment(0.9, tier=1, probability=0.01, tier0=0.1), 100.0),  # found: stands for a hundred
        (assessment(0.1, tier=1, probability=0.01, tier0=0.9), -99.0),  # refuted
        (assessment(0.9, tier=1, probability=0.01, tier0=0.9), 1.0),  # confirmed
        (assessment(0.1, tier=1, probability=0.01, tier0=0.1), 0.0),
        # Two higher tiers: each corrects the one below it by its own probability.
        (assessment(0.9, tier=2, probability=0.25, tier0=0.1, tier1=0.9, probability1=0.5), 2.0),
        (assessment(0.9, tier=2, probability=0.25, tier0=0.1, tier1=0.1, probability1=0.5), 4.0),
        (assessment(0.1, tier=2, probability=0.25, tier0=0.1, tier1=0.9, probability1=0.5), -2.0),
    ],
)
def test_a_look_counts_by_what_it_changes(one: Assessment, expected: float) -> None:
    """Tier 0's flag counts one; a look that changes it counts one over its probability."""
    assert corrected(one, THRESHOLD) == pytest.approx(expected)


def test_sums_hold_each_trace_once() -> None:
    """Scored traces are summed by what is known of them; unscored ones are left out."""
    answers = [
        assessment(0.1),
        assessment(0.9),
        assessment(0.9, tier=1, tier0=0.1),
        assessment(0.9, tier=1, probability=0.1, tier0=0.1),
        assessment(0.1, tier=1, probability=0.1, tier0=0.9),
        Assessment(detector="d", version="1", status=Status.SKIPPED, reason="no_context"),
    ]
    assert sums_of(answers, THRESHOLD)._asdict() == pytest.approx(
        {
            "traces": 5,
            "unseen": 2,
            "unseen_flagged": 1,
            "certain": 2,
            "found": 10,
            "found_squares": 100,
            "refuted": 9,
            "refuted_squares": 81,
            "look_squares": 2 * 81,
        }
    )


def test_where_all_is_certain_the_interval_is_the_binomial_one() -> None:
    """When all traces escalate, or none can, the interval is as wide as Wilson's to within a tenth."""
    for traces, flagged in ((1000, 10), (1000, 200), (100_000, 100)):
        answers = [assessment(1.0)] * flagged + [assessment(0.0)] * (traces - flagged)
        rate = estimate(sums_of(answers, THRESHOLD))
        share = flagged / traces
        wilson = (
            1.96 / (1 + 1.96**2 / traces) * math.sqrt(share * (1 - share) / traces + (0.98 / traces) ** 2)
        )
        assert rate.ratio == share
        assert rate.low < share < rate.high
        assert (rate.high - rate.low) / 2 == pytest.approx(wilson, rel=0.1)


sums = st.builds(
    lambda traces, shares, found, refuted, look: Sums(
        float(traces),
        traces * shares[0],
        traces * shares[0] * shares[1],
        traces * shares[1],
        found,
        found * found,
        refuted,
        refuted * refuted,
        look,
    ),
    st.integers(1, 10**9),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e9),
)


@given(sums)
def test_every_interval_is_one(some: Sums) -> None:
    """Whatever was summed, limits are in [0, 1] and in order, and hold the ratio where it is a share."""
    rate = estimate(some)
    assert 0.0 <= rate.low <= rate.high <= 1.0
    if 0.0 <= rate.ratio <= 1.0:
        assert rate.low <= rate.ratio <= rate.high


def test_sums_of_parts_are_sums_of_the_whole() -> None:
    """Windows and daemons may be added up: nothing depends on how traces were grouped."""
    rng = random.Random(3)
    answers = [
        assessment(rng.random(), tier=1, probability=rng.choice([0.25, 0.5, 1.0]), tier0=rng.random())
        if rng.random() < 0.3
        else assessment(rng.random())
        for _ in range(500)
    ]
    parts = [sums_of(answers[i : i + 70], THRESHOLD) for i in range(0, 500, 70)]
    whole = Sums()
    for part in parts:
        whole = whole.plus(part)
    assert whole == pytest.approx(sums_of(answers, THRESHOLD))


class _Gate(NamedTuple):
    """How good tier 0 is: shares of what it gets right, and how often it is unsure."""

    recall: float
    precision: float
    unsure_wrong: float
    unsure_clean: float


GATES = {
    "good": _Gate(0.97, 0.95, 0.9, 0.1),
    "fair": _Gate(0.85, 0.80, 0.7, 0.2),
    "poor": _Gate(0.60, 0.50, 0.5, 0.3),
}
CALM = (1.0,)
OVERLOAD = (1.0, 1.0, 0.6, 0.3, 0.1, 0.03, 0.0, 0.2, 0.5, 1.0)
"""Escalation rates over the parts of a window."""

REPEATS = 4000


def _cells(rate: float, gate: _Gate) -> list[tuple[int, int, bool, float]]:
    """(tier 0 flags, dearest tier flags, tier 0 unsure, share of the traffic)."""
    hit, miss = rate * gate.recall, rate * (1 - gate.recall)
    false = hit * (1 / gate.precision - 1)
    clean = 1 - hit - miss - false
    kinds = (
        (1, 1, hit, 0.5),
        (0, 1, miss, gate.unsure_wrong),
        (1, 0, false, gate.unsure_wrong),
        (0, 0, clean, gate.unsure_clean),
    )
    return [
        (before, after, unsure, share * (part if unsure else 1 - part))
        for before, after, share, part in kinds
        for unsure in (True, False)
    ]


def _simulate(
    rng: np.random.Generator, traces: int, rate: float, gate: _Gate, escalation_rates: Sequence[float]
) -> list[Rate]:
    """Draw many windows of so many traces; the estimates of each."""
    cells = _cells(rate, gate)
    total = np.zeros((REPEATS, len(TERMS)))
    for escalation_rate in escalation_rates:
        drawn = rng.multinomial(traces // len(escalation_rates), [share for *_, share in cells], size=REPEATS)
        for (before, after, unsure, _), count in zip(cells, drawn.T, strict=True):
            probability = max(EXPLORATION_RATE, escalation_rate) if unsure else EXPLORATION_RATE
            looked = rng.binomial(count, probability)
            look = assessment(after, tier=1, probability=probability, tier0=before)
            total += np.outer(looked, sums_of([look], THRESHOLD))
            total += np.outer(count - looked, sums_of([assessment(before)], THRESHOLD))
    return [estimate(Sums(*row)) for row in total.tolist()]


def _expected_corrections(traces: int, rate: float, gate: _Gate) -> float:
    """How many audits are expected to change tier 0's verdict, each by a hundred traces."""
    wrong = rate * (1 - gate.recall) + rate * gate.recall * (1 / gate.precision - 1)
    return traces * wrong * (1 - gate.unsure_wrong) * EXPLORATION_RATE


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("escalation_rates", [CALM, OVERLOAD], ids=["calm", "overload"])
@pytest.mark.parametrize("traces", [100_000, 720_000, 4_000_000], ids=["8min", "1h", "6h"])
def test_the_interval_covers_the_rate_as_often_as_promised(
    gate: str, escalation_rates: Sequence[float], traces: int
) -> None:
    """The 95 % interval holds the true rate in 93 to 97 % of windows, at rates from 0.1 % to 20 %.

    Windows are at 200 traces/s. Where fewer than three audits are expected to change a verdict, no interval
    can be that exact without knowing how good the gate is: there it covers more often, never less.
    """
    rng = np.random.default_rng(1)
    for rate in (0.001, 0.01, 0.05, 0.2):
        found = _simulate(rng, traces, rate, GATES[gate], escalation_rates)
        coverage = sum(one.low <= rate <= one.high for one in found) / len(found)
        assert coverage >= 0.93, rate
        if _expected_corrections(traces, rate, GATES[gate]) >= 3:
            assert coverage <= 0.97, rate
        ratios = [one.ratio for one in found]
        error = np.std(ratios) / math.sqrt(len(ratios))
        assert abs(np.mean(ratios) - rate) < 4 * error


def test_naive_rates_are_wrong_and_corrected_ones_are_not() -> None:
    """With two nested higher tiers and a changing escalation rate, the mean estimate is the truth."""
    rng = random.Random(5)
    first = Cascade("d", 1)
    second = Cascade("d", 2, after=first)
    numbers = itertools.count()
    corrected_rates, naive, true, inside = [], 0, 0, 0
    windows, size = 60, 2500
    for window in range(windows):
        escalation_rates = itertools.cycle([1.0, 0.4, 0.05])
        answers = []
        risky = 0
        for number in range(size):
            if number % 100 == 0:
                first.escalation_rate = second.escalation_rate = next(escalation_rates)
            y2 = rng.random() < 0.1
            y1 = y2 if rng.random() < 0.9 else not y2
            y0 = y2 if rng.random() < 0.7 else rng.random() < 0.05
            risky += y2
            one = f"{window}-{next(numbers)}"
            p1 = first.escalate(one, unsure=y0 or rng.random() < 0.3)
            p2 = second.escalate(one, unsure=y1 or rng.random() < 0.3, reached=p1)
            if p2:
                answer = assessment(y2, tier=2, probability=p2, tier0=y0, tier1=y1, probability1=p1)
            elif p1:
                answer = assessment(y1, tier=1, probability=p1, tier0=y0)
            else:
                answer = assessment(y0)
            naive += (answer.score or 0.0) >= THRESHOLD
            answers.append(answer)
        rate = estimate(sums_of(answers, THRESHOLD))
        corrected_rates.append(rate.ratio)
        inside += rate.low <= 0.1 <= rate.high
        true += risky
    truth = true / (windows * size)
    error = float(np.std(corrected_rates)) / math.sqrt(windows)
    assert abs(float(np.mean(corrected_rates)) - truth) < 3 * error
    assert abs(naive / (windows * size) - truth) > 3 * error
    assert inside >= 0.9 * windows


def test_a_window_forgets() -> None:
    """A rate covers the last hour; a key without traces in it has none."""
    clock = ManualClock()
    window: RateWindow[str] = RateWindow(clock, seconds=60.0, steps=6)
    window.add("a", sums_of([assessment(1.0)] * 10, THRESHOLD))
    clock.advance(30.0)
    window.add("a", sums_of([assessment(0.0)] * 10, THRESHOLD))
    window.add("b", sums_of([], THRESHOLD))
    assert {key: rate.ratio for key, rate in window.rates().items()} == {"a": 0.5}
    clock.advance(35.0)
    assert window.rates()["a"].ratio == 0.0
    clock.advance(60.0)
    assert window.rates() == {}
