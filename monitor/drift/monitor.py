"""The drift monitor: keeps the test of each segment and turns feature vectors into scores and alarms."""

from collections import OrderedDict
from collections.abc import Mapping

import msgspec
import numpy as np

from monitor.drift import snapshot as snapshots
from monitor.drift.segment import LEAST_REFERENCE, Segment, SegmentKey
from monitor.drift.statistics import shares_by_kind
from monitor.errors import ConfigError
from monitor.findings import Assessment, Status
from monitor.trace import Trace

OTHER = SegmentKey("other", "other")
"""The segment shared by all apps and models beyond `max_segments`."""
_REVISABLE = 4096  # exchanges remembered: those of which a text may come late


class DriftMonitor:
    """Keeps the test of each segment. Used from one thread.

    `reference` is the number of traces that a segment collects before it tests, and
    `false_alarm_traces` the least mean number of traces to a false alarm per segment. Beyond `max_segments`,
    all segments share the one named other.
    """

    def __init__(
        self, *, reference: int = 200, false_alarm_traces: float = 100_000.0, max_segments: int = 200
    ) -> None:
        if reference < LEAST_REFERENCE:
            raise ConfigError(
                f"drift reference: {reference} traces are too few; give {LEAST_REFERENCE} at least"
            )
        if false_alarm_traces <= 1:
            raise ConfigError("drift false_alarm_traces: must be above 1, e.g. 100000")
        self._reference = reference
        self._threshold = false_alarm_traces
        self._max_segments = max_segments
        self._segments: dict[SegmentKey, Segment] = {}
        self._dirty: set[str] = set()
        self._revisable: OrderedDict[tuple[str, str], None] = OrderedDict()

    def update(self, trace: Trace, assessment: Assessment) -> Assessment:
        """Take a worker's feature vector into the test and return the assessment that rules see.

        Skipped `warming_up` until the segment's reference is full; then scored with the log of the statistic
        over the log of its threshold, and `values`: `alarm` is 1 on the one trace that raises it,
        `statistic`, `reference`, and by `drift_<kind>` the part each kind of signal has in the statistic.
        An assessment that is not scored, or has no vector, is returned unchanged. Another version of the
        vector starts a new reference. A revision of a trace that is in the test already is skipped `revised`;
        which traces are is not stored, so after a restart a few may count twice.
        """
        if assessment.status is not Status.SCORED or not assessment.vector:
            return assessment
        if self._counted(trace):
            return msgspec.structs.replace(
                assessment, status=Status.SKIPPED, score=None, reason="revised", vector=b""
            )
        segment = self._segment(trace, assessment.version)
        # The precision of the stored reference: a restored segment must rank as if it had never stopped.
        row = np.frombuffer(assessment.vector, dtype="<f4").astype(np.float16)
        digest = segment.key.digest()
        self._dirty.add(snapshots.state_key(digest))
        if segment.neighbours is None:
            self._dirty.add(snapshots.chunk_key(digest, len(segment.rows)))
            segment.collect(row)
            return msgspec.structs.replace(
                assessment,
                status=Status.SKIPPED,
                score=None,
                reason="warming_up",
                vector=b"",
                values={**assessment.values, "reference": float(len(segment.rows))},
            )
        weighted = segment.test(row)
        # Each part is weighted by its share of the budget, so the threshold bounds the rate of false alarms.
        statistic = float(weighted.sum())
        alarm = statistic >= self._threshold
        if alarm:
            # A statistic that stayed high would alarm on every trace: collect a new reference instead.
            self._segments[segment.key] = Segment(
                segment.key, self._reference, segment.generation + 1, segment.detector_version
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
                **shares_by_kind(weighted),
            },
        )

    def _counted(self, trace: Trace) -> bool:
        """Return whether a revision's exchange is in the test, and remember one that may be revised."""
        key = (trace.trace_id, trace.span_id)
        if trace.revision and key in self._revisable:
            return True
        if trace.may_be_revised():
            self._revisable[key] = None
            if len(self._revisable) > _REVISABLE:
                self._revisable.popitem(last=False)
        return False

    def _segment(self, trace: Trace, version: str) -> Segment:
        key = SegmentKey(trace.app, trace.model)
        # Apps and models are named by the traffic: without a bound, it could fill the memory.
        if key not in self._segments and len(self._segments) >= self._max_segments:
            key = OTHER
        segment = self._segments.get(key)
        if segment is None or segment.detector_version != version:
            generation = segment.generation + 1 if segment else 0
            segment = self._segments[key] = Segment(key, self._reference, generation, version)
        return segment

    def snapshot(self) -> dict[str, bytes]:
        """Return what changed since the last call; a later value of a key replaces an earlier one."""
        by_digest = {segment.key.digest(): segment for segment in self._segments.values()}
        changed: dict[str, bytes] = {}
        for key in sorted(self._dirty):
            value = snapshots.encode(key, by_digest)
            if value is not None:
                changed[key] = value
        self._dirty.clear()
        return changed

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Replace all state by the merged content of successive snapshots.

        Segments collected under another reference size start again. Raises ConfigError for a snapshot that
        this version cannot read.
        """
        self._segments.clear()
        self._dirty.clear()
        for key in sorted(snapshot):
            digest = snapshots.state_digest(key)
            if digest is not None:
                segment = snapshots.restored(digest, snapshot, self._reference)
                self._segments[segment.key] = segment
