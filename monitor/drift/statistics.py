"""Conformal ranks of a segment's signals, and the bets against their being uniform."""

import numpy as np
import numpy.typing as npt

SCALARS = ("prompt_length", "response_length", "refusal", "latency", "output_tokens")
"""The last entries of a feature vector, each in [0, 16): log(1 + n) of a length, of milliseconds, of tokens;
16 * p for a refusal. NaN when unknown. The entries before them are the prompt's embedding, of length one."""
DIRECTIONS = 8
SIGNALS = 1 + DIRECTIONS + len(SCALARS)
"""In order: novelty, the place along each principal direction, the scalars."""
_KINDS = {"novelty": slice(0, 1), "topics": slice(1, 1 + DIRECTIONS)} | {
    name: slice(i, i + 1) for i, name in enumerate(SCALARS, 1 + DIRECTIONS)
}

BINS = 512  # ranks by bin with ties broken at random are exact, and memory stays bounded
_LEAST_P = 1e-12  # keeps a bet on a score far outside the reference finite

# A fixed bet pays e = k * p^(k-1). Its mean over a uniform p is 1, so betting wins nothing without a shift.
# Small k wins on rare strong shifts, large k on weak ones; the shift is unknown, so all are placed.
_EXPONENTS = np.asarray([0.1, 0.3, 0.5, 0.7, 0.9])
PARTS = 8  # a learning bet splits [0, 1] into these parts and bets on those that were frequent lately
_MEMORY = 0.97  # kept per trace: a bet remembers about the last 30
_PRIOR = 4.0  # weight of each part at the start, and its limit when nothing is seen
# Shares of the alarm budget: fixed bets on novelty; learning bets on novelty, on topics, on scalars. They add
# up to 1, so the mixture keeps the bound on false alarms, and no correction for many tests is needed.
_WEIGHTS = np.asarray(
    [0.4 / len(_EXPONENTS)] * len(_EXPONENTS)
    + [0.1]
    + [0.3 / DIRECTIONS] * DIRECTIONS
    + [0.2 / len(SCALARS)] * len(SCALARS)
)
BETS = len(_WEIGHTS)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class ConformalRanks:
    """Histograms of the scores so far, one per signal, among which a new score is ranked."""

    def __init__(self) -> None:
        self.histogram = np.zeros((SIGNALS, BINS), dtype=np.int64)

    def add(self, signals: Integers, bins: Integers) -> None:
        """Add one score per signal to the histograms, from the reference or after ranking."""
        self.histogram[signals, bins] += 1

    def p_values(self, signals: Integers, bins: Integers, chance: Floats) -> Floats:
        """Return the share of scores at least as high as each, ties broken by `chance`, in (0, 1).

        The score itself counts among its ties, so the p-values of exchangeable traffic are exactly uniform,
        however few scores there are.
        """
        counts = self.histogram[signals]
        above = (counts * (np.arange(BINS) > bins[:, None])).sum(axis=1)
        equal = counts[np.arange(len(signals)), bins] + 1
        # "At least as high": a small p-value means an unusually high score, such as a very novel prompt.
        p: Floats = np.maximum((above + chance * equal) / (counts.sum(axis=1) + 1), _LEAST_P)
        return p


class Bets:
    """Shiryaev-Roberts statistics of the fixed bets on novelty and of one learning bet per signal."""

    def __init__(self) -> None:
        self.learnt = np.full((SIGNALS, PARTS), _PRIOR)
        self.statistics = np.zeros(BETS)

    def place(self, signals: Integers, p: Floats) -> Floats:
        """Bet on the p-values of the known signals; return the weighted statistic of each bet."""
        rows = np.arange(len(signals))
        parts = np.minimum((p * PARTS).astype(np.int64), PARTS - 1)
        learnt = self.learnt[signals]
        # The stakes are fixed before this p-value is learnt: a bet that knew it would win without a shift.
        # PARTS times the expected share of a part is a density, so its mean over a uniform p is 1 as well.
        wins = PARTS * learnt[rows, parts] / learnt.sum(axis=1)
        # The prior returns as fast as memory fades; a bet that let a part fall to 0 could lose everything.
        learnt = _PRIOR * (1 - _MEMORY) + learnt * _MEMORY
        learnt[rows, parts] += 1
        self.learnt[signals] = learnt

        # Shiryaev-Roberts: each trace adds a stake of 1, as the shift may begin at any trace. Without a shift
        # a statistic grows by at most 1 per trace in the mean, so the mean number of traces to a false alarm
        # is at least the threshold.
        bets = len(_EXPONENTS) + signals
        self.statistics[bets] = (1 + self.statistics[bets]) * wins
        # A signal that is unknown for this trace leaves its statistics as they are: no bet, no stake.
        if len(signals) and signals[0] == 0:
            fixed = slice(0, len(_EXPONENTS))
            self.statistics[fixed] = (1 + self.statistics[fixed]) * _EXPONENTS * p[0] ** (_EXPONENTS - 1)
        weighted: Floats = self.statistics * _WEIGHTS
        return weighted


def shares_by_kind(weighted: Floats) -> dict[str, float]:
    """Return the part of the statistic due to each kind of signal, as `drift_<kind>`."""
    fixed, learning = weighted[: len(_EXPONENTS)], weighted[len(_EXPONENTS) :]
    shares = {f"drift_{kind}": float(learning[signals].sum()) for kind, signals in _KINDS.items()}
    shares["drift_novelty"] += float(fixed.sum())
    return shares
