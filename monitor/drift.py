"""Drift monitor: has the traffic of an app and model changed? An anytime-valid test per segment.

Each trace gives fourteen numbers: how novel its prompt is (cosine distance to the nearest prompt among the
first of the reference), where it lies along their eight principal components, lengths, refusal, latency,
tokens. Each number is ranked among all earlier ones of its kind since the reference began. As long as the
traffic is exchangeable these conformal p-values are independent and uniform (Vovk), whatever its content.
Bets against that, fixed ones on novelty and one per signal that learns, add up in Shiryaev-Roberts
statistics and are mixed (the e-detector of Shin, Ramdas and Rinaldo), so the mean number of traces to a false
alarm is at least `false_alarm_traces`, however long one watches. After an alarm a new reference is collected:
one shift alarms once.

Pure and deterministic: the same traces give the same statistics, bit for bit, also across a restore.
"""

import hashlib
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.errors import ConfigError
from monitor.findings import Assessment, Status
from monitor.trace import Trace

SCALARS = ("prompt_length", "response_length", "refusal", "latency", "output_tokens")
"""The last entries of a feature vector, each in [0, 16): log(1 + n) of a length, of milliseconds, of tokens;
16 * p for a refusal. NaN when unknown. What stands before them is the prompt's embedding, of length one."""
_DIRECTIONS = 8
_KINDS = {"novelty": slice(0, 1), "topics": slice(1, 1 + _DIRECTIONS)} | {
    name: slice(i, i + 1) for i, name in enumerate(SCALARS, 1 + _DIRECTIONS)
}
_SIGNALS = 1 + _DIRECTIONS + len(SCALARS)
OTHER = ("other", "other")

_LEAST_REFERENCE = 4 * _DIRECTIONS
_BINS = 512  # scores are ranked by bin, ties are broken at random: exact, in bounded memory
_RANGE = 16.0
_NOVELTY_SCALE = 13.0  # novelty is in [0, 1.2] in practice; the last bin takes the rest
_BETS = np.asarray(
    [0.1, 0.3, 0.5, 0.7, 0.9]
)  # e = k * p^(k-1): small k for rare strong, large for weak shifts
_PARTS = 8  # a learning bet splits [0, 1] into this many parts and bets on those seen more often of late
_MEMORY = 0.97  # per trace: it looks back over some 30
_PRIOR = 4.0  # what each part starts with, and returns to
# Shares of the alarm budget: fixed bets on novelty; learning bets on novelty, on topics, on scalars.
_WEIGHTS = np.asarray(
    [0.4 / len(_BETS)] * len(_BETS)
    + [0.1]
    + [0.3 / _DIRECTIONS] * _DIRECTIONS
    + [0.2 / len(SCALARS)] * len(SCALARS)
)
_CHUNK = 32  # reference rows per snapshot key
_FORMAT = 1

Floats = npt.NDArray[np.float64]


class _Key(NamedTuple):
    app: str
    model: str

    def digest(self) -> str:
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=8).hexdigest()


class _State(msgspec.Struct, frozen=True):
    format: int
    app: str
    model: str
    version: str
    generation: int
    rows: int
    count: int
    histogram: bytes
    learnt: bytes
    statistics: bytes


class _Rows(msgspec.Struct, frozen=True):
    format: int
    generation: int
    width: int
    rows: bytes


