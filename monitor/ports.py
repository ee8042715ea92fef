"""The engine's ports: its source, its detectors, its monitors and the observers that it reports to."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import msgspec

from monitor.events import Event, Lag, TopicPartition
from monitor.findings import Assessment, Judgement, Redaction
from monitor.records import DeadLetter
from monitor.trace import Trace

DECISIONS: Final = ("looked", "left_out", "spared")
"""Public names of the counts of `monitor.detect.cascade.Tally`, in order: escalated, suppressed, passed."""


class Source(Protocol):
    """Raw records with their positions. Used from one thread only."""

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Return what happened, waiting at most `timeout` seconds; must be called even while paused.

        Never raises for bad data. Raises Retryable when the broker refuses for now, ConfigError when it
        refuses for good (credentials, unknown topic).
        """
        ...

    def seek(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:
        """Deliver an assigned partition from `offset` on; ends a pause that OutOfRange or Stuck began.

        `leader_epoch` is that of the record before it, -1 where unknown: with it, a source that can detect
        truncation answers OutOfRange where the log was since cut off below `offset`.
        """
        ...

    def refresh(self, topic: str, partition: int) -> None:
        """Deliver an assigned partition no more and report it as `Assigned` again, looked up anew."""
        ...

    def pause(self) -> None:
        """Deliver nothing until `resume`, but for what is on its way already. Idempotent.

        Group membership is kept while `poll` is called.
        """
        ...

    def resume(self) -> None:
        """Deliver again. Idempotent."""
        ...

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing of these partitions until the next call; of all others as before. Idempotent."""
        ...

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Tell the broker the next offset per partition. Advisory: never blocks; failures are counted."""
        ...

    def lag(self) -> Sequence[Lag]:
        """Return the lag per assigned partition, without asking the broker.

        A source that sees here that offsets hold no record emits `Passed` in its next poll.
        """
        ...

    def health(self) -> Mapping[str, bool]:
        """Return the source's own readiness conditions, by name. The only method that any thread may call."""
        ...

    def close(self, positions: Mapping[TopicPartition, int], seconds: float) -> None:
        """Commit for the last time and leave, within about `seconds`. Idempotent."""
        ...


class JudgedBatch(NamedTuple):
    """Answers for one submitted batch: per trace one assessment per enabled detector, both in order."""

    ticket: int
    assessments: Sequence[tuple[Assessment, ...]]


class RedactionRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A flagged trace whose texts are to be redacted, at most `limit` characters of each.

    `detectors` are those whose evidence is shown; `assessments` hold theirs, and that of PII.
    """

    trace: Trace
    assessments: tuple[Assessment, ...]
    detectors: tuple[str, ...]
    limit: int


class RedactedBatch(NamedTuple):
    """Answers to one batch of requests, in order; a reason from a bounded set where one failed."""

    ticket: int
    redactions: Sequence[Redaction | str]


class PoolStats(NamedTuple):
    """State of the detector pool. `restarts` counts workers replaced since the start, by cause.

    `decisions` counts the decisions of the higher tiers since the start, by (detector, tier, one of
    `monitor.ports.DECISIONS`).
    """

    workers: int
    ready: int
    in_flight: int
    batch_size: int
    restarts: Mapping[str, int]
    decisions: Mapping[tuple[str, int, str], int] = MappingProxyType({})


class Completion(StrEnum):
    """Why the spans of a trace were taken as complete; `SPANS`: they are as many as are judged together."""

    ROOT = "root"
    TIMEOUT = "timeout"
    FULL = "full"
    SPANS = "spans"
    LATE = "late"
    ENDED = "ended"


@dataclass
class AssemblyStats:
    """Outcomes of spans since the start, and the spans that wait now.

    `completions` counts traces, `missing` the parts that exchanges name as missing. `late` spans came after
    their trace was complete, `late_sources` of them were retrievals and tools; `repeated` exchanges were
    judged before, or by what another instrumentation said of them. `foreign` traces held nothing of a
    language model, `foreign_spans` counts spans that look so by their scope. `revised` counts exchanges whose
    text came after they had been judged without it by application, `revised_seconds` sums how long after.
    """

    completions: Counter[Completion] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    foreign_spans: Counter[str] = field(default_factory=Counter)
    revised: Counter[str] = field(default_factory=Counter)
    revised_seconds: float = 0.0
    late: int = 0
    late_sources: int = 0
    repeated: int = 0
    foreign: int = 0
    waiting_traces: int = 0
    waiting_bytes: int = 0


class Detectors(Protocol):
    """Runs detectors over batches. Used from one thread only."""

    def start(self) -> None:
        """Start and wait until models are loaded. Raises ConfigError when a detector cannot be built."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the version of each detector, in the order of assessments. Known after `start`."""
        ...

    @property
    def batch_size(self) -> int:
        """Return how many traces the next batch should hold."""
        ...

    def submit(
        self, ticket: int, traces: Sequence[Trace], escalation_rate: float = 1.0, *, large: bool = False
    ) -> None:
        """Begin a batch. Raises Busy when no more can be in flight; the caller keeps the batch.

        `large`: it may take seconds, so it must not keep all workers from other batches; it has a place of
        its own in flight. `escalation_rate` in [0, 1]: probability that a trace a lower tier is unsure of
        reaches a higher one.
        """
        ...

    def redact(self, ticket: int, requests: Sequence[RedactionRequest]) -> None:
        """Begin to redact flagged traces, before any other work. `ticket` is no batch's that is in flight."""
        ...

    def collect(self, timeout: float) -> Sequence[JudgedBatch]:
        """Return finished batches, waiting at most `timeout` seconds for the first, or for a redaction."""
        ...

    def redacted(self) -> Sequence[RedactedBatch]:
        """Return finished redactions; never waits."""
        ...

    def stats(self) -> PoolStats:
        """Current state."""
        ...

    def close(self) -> None:
        """Stop all workers at once. Idempotent."""
        ...


class Monitor(Protocol):
    """The stateful side of a detector: sees its assessment of every trace, and is asked for its state."""

    def update(self, trace: Trace, assessment: Assessment) -> Assessment:
        """Take a worker's assessment; return the final one."""
        ...

    def snapshot(self) -> Mapping[str, bytes]:
        """Return the state changed since the last call, by name; written with the traces that changed it."""
        ...

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Replace all state by the union of successive snapshots. Raises ConfigError."""
        ...


class Stage(StrEnum):
    """Places where traces wait."""

    DECODED = "decoded"
    DETECTING = "detecting"
    RECORDING = "recording"


class Incident(StrEnum):
    """Things that happen to the engine and are counted."""

    FENCED = "fenced"
    GAP = "gap"
    STUCK = "stuck"
    RECREATED = "recreated"
    TRUNCATED = "truncated"
    LEDGER_BEHIND = "ledger_behind"
    MOVED = "moved"
    SUSPECTED = "suspected"
    LEDGER_RETRY = "ledger_retry"
    SOURCE_RETRY = "source_retry"


class Observer:
    """Base of the engine's observers; each report does nothing unless overridden.

    Called from the engine's thread. Overrides are cheap, never raise and never block.
    """

    def turned(self) -> None:
        """The loop has turned once."""

    def consumed(self, topic: str, records: int) -> None:
        """Records were taken from the source; from now on the engine must record or release them."""

    def dead_lettered(self, topic: str, reason: str, records: int) -> None:
        """Dead letters are durable in the ledger."""

    def recorded(self, topic: str, records: int) -> None:
        """Records whose traces are all judged are durable in the ledger."""

    def skipped(self, topic: str, reason: str, records: int) -> None:
        """Recorded records that held nothing to judge; `reason` is that of `Skipped`."""

    def times_replaced(self, topic: str, items: int) -> None:
        """Traces and spans of a record had times that cannot be: they count from its arrival."""

    def released(self, topic: str, records: int) -> None:
        """Taken records go back unjudged: their partition was revoked, or the time to drain ran out."""

    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """A transaction's judgements are durable; `started`/`ended` are Unix seconds of its detect stage."""

    def transaction(self, seconds: float) -> None:
        """A ledger transaction was written."""

    def rule_failed(self, rule: str) -> None:
        """A rule could not be evaluated on a trace, so its result for that trace is unknown."""

    def lag(self, lags: Sequence[Lag]) -> None:
        """Lag of every assigned partition."""

    def ledger(self, *, writable: bool) -> None:
        """Report whether the last write to the ledger succeeded; a failed one is held and retried."""

    def waiting(self, stage: Stage, traces: int) -> None:
        """Report how many traces wait in a stage."""

    def pool(self, stats: PoolStats) -> None:
        """State of the detector pool."""

    def escalation_rate(self, rate: float) -> None:
        """Current load-shedding level: 1 sheds nothing, 0 all that may be shed; reported when idle too."""

    def assembly(self, stats: AssemblyStats) -> None:
        """State of the assembly of spans into traces."""

    def redaction_failed(self, reason: str) -> None:
        """The texts of a flagged trace could not be redacted, so none of them is kept."""

    def incident(self, incident: Incident, topic: str = "", partition: int = -1) -> None:
        """Something to count, and to log when it is about a partition."""

    def rules_loaded(self, version: str, *, ok: bool) -> None:
        """Rules were (re)loaded, or failed to and the last good set stays."""

    def undecodable(self, letter: DeadLetter) -> None:
        """A record could not be decoded; its dead letter is staged and not durable yet."""

    def messages_queued(self) -> None:
        """A transaction with messages for the outside is durable: the outbox has work."""

    def reload_requested(self) -> None:
        """A reload was asked for, and the rule files were read again."""


class Observers(Observer):
    """Passes each report on to several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        for name, no_op in vars(Observer).items():
            if name.startswith("_"):
                continue
            # Skip observers that do not override a report: the engine reports often.
            calls = [getattr(each, name) for each in observers if getattr(type(each), name) is not no_op]
            if calls:
                setattr(self, name, calls[0] if len(calls) == 1 else partial(_call_all, calls))


def _call_all(calls: Sequence[Callable[..., None]], *args: object, **kwargs: object) -> None:
    for call in calls:
        call(*args, **kwargs)
