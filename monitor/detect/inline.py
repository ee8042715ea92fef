"""Detectors without processes: for tests of detectors and rules, and for debugging."""

from collections import Counter
from collections.abc import Mapping, Sequence

from monitor.clock import Clock, SystemClock
from monitor.detect import Detector, invocation
from monitor.errors import Busy
from monitor.findings import Assessment, Status
from monitor.ports import JudgedBatch, PoolStats, RedactedBatch, RedactionRequest
from monitor.privacy.redact import redact
from monitor.trace import Trace

_MAX_IN_FLIGHT = 2


class InlineDetectors:
    """Runs detectors in this process; fulfils `monitor.ports.Detectors`.

    Returns one assessment per trace and detector, in order, like the pool. Unlike the pool it does not
    survive a detector that hangs: the caller hangs too.
    """

    def __init__(
        self, detectors: Sequence[Detector], *, batch_size: int = 64, clock: Clock | None = None
    ) -> None:
        self._detectors = tuple(detectors)
        self._batch_size = batch_size
        self._clock = clock or SystemClock()
        self._waiting: list[tuple[int, Sequence[Trace], float]] = []
        self._redacted: list[RedactedBatch] = []
        self._decisions: Counter[tuple[str, int, str]] = Counter()

    def start(self) -> None:
        """Do nothing: the detectors are built already."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the version by detector name, in the order of assessments."""
        return {detector.name: detector.version for detector in self._detectors}

    @property
    def batch_size(self) -> int:
        """Return the fixed number of traces for the next batch."""
        return self._batch_size

    def submit(
        self, ticket: int, traces: Sequence[Trace], escalation_rate: float = 1.0, *, large: bool = False
    ) -> None:
        """Begin a batch. Raises Busy when two wait to be collected."""
        del large  # there is one worker
        if len(self._waiting) >= _MAX_IN_FLIGHT:
            raise Busy("two batches wait to be collected")
        self._waiting.append((ticket, traces, escalation_rate))

    def redact(self, ticket: int, requests: Sequence[RedactionRequest]) -> None:
        """Redact at once."""
        self._redacted.append(RedactedBatch(ticket, list(map(redact, requests))))

    def collect(self, timeout: float) -> Sequence[JudgedBatch]:
        """Judge what was submitted and return it. `timeout` cannot interrupt a detector."""
        del timeout
        waiting, self._waiting = self._waiting, []
        return [
            JudgedBatch(ticket, self._judge(traces, escalation_rate))
            for ticket, traces, escalation_rate in waiting
        ]

    def redacted(self) -> Sequence[RedactedBatch]:
        """Return what was redacted."""
        redacted, self._redacted = self._redacted, []
        return redacted

    def stats(self) -> PoolStats:
        """Return statistics of one worker that is always ready."""
        decisions = dict(self._decisions)
        return PoolStats(1, 1, len(self._waiting), self._batch_size, {}, decisions)

    def close(self) -> None:
        """Drop batches that were not collected. Idempotent."""
        self._waiting.clear()

    def _judge(self, traces: Sequence[Trace], escalation_rate: float) -> list[tuple[Assessment, ...]]:
        columns = [self._assess(detector, traces, escalation_rate) for detector in self._detectors]
        return list(zip(*columns, strict=True)) if columns else [()] * len(traces)

    def _assess(
        self, detector: Detector, traces: Sequence[Trace], escalation_rate: float
    ) -> list[Assessment]:
        if not traces:
            return []
        try:
            _, distinct, index = invocation.invoke(
                detector, detector.version, traces, self._clock, escalation_rate
            )
        except invocation.InvocationError as failure:
            if len(traces) > 1:
                return [self._assess(detector, [trace], escalation_rate)[0] for trace in traces]
            return [
                Assessment(
                    detector=detector.name,
                    version=detector.version,
                    status=Status.ERROR,
                    reason=failure.reason,
                    seconds=failure.seconds,
                )
            ]
        self._decisions.update(invocation.decisions(detector.name, invocation.tallies(detector)))
        return [distinct[place] for place in index]