class _Segment:
    """The reference and the running test of one app and model."""

    def __init__(self, key: _Key, size: int, generation: int, version: str) -> None:
        self.key = key
        self.size = size
        self.generation = generation
        self.version = version
        self.rows: list[npt.NDArray[np.float16]] = []
        self.neighbours: npt.NDArray[np.float32] | None = None
        self.directions: npt.NDArray[np.float32] | None = None
        self.histogram = np.zeros((_SIGNALS, _BINS), dtype=np.int64)
        self.learnt = np.full((_SIGNALS, _PARTS), _PRIOR)
        self.statistics = np.zeros(len(_WEIGHTS))
        self.count = 0

    def collect(self, row: npt.NDArray[np.float16]) -> None:
        self.rows.append(row)
        if len(self.rows) == self.size:
            self.index()
            self._calibrate()

    def index(self) -> None:
        """Fix what prompts are measured against: the first three quarters of the reference."""
        fixed = np.stack(self.rows[: self._split()])[:, : -len(SCALARS)].astype(np.float32)
        self.neighbours = np.ascontiguousarray(fixed)
        components = np.linalg.svd(fixed - fixed.mean(axis=0), full_matrices=False)[2][:_DIRECTIONS]
        largest = components[np.arange(len(components)), np.abs(components).argmax(axis=1)]
        self.directions = np.ascontiguousarray(components * np.sign(largest)[:, None])

    def _split(self) -> int:
        return self.size - self.size // 4

    def _calibrate(self) -> None:
        """Enter the reference into the ranks; prompts that others are measured against have none."""
        for i, row in enumerate(self.rows):
            bins = self.bins(row)
            known = bins >= 0
            known[: 1 + _DIRECTIONS] &= i >= self._split()
            self.histogram[known.nonzero()[0], bins[known]] += 1

    def bins(self, row: npt.NDArray[np.float16]) -> npt.NDArray[np.int64]:
        """Return the bin of each signal, -1 where it is unknown."""
        assert self.neighbours is not None
        assert self.directions is not None
        prompt = row[: -len(SCALARS)].astype(np.float32)
        scores = np.empty(_SIGNALS)
        scores[0] = (1.0 - float((self.neighbours @ prompt).max())) * _NOVELTY_SCALE
        scores[1 : 1 + _DIRECTIONS] = (self.directions @ prompt + 1.0) * (_RANGE / 2)
        scores[1 + _DIRECTIONS :] = row[-len(SCALARS) :]
        unknown = np.isnan(scores)
        scaled = np.clip(np.where(unknown, 0.0, scores) * (_BINS / _RANGE), 0, _BINS - 1)
        return np.where(unknown, -1, scaled.astype(np.int64))

    def test(self, row: npt.NDArray[np.float16]) -> Floats:
        """Rank one trace, bet, and return the weighted statistic of each bet."""
        bins = self.bins(row)
        known = (bins >= 0).nonzero()[0]
        here = bins[known]
        counts = self.histogram[known]
        above = (counts * (np.arange(_BINS) > here[:, None])).sum(axis=1)
        equal = counts[np.arange(len(known)), here] + 1
        chance = _uniforms(self.key, self.generation, self.count)[known]
        p = np.maximum((above + chance * equal) / (counts.sum(axis=1) + 1), 1e-12)
        self.histogram[known, here] += 1
        self.count += 1

        parts = np.minimum((p * _PARTS).astype(np.int64), _PARTS - 1)
        learnt = self.learnt[known]
        wins = _PARTS * learnt[np.arange(len(known)), parts] / learnt.sum(axis=1)
        learnt = _PRIOR * (1 - _MEMORY) + learnt * _MEMORY
        learnt[np.arange(len(known)), parts] += 1
        self.learnt[known] = learnt

        bets = len(_BETS) + known
        self.statistics[bets] = (1 + self.statistics[bets]) * wins
        if len(known) and known[0] == 0:
            fixed = slice(0, len(_BETS))
            self.statistics[fixed] = (1 + self.statistics[fixed]) * _BETS * p[0] ** (_BETS - 1)
        weighted: Floats = self.statistics * _WEIGHTS
        return weighted

    def state(self) -> bytes:
        return msgspec.msgpack.encode(
            _State(
                format=_FORMAT,
                app=self.key.app,
                model=self.key.model,
                version=self.version,
                generation=self.generation,
                rows=len(self.rows),
                count=self.count,
                histogram=zlib.compress(self.histogram.astype("<u4").tobytes(), 1),
                learnt=self.learnt.astype("<f8").tobytes(),
                statistics=self.statistics.astype("<f8").tobytes(),
            )
        )

    def chunk(self, index: int) -> bytes:
        rows = np.stack(self.rows[index * _CHUNK : (index + 1) * _CHUNK])
        return msgspec.msgpack.encode(
            _Rows(_FORMAT, self.generation, rows.shape[1], rows.astype("<f2").tobytes())
        )


def _uniforms(key: _Key, generation: int, count: int) -> Floats:
    """Return one number in (0, 1) per signal, a function of the place in the stream alone."""
    seed = msgspec.msgpack.encode((key, generation, count))
    digest = hashlib.shake_128(seed).digest(8 * _SIGNALS)
    out: Floats = (np.frombuffer(digest, dtype="<u8") >> np.uint64(11)).astype(
        np.float64
    ) * 2.0**-53 + 2.0**-54
    return out


def _shares(weighted: Floats) -> dict[str, float]:
    """Return the part of the statistic that each kind of signal has, as `drift_<kind>`."""
    fixed, learning = weighted[: len(_BETS)], weighted[len(_BETS) :]
    shares = {f"drift_{kind}": float(learning[where].sum()) for kind, where in _KINDS.items()}
    shares["drift_novelty"] += float(fixed.sum())
    return shares


