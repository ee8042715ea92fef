"""Unbiased risk rates although higher tiers see selected traces only: estimate and 95 % interval.

What would the share of risky traces be, had the highest tier looked at every one of them? Tier 0 has seen
all, so its flags are counted, and each look corrects them by its result, divided by its probability p:

    z = y0 + (y1 - y0) / p        for a trace that was looked at, z = y0 for one that was not

with y = 1 where the score reaches the detector's threshold. The mean of z is unbiased whatever the gate and
the load were, because p is known and positive: the difference estimator of survey sampling (Särndal,
Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 6.3), which has a small variance where
the cheap tier is good; without y0 it is the Horvitz-Thompson estimator (1952,
doi:10.1080/01621459.1952.10483446). Where tiers are nested, each adds its own correction
(`monitor.detect.cascade`).

The interval must hold when few misses were found, each representing a hundred. So z is split into disjoint
parts: `certain` (z = 1), `found` (z > 0 otherwise: missed below, found by a look) and `refuted` (z < 0).
Each is a weighted Poisson sum with limits by Dobson et al. (1991, doi:10.1002/sim.4780100317) upon Byar's
approximation, and the three are joined by the method of variance estimates recovery (Zou and Donner, 2008,
doi:10.1002/sim.3095). Unseen events count, too: limits are widened by a fraction of one event of the weight
that looks at unseen traces would have had. Everything is a function of sums, so that Prometheus can
compute it over any range and over many daemons (`rules/prometheus`).
"""

import math
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from monitor.clock import Clock
from monitor.findings import Assessment, Status

THRESHOLD: Final = 0.5
"""A trace counts as risky from this score on, unless `telemetry.risk_thresholds` says otherwise."""

Z: Final = 1.959964  # standard normal, 97.5 %
# Unseen events added for the lower and the upper limit. 0 and 1 would be exact and too wide, 1/2 both times
# is mid-p and too narrow; with these, all of 72 simulated settings are covered (test_rates.py).
LOWER_UNSEEN: Final = 0.15
UPPER_UNSEEN: Final = 0.85

_Key = TypeVar("_Key", bound=Hashable)


class Sums(NamedTuple):
    """Sums that rates are computed from; they add up over traces, windows and daemons.

    `traces` were scored; `unseen` of them were seen by tier 0 alone, `unseen_flagged` and flagged by it.
    `certain`, `found` and `refuted` sum |z|, the `…_squares` z². `look_squares` sums (1/p - 1)² over looks,
    which divided by `unseen` is the mean weight (1/p - 1) of the unseen.
    """

    traces: float = 0.0
    unseen: float = 0.0
    unseen_flagged: float = 0.0
    certain: float = 0.0
    found: float = 0.0
    found_squares: float = 0.0
    refuted: float = 0.0
    refuted_squares: float = 0.0
    look_squares: float = 0.0

    def plus(self, other: "Sums") -> "Sums":
        """Add term by term."""
        return Sums(*map(float.__add__, self, other))


TERMS: Final = Sums._fields


class Rate(NamedTuple):
    """A rate with its 95 % interval. `ratio` is unbiased and may therefore leave [0, 1] when data are few."""

    ratio: float
    low: float
    high: float


def sums_of(assessments: Sequence[Assessment], threshold: float) -> Sums:
    """Sum up one detector's answers; those without a score do not count."""
    scored = [assessment for assessment in assessments if assessment.status is Status.SCORED]
    looks = [assessment for assessment in scored if assessment.tier]
    unseen = len(scored) - len(looks)
    flagged = sum(
        assessment.score >= threshold
        for assessment in scored
        if not assessment.tier and assessment.score is not None
    )
    certain = float(flagged)
    found = found_squares = refuted = refuted_squares = look_squares = 0.0
    for look in looks:
        value = corrected(look, threshold)
        # Certain traces are a plain count; the others are rare and each weighs 1/p, hence the squares.
        if value == 1.0:
            certain += 1.0
        elif value > 0.0:
            found += value
            found_squares += value * value
        else:
            refuted -= value
            refuted_squares += value * value
        look_squares += (1.0 / look.probability - 1.0) ** 2
    return Sums(
        float(len(scored)),
        float(unseen),
        float(flagged),
        certain,
        found,
        found_squares,
        refuted,
        refuted_squares,
        look_squares,
    )


