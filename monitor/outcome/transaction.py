"""The content of one ledger transaction, and the evidence that it skipped nothing."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from operator import attrgetter

import msgspec

from monitor.events import OffsetRange, TopicPartition
from monitor.findings import Assessment, Judgement, Status
from monitor.outcome.verdict import Verdict
from monitor.progress import Mark, merge
from monitor.records import Coverage, DeadLetter, FeedbackItem, FlagRow, Outgoing
from monitor.trace import Origin

_outcome = attrgetter("detector", "status")


class Kept(StrEnum):
    """Reasons to keep the assessments of a trace."""

    FLAGGED = "flagged"
    FAILED = "failed"
    SAMPLED = "sampled"


class KeptTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The assessments of one trace, without any text."""

    origin: Origin
    trace_id: str
    time: float
    why: Kept
    assessments: tuple[Assessment, ...]


class Claimed(msgspec.Struct, frozen=True):
    """A partition's new mark, valid only if the ledger is still at this epoch and version."""

    epoch: int
    version: int
    mark: Mark
    incarnation: int = 0


class EngineVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The versions that judged: those of detectors, and the rules' hash; `id` names the combination."""

    id: str
    detectors: dict[str, str]
    rules: str

    @classmethod
    def of(cls, detectors: Mapping[str, str], rules: str) -> "EngineVersion":
        """Name a combination of detector versions and rules."""
        digest = hashlib.sha256(repr((sorted(detectors.items()), rules)).encode()).hexdigest()
        return cls(id=digest[:16], detectors=dict(detectors), rules=rules)


class Transaction(msgspec.Struct, kw_only=True):
    """Everything that one ledger transaction writes, all or nothing."""

    owner: str
    version: EngineVersion
    marks: dict[TopicPartition, Claimed]
    coverage: list[Coverage]
    flags: list[FlagRow]
    feedback: list[FeedbackItem]
    outgoing: list[Outgoing]
    verdicts: list[Verdict] = []
    kept_traces: list[KeptTrace]
    dead_letters: list[DeadLetter]
    snapshots: dict[str, bytes]


class Finished(msgspec.Struct):
    """A range of adjacent records whose traces are all recorded by this transaction.

    It grows until it is written. Offsets that hold no record, such as transaction markers, count as none.
    """

    topic: str
    partition: int
    span: OffsetRange
    records: int = 1


def coverage_of(
    finished: Sequence[Finished], judgements: Sequence[Judgement], dead: Sequence[DeadLetter]
) -> list[Coverage]:
    """Return the coverage of a transaction, one entry per partition."""
    spans: defaultdict[TopicPartition, list[OffsetRange]] = defaultdict(list)
    outcomes: defaultdict[TopicPartition, list[tuple[str, Status]]] = defaultdict(list)
    traces: Counter[TopicPartition] = Counter()
    flags: Counter[TopicPartition] = Counter()
    dead_count = Counter((letter.topic, letter.partition) for letter in dead)
    records: Counter[TopicPartition] = Counter()
    for item in finished:
        spans[item.topic, item.partition].append(item.span)
        records[item.topic, item.partition] += item.records
    for judgement in judgements:
        where = (judgement.origin.topic, judgement.origin.partition)
        traces[where] += 1
        flags[where] += len(judgement.flags)
        outcomes[where] += map(_outcome, judgement.assessments)
    return [
        Coverage(
            topic=where[0],
            partition=where[1],
            ranges=merge(spans[where]),
            records=records[where],
            dead=dead_count[where],
            traces=traces[where],
            statuses={
                f"{detector}.{status}": n for (detector, status), n in Counter(outcomes[where]).items()
            },
            flags=flags[where],
        )
        for where in sorted(spans.keys() | traces.keys())
    ]
