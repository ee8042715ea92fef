"""From judgements to one ledger transaction. Pure: what is kept, redacted, alerted and fed back, and why.

A trace leaves rows only when a rule flagged it, a detector failed on it, or it was sampled; everything else
is proven by coverage.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from operator import attrgetter

import msgspec

from monitor.alerting import feedback_item, outgoing_for
from monitor.config import DeliverConfig
from monitor.findings import (
    Action,
    Assessment,
    Coverage,
    DeadLetter,
    FeedbackItem,
    FlagRow,
    Judgement,
    Outgoing,
    Span,
    Status,
)
from monitor.progress import Mark, merge
from monitor.redact import TraceRedactor
from monitor.stream import TopicPartition
from monitor.trace import Origin, SafeText
from monitor.verdict import Verdict, verdict_of

_outcome = attrgetter("detector", "status")
_status = attrgetter("status")
_FAILED = frozenset({Status.TIMEOUT, Status.ERROR})
EXCERPTS = 8  # evidence excerpts kept per flag; more would not be read


class Kept(StrEnum):
    """Why the assessments of a trace are kept."""

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


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """By what traces were judged: detector versions and the hash of the rules; `id` names the combination."""

    id: str
    detectors: dict[str, str]
    rules: str

    @classmethod
    def of(cls, detectors: Mapping[str, str], rules: str) -> "Judge":
        """Name a combination of detector versions and rules."""
        digest = hashlib.sha256(repr((sorted(detectors.items()), rules)).encode()).hexdigest()
        return cls(id=digest[:16], detectors=dict(detectors), rules=rules)


class Transaction(msgspec.Struct, kw_only=True):
    """Everything one ledger transaction writes; all of it or nothing."""

    owner: str
    judge: Judge
    marks: dict[TopicPartition, Claimed]
    coverage: list[Coverage]
    flags: list[FlagRow]
    feedback: list[FeedbackItem]
    outgoing: list[Outgoing]
    verdicts: list[Verdict] = []
    kept: list[KeptTrace]
    dead_letters: list[DeadLetter]
    snapshots: dict[str, bytes]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that decide what is kept and where it goes."""

    deliver: DeliverConfig
    excerpt_chars: int
    sample_ratio: float


class Finished(msgspec.Struct):
    """Adjacent records whose traces are all recorded by this transaction: the range they cover together.

    It grows until it is written. Offsets that hold no record, such as transaction markers, count as none.
    """

    topic: str
    partition: int
    span: Span
    records: int = 1


def coverage_of(
    finished: Sequence[Finished], judgements: Sequence[Judgement], dead: Sequence[DeadLetter]
) -> list[Coverage]:
    """Summarise per partition what a transaction finished."""
    spans: defaultdict[TopicPartition, list[Span]] = defaultdict(list)
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


def flag_rows(judgement: Judgement, now: float, excerpt_chars: int) -> list[FlagRow]:
    """Turn a trace's flags into rows, its texts redacted."""
    trace = judgement.trace
    redactor = TraceRedactor(trace, judgement.assessments)
    prompt, response = redactor.prompt(excerpt_chars), redactor.response(excerpt_chars)
    rows = []
    for flag in judgement.flags:
        concerned = tuple(a for a in judgement.assessments if a.detector in flag.detectors)
        evidence: list[SafeText] = [
            redactor.field(e.field, e.start, e.end, excerpt_chars)
            for a in concerned
            for e in a.evidence[:EXCERPTS]
        ]
        rows.append(
            FlagRow(
                flag=flag,
                origin=judgement.origin,
                trace_id=trace.id,
                time=now,
                app=trace.app,
                environment=trace.environment,
                model=trace.model,
                assessments=concerned,
                prompt=prompt,
                response=response,
                evidence=tuple(evidence[:EXCERPTS]),
            )
        )
    return rows


def why_kept(judgement: Judgement, sample_ratio: float) -> Kept | None:
    """Decide whether a trace's assessments are kept; sampling is a function of its origin, so it repeats."""
    if judgement.flags:
        return Kept.FLAGGED
    if not _FAILED.isdisjoint(map(_status, judgement.assessments)):
        return Kept.FAILED
    if sample_ratio > 0:
        digest = hashlib.blake2b("/".join(judgement.origin.names).encode(), digest_size=4).digest()
        if int.from_bytes(digest, "big") < sample_ratio * 2**32:
            return Kept.SAMPLED
    return None


def effects(judgements: Sequence[Judgement], policy: Policy, now: float, into: Transaction) -> None:
    """Add everything that judgements cause, except positions and coverage, to a transaction."""
    if policy.deliver.verdicts_topic:
        into.verdicts += [verdict_of(judgement, now) for judgement in judgements]
    for judgement in judgements:
        why = why_kept(judgement, policy.sample_ratio)
        if why is None:
            continue
        into.kept.append(
            KeptTrace(
                origin=judgement.origin,
                trace_id=judgement.trace.id,
                time=now,
                why=why,
                assessments=judgement.assessments,
            )
        )
        rows = flag_rows(judgement, now, policy.excerpt_chars) if judgement.flags else []
        into.flags += rows
        into.feedback += [feedback_item(row) for row in rows if Action.FEEDBACK in row.flag.actions]
        into.outgoing += outgoing_for(rows, policy.deliver, now)
