"""One app and model: its reference, the signals of a trace measured against it, and its running test."""

import hashlib
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.drift.statistics import (
    BINS,
    DIRECTIONS,
    SCALARS,
    SIGNALS,
    Bets,
    ConformalRanks,
    Floats,
    Integers,
)

LEAST_REFERENCE = 4 * DIRECTIONS
_RANGE = 16.0
_NOVELTY_SCALE = 13.0  # spreads novelty, in practice in [0, 1.2], over the bins; the last takes the rest

Row = npt.NDArray[np.float16]


class SegmentKey(NamedTuple):
    """The app and model of a segment."""

    app: str
    model: str

    def digest(self) -> str:
        """Return the name of the segment in snapshots."""
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=8).hexdigest()


class Segment:
    """The reference and the running test of one app and model."""

    def __init__(self, key: SegmentKey, reference_size: int, generation: int, detector_version: str) -> None:
        self.key = key
        self.reference_size = reference_size
        self.generation = generation
        self.detector_version = detector_version
        self.rows: list[Row] = []
        self.neighbours: npt.NDArray[np.float32] | None = None
        self.directions: npt.NDArray[np.float32] | None = None
        self.ranks = ConformalRanks()
        self.bets = Bets()
        self.tested = 0  # traces since the reference was full

    def collect(self, row: Row) -> None:
        """Add a trace to the reference; the last one starts the test."""
        self.rows.append(row)
        if len(self.rows) == self.reference_size:
            self.fit_reference()
            self._calibrate()

    def fit_reference(self) -> None:
        """Fix the prompts to measure others against: the first three quarters of the reference."""
        fixed = np.stack(self.rows[: self._split()])[:, : -len(SCALARS)].astype(np.float32)
        self.neighbours = np.ascontiguousarray(fixed)
        components = np.linalg.svd(fixed - fixed.mean(axis=0), full_matrices=False)[2][:DIRECTIONS]
        # The sign of a principal component is arbitrary: fixed here, or a restore could flip a signal.
        largest = components[np.arange(len(components)), np.abs(components).argmax(axis=1)]
        self.directions = np.ascontiguousarray(components * np.sign(largest)[:, None])

    def _split(self) -> int:
        return self.reference_size - self.reference_size // 4

    def _calibrate(self) -> None:
        """Add the reference to the ranks, without the prompts of its first three quarters.

        Those are their own nearest neighbours: they would rank as less novel than any later prompt, and every
        later prompt would look like a shift. Their other signals are exchangeable and are added.
        """
        for i, row in enumerate(self.rows):
            bins = self._bins(row)
            known = bins >= 0
            known[: 1 + DIRECTIONS] &= i >= self._split()
            self.ranks.add(known.nonzero()[0], bins[known])

    def _bins(self, row: Row) -> Integers:
        """Return the bin of each signal, -1 where it is unknown."""
        assert self.neighbours is not None
        assert self.directions is not None
        prompt = row[: -len(SCALARS)].astype(np.float32)
        scores = np.empty(SIGNALS)
        scores[0] = (1.0 - float((self.neighbours @ prompt).max())) * _NOVELTY_SCALE
        scores[1 : 1 + DIRECTIONS] = (self.directions @ prompt + 1.0) * (_RANGE / 2)
        scores[1 + DIRECTIONS :] = row[-len(SCALARS) :]
        unknown = np.isnan(scores)
        scaled = np.clip(np.where(unknown, 0.0, scores) * (BINS / _RANGE), 0, BINS - 1)
        return np.where(unknown, -1, scaled.astype(np.int64))

    def test(self, row: Row) -> Floats:
        """Rank one trace, bet, and return the weighted statistic of each bet."""
        bins = self._bins(row)
        known = (bins >= 0).nonzero()[0]
        chance = _uniforms(self.key, self.generation, self.tested)[known]
        p = self.ranks.p_values(known, bins[known], chance)
        # Only now: a p-value is uniform if the score is ranked among the earlier ones and itself.
        self.ranks.add(known, bins[known])
        self.tested += 1
        return self.bets.place(known, p)


def _uniforms(key: SegmentKey, generation: int, tested: int) -> Floats:
    """Return one number in (0, 1) per signal, a function of the place in the stream alone.

    The random numbers break ties of the ranks. A generator would have state to keep in every snapshot.
    """
    seed = msgspec.msgpack.encode((key, generation, tested))
    digest = hashlib.shake_128(seed).digest(8 * SIGNALS)
    # The upper 53 bits are a double's mantissa; half a step added keeps 0 out.
    mantissas = (np.frombuffer(digest, dtype="<u8") >> np.uint64(11)).astype(np.float64)
    uniforms: Floats = mantissas * 2.0**-53 + 2.0**-54
    return uniforms