def corrected(assessment: Assessment, threshold: float) -> float:
    """Return z of a scored trace: 0 or 1 where tier 0 decided or the look was certain, else any number."""
    score, values = assessment.score or 0.0, assessment.values
    after = float(score >= threshold)
    if not assessment.tier or (assessment.probability == 1.0):
        return after
    before = float(values["tier0"] >= threshold)
    total = before
    # Each tier corrects the one below by its own probability: the sum is unbiased although looks nest.
    for tier in range(1, assessment.tier):
        middle = values.get(f"tier{tier}")
        if middle is not None:
            total += (float(middle >= threshold) - before) / values[f"probability{tier}"]
            before = float(middle >= threshold)
    return total + (after - before) / assessment.probability


def estimate(sums: Sums) -> Rate:
    """Return the rate that the highest tier would have found, with its interval. Needs at least one trace."""
    traces, certain = sums.traces, sums.certain
    total = certain + sums.found - sums.refuted
    # Mean weight of an unseen event: among all traces, and among those flagged.
    missable = sums.look_squares / traces
    flagged = sums.unseen_flagged / certain if certain else 0.0
    refutable = sums.look_squares / sums.unseen * flagged if sums.unseen else 0.0
    parts = (
        _limits(certain, certain, 1.0),
        _limits(sums.found, sums.found_squares, missable),
        _limits(sums.refuted, sums.refuted_squares, refutable),
    )
    (a_low, a_high), (b_low, b_high), (c_low, c_high) = parts
    # Poisson sums do not know that a trace is risky at most once: their variance is too large by rate².
    squares = certain + sums.found_squares + sums.refuted_squares
    shrink = math.sqrt(max(0.0, 1.0 - total * total / (traces * squares))) if squares else 1.0
    # Errors of independent parts add up as squares; refuted ones are subtracted, so their limits swap.
    below = shrink * math.hypot(certain - a_low, sums.found - b_low, c_high - sums.refuted)
    above = shrink * math.hypot(a_high - certain, b_high - sums.found, sums.refuted - c_low)
    return Rate(
        total / traces,
        min(1.0, max(0.0, (total - below) / traces)),
        max(0.0, min(1.0, (total + above) / traces)),
    )


def _limits(total: float, squares: float, weight: float) -> tuple[float, float]:
    """Return the limits of a weighted Poisson sum whose unseen events would weigh `weight` each."""
    low, high = (
        _limit(total + unseen * weight, squares + unseen * weight * weight, sign)
        for unseen, sign in ((LOWER_UNSEEN, -1.0), (UPPER_UNSEEN, 1.0))
    )
    return low, high


def _limit(total: float, squares: float, sign: float) -> float:
    """Byar's limit, scaled: a sum with this variance is worth total² / squares events."""
    if not squares:
        return 0.0
    events = total * total / squares
    return total * max(0.0, 1.0 - 1.0 / (9.0 * events) + sign * Z / (3.0 * math.sqrt(events))) ** 3


class RateWindow(Generic[_Key]):
    """Sums of the last `seconds`, by key, to the nearest of `steps` parts of it."""

    def __init__(self, clock: Clock, seconds: float = 3600.0, steps: int = 12) -> None:
        self._clock = clock
        self._step = seconds / steps
        self._parts: deque[tuple[int, dict[_Key, Sums]]] = deque(maxlen=steps)
        self._steps = steps

    def add(self, key: _Key, sums: Sums) -> None:
        """Add sums to the current part of the window."""
        now = self._now()
        if not self._parts or self._parts[-1][0] != now:
            self._parts.append((now, {}))
        part = self._parts[-1][1]
        part[key] = part[key].plus(sums) if key in part else sums

    def rates(self) -> Mapping[_Key, Rate]:
        """Return the rate of every key with at least one scored trace in the window."""
        oldest = self._now() - self._steps
        while self._parts and self._parts[0][0] <= oldest:
            self._parts.popleft()
        by_key: defaultdict[_Key, list[Sums]] = defaultdict(list)
        for _, part in self._parts:
            for key, sums in part.items():
                by_key[key].append(sums)
        totals = {key: _total(parts) for key, parts in by_key.items()}
        return {key: estimate(sums) for key, sums in totals.items() if sums.traces}

    def _now(self) -> int:
        return int(self._clock.monotonic() // self._step)


def _total(parts: Iterable[Sums]) -> Sums:
    return Sums(*map(math.fsum, zip(*parts, strict=True)))
