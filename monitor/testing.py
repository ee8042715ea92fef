"""Public fakes: test your rules, detectors and operations without a broker or worker processes.

`MemoryLog` and `MemorySource` replace Kafka, with faults in the data, `InlineDetectors` for the pool,
`ManualClock` for time. `ScriptedDetectors` finishes batches when and in the order you say; `FlakyLedger`
fails before or after the real ledger has written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from typing_extensions import override

from monitor.clock import ManualClock
from monitor.detect.inline import InlineDetectors
from monitor.engine.ports import LedgerPort, PartitionClaim, PartitionHolding
from monitor.errors import Busy, Retryable
from monitor.events import Assigned, TopicPartition
from monitor.findings import Assessment, Judgement
from monitor.outcome.transaction import Transaction
from monitor.ports import Incident, JudgedBatch, Observer, PoolStats, RedactedBatch, RedactionRequest
from monitor.privacy.redact import redact
from monitor.progress import StartPosition
from monitor.records import DeadLetter
from monitor.sources.memory import (
    BAD_BATCH,
    CRASH,
    TRUNCATE,
    Assign,
    MemoryLog,
    MemorySource,
    Revoke,
    SimulatedCrash,
    Stall,
)
from monitor.trace import Trace

__all__ = [
    "BAD_BATCH",
    "CRASH",
    "TRUNCATE",
    "Assign",
    "FlakyLedger",
    "InlineDetectors",
    "ManualClock",
    "MemoryLog",
    "MemorySource",
    "RecordingObserver",
    "Revoke",
    "ScriptedDetectors",
    "SimulatedCrash",
    "Stall",
]


class RecordingObserver(Observer):
    """Keeps the engine's reports of judgements, dead letters, incidents and load shedding."""

    def __init__(self) -> None:
        self.judgements: list[Judgement] = []
        self.letters: list[DeadLetter] = []
        self.incidents: list[tuple[Incident, str, int]] = []
        self.escalation_rates: list[float] = []

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """Keep them, in the order of recording."""
        self.judgements += judgements

    @override
    def undecodable(self, letter: DeadLetter) -> None:
        """Keep it."""
        self.letters.append(letter)

    @override
    def escalation_rate(self, rate: float) -> None:
        """Keep it."""
        self.escalation_rates.append(rate)

    @override
    def incident(self, incident: Incident, topic: str = "", partition: int = -1) -> None:
        """Keep it."""
        self.incidents.append((incident, topic, partition))


class ScriptedDetectors:
    """Detectors that finish batches only on `finish`, in the order of its calls.

    `assess` returns the assessments of one trace; at most `capacity` batches are in flight. Texts are
    redacted at once, except while `redacting` is false; with `redaction_fault` they fail with that reason.
    """

    def __init__(
        self, assess: Callable[[Trace], tuple[Assessment, ...]], *, batch_size: int = 3, capacity: int = 4
    ) -> None:
        self._assess = assess
        self._batch_size = batch_size
        self._capacity = capacity
        self.in_flight: dict[int, Sequence[Trace]] = {}
        self.ready = 1
        self.escalation_rates: list[float] = []
        self.redacting = True
        self.redaction_fault = ""
        self._finished: list[int] = []
        self._redacted: list[RedactedBatch] = []

    def start(self) -> None:
        """Nothing to load."""

    @property
    def versions(self) -> Mapping[str, str]:
        """One made-up detector."""
        return {"scripted": "1"}

    @property
    def batch_size(self) -> int:
        """As constructed."""
        return self._batch_size

    def submit(
        self, ticket: int, traces: Sequence[Trace], escalation_rate: float = 1.0, *, large: bool = False
    ) -> None:
        """Hold a batch; remember the escalation rate asked for."""
        del large  # each batch has a worker of its own
        if len(self.in_flight) >= self._capacity:
            raise Busy("scripted capacity")
        self.escalation_rates.append(escalation_rate)
        self.in_flight[ticket] = traces

    def finish(self, nth: int) -> None:
        """Finish the nth batch in flight (modulo their number); the next `collect` returns it."""
        waiting = [ticket for ticket in self.in_flight if ticket not in self._finished]
        if waiting:
            self._finished.append(waiting[nth % len(waiting)])

    def finish_all(self) -> None:
        """Finish everything in flight."""
        self._finished += [ticket for ticket in self.in_flight if ticket not in self._finished]

    def redact(self, ticket: int, requests: Sequence[RedactionRequest]) -> None:
        """Redact at once, or fail."""
        fault = self.redaction_fault
        outcomes = [fault] * len(requests) if fault else list(map(redact, requests))
        self._redacted.append(RedactedBatch(ticket, outcomes))

    def collect(self, timeout: float) -> Sequence[JudgedBatch]:
        """Return what was finished; never waits."""
        del timeout
        finished, self._finished = self._finished, []
        return [
            JudgedBatch(ticket, [self._assess(trace) for trace in self.in_flight.pop(ticket)])
            for ticket in finished
        ]

    def redacted(self) -> Sequence[RedactedBatch]:
        """Return what was redacted, unless this is held up."""
        if not self.redacting:
            return []
        redacted, self._redacted = self._redacted, []
        return redacted

    def stats(self) -> PoolStats:
        """One worker, ready unless the test sets otherwise."""
        return PoolStats(1, self.ready, len(self.in_flight), self._batch_size, {})

    def close(self) -> None:
        """Forget everything."""
        self.in_flight.clear()


class FlakyLedger:
    """Wraps a ledger; each call of `record` or `claim` takes the next fault of `faults`, if any.

    "before" raises Retryable without writing, "after" writes and raises Retryable all the same.
    """

    def __init__(self, ledger: LedgerPort) -> None:
        self._ledger = ledger
        self.faults: list[str] = []

    def claim(
        self, assigned: Assigned, *, latest: bool, waited_at: int | None = None
    ) -> PartitionClaim | StartPosition:
        """Claim, or fail first."""
        if self._next() == "before":
            raise Retryable("scripted")
        return self._ledger.claim(assigned, latest=latest, waited_at=waited_at)

    def first_look(self, ends: Mapping[TopicPartition, int]) -> None:
        """Tell the ledger."""
        self._ledger.first_look(ends)

    def alone(self, topic: str, partition: int, version: int, offset: int) -> None:
        """Tell the ledger."""
        self._ledger.alone(topic, partition, version, offset)

    def calm(self, topic: str, partition: int) -> None:
        """Tell the ledger."""
        self._ledger.calm(topic, partition)

    def give_back(self, names: Iterable[TopicPartition]) -> None:
        """Tell the ledger."""
        self._ledger.give_back(names)

    def holdings(self) -> Mapping[TopicPartition, PartitionHolding]:
        """Ask the ledger."""
        return self._ledger.holdings()

    def record(self, transaction: Transaction) -> None:
        """Write, or fail before or after."""
        fault = self._next()
        if fault == "before":
            raise Retryable("scripted")
        self._ledger.record(transaction)
        if fault == "after":
            raise Retryable("scripted, although written")

    def _next(self) -> str:
        return self.faults.pop(0) if self.faults else ""