class DriftMonitor:
    """Keeps the test of each segment. Used from one thread.

    `reference` is how many traces a segment collects before it tests; `false_alarm_traces` the least mean
    number of traces to a false alarm per segment; beyond `max_segments` segments share the one named other.
    """

    def __init__(
        self, *, reference: int = 200, false_alarm_traces: float = 100_000.0, max_segments: int = 200
    ) -> None:
        if reference < _LEAST_REFERENCE:
            raise ConfigError(
                f"drift reference: {reference} traces are too few; give {_LEAST_REFERENCE} at least"
            )
        if false_alarm_traces <= 1:
            raise ConfigError("drift false_alarm_traces: must be above 1, e.g. 100000")
        self._reference = reference
        self._threshold = false_alarm_traces
        self._max_segments = max_segments
        self._segments: dict[_Key, _Segment] = {}
        self._dirty: set[str] = set()

    def update(self, trace: Trace, assessment: Assessment) -> Assessment:
        """Take a worker's feature vector into the test and return the assessment that rules see.

        Skipped `warming_up` until the segment's reference is full; then scored with the log of the statistic
        over the log of its threshold, and `values`: `alarm` is 1 on the one trace that raises it,
        `statistic`, `reference`, and by `drift_<kind>` the part each kind of signal has in the statistic.
        An assessment that is not scored, or has no vector, is returned as it is. Another version of the
        vector begins a new reference.
        """
        if assessment.status is not Status.SCORED or not assessment.vector:
            return assessment
        segment = self._segment(trace, assessment.version)
        row = np.frombuffer(assessment.vector, dtype="<f4").astype(np.float16)
        digest = segment.key.digest()
        self._dirty.add(f"{digest}/state")
        if segment.neighbours is None:
            self._dirty.add(f"{digest}/reference/{len(segment.rows) // _CHUNK}")
            segment.collect(row)
            return msgspec.structs.replace(
                assessment,
                status=Status.SKIPPED,
                score=None,
                reason="warming_up",
                vector=b"",
                values={**assessment.values, "reference": float(len(segment.rows))},
            )
        parts = segment.test(row)
        statistic = float(parts.sum())
        alarm = statistic >= self._threshold
        if alarm:
            self._segments[segment.key] = _Segment(
                segment.key, self._reference, segment.generation + 1, segment.version
            )
        return msgspec.structs.replace(
            assessment,
            score=min(1.0, float(np.log1p(statistic) / np.log1p(self._threshold))),
            vector=b"",
            values={
                **assessment.values,
                "alarm": float(alarm),
                "statistic": statistic,
                "reference": float(self._reference),
                **_shares(parts),
            },
        )

    def _segment(self, trace: Trace, version: str) -> _Segment:
        key = _Key(trace.app, trace.model)
        if key not in self._segments and len(self._segments) >= self._max_segments:
            key = _Key(*OTHER)
        segment = self._segments.get(key)
        if segment is None or segment.version != version:
            generation = segment.generation + 1 if segment else 0
            segment = self._segments[key] = _Segment(key, self._reference, generation, version)
        return segment

    def snapshot(self) -> dict[str, bytes]:
        """Return what changed since the last call; a later value of a key replaces an earlier one."""
        by_digest = {segment.key.digest(): segment for segment in self._segments.values()}
        found: dict[str, bytes] = {}
        for name in sorted(self._dirty):
            digest, _, part = name.partition("/")
            segment = by_digest[digest]
            if part == "state":
                found[name] = segment.state()
            elif int(part.rpartition("/")[2]) * _CHUNK < len(segment.rows):
                found[name] = segment.chunk(int(part.rpartition("/")[2]))
        self._dirty.clear()
        return found

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Replace all state by what successive snapshots left behind.

        Segments collected under another reference size begin anew. Raises ConfigError for what this version
        cannot read.
        """
        self._segments.clear()
        self._dirty.clear()
        for name, raw in sorted(snapshot.items()):
            digest, _, part = name.partition("/")
            if part == "state":
                segment = self._restored(digest, raw, snapshot)
                self._segments[segment.key] = segment

    def _restored(self, digest: str, raw: bytes, snapshot: Mapping[str, bytes]) -> _Segment:
        try:
            state = msgspec.msgpack.decode(raw, type=_State)
            if state.format != _FORMAT:
                raise ValueError("format")  # noqa: TRY301 - one message for all that cannot be read
            segment = _Segment(_Key(state.app, state.model), self._reference, state.generation, state.version)
            segment.count = state.count
            histogram = np.frombuffer(zlib.decompress(state.histogram), dtype="<u4")
            segment.histogram = histogram.reshape(_SIGNALS, _BINS).astype(np.int64)
            segment.learnt = np.frombuffer(state.learnt, dtype="<f8").reshape(_SIGNALS, _PARTS).copy()
            segment.statistics = np.frombuffer(state.statistics, dtype="<f8").reshape(len(_WEIGHTS)).copy()
            for index in range(-(-state.rows // _CHUNK)):
                chunk = msgspec.msgpack.decode(snapshot[f"{digest}/reference/{index}"], type=_Rows)
                if chunk.generation != state.generation:
                    raise ValueError("generation")  # noqa: TRY301 - see above
                rows = np.frombuffer(chunk.rows, dtype="<f2").reshape(-1, chunk.width)
                segment.rows.extend(rows)
        except (msgspec.DecodeError, ValueError, KeyError, zlib.error) as error:
            raise ConfigError(
                f"drift snapshot {digest}: cannot be read ({type(error).__name__}); delete the drift"
                " snapshots to begin with new references"
            ) from error
        if len(segment.rows) != state.rows:
            raise ConfigError(
                f"drift snapshot {digest}: incomplete; delete the drift snapshots to begin anew"
            )
        if state.rows > self._reference or (segment.histogram.any() and state.rows < self._reference):
            return _Segment(segment.key, self._reference, state.generation + 1, state.version)
        if state.rows == self._reference:
            segment.index()
        return segment
