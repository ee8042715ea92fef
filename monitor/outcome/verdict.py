"""The verdict on one trace, published for downstream consumers: identifiers, scores, flags, no text."""

from typing import Any, Final, Literal

import msgspec

from monitor.clock import rfc3339
from monitor.findings import Evidence, Judgement, Severity, Status
from monitor.trace import Side, Traffic, Unreadable

VERDICTS: Final = "verdicts"
"""Destination of verdicts in the outbox."""


class DetectorVerdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One detector's answer.

    `score` is in [0, 1], higher is riskier, absent unless `status` is `scored`; a probability only where
    `calibrated`. `tier` is the highest that looked, `probability` how likely it was to look at this trace.
    `reason` says, from a bounded set, why there is no score.
    """

    version: str
    status: Status
    score: float | None = None
    calibrated: bool = False
    tier: int = 0
    probability: float = 1.0
    reason: str = ""


class FlagVerdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rule that fired; `id` is that of alerts and feedback items."""

    id: str
    rule: str
    version: str
    severity: Severity
    detectors: tuple[str, ...]


class VerdictOrigin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the trace was read: the `part`-th trace of a record. See `monitor.trace.Origin`."""

    topic: str
    partition: int
    offset: int
    part: int
    incarnation: int = 0


class Verdict(Traffic, frozen=True, kw_only=True, gc=False):
    """The verdict on one trace. `id` is unique per judged trace and stable over repeats of its delivery.

    `response_id` is the judged trace's own id, `trace_id` and `span_id` are W3C trace context where it had
    one; `time` is when it happened and `judged` when it was judged, both RFC 3339. `error` is the type of
    error that the exchange ended with. `unread` names the sides on which text was not read, with the reason:
    all but `truncated` make the trace blind, and its silence proves nothing about them. A `revision` above 0
    comes after an earlier verdict on the same span, which lacked a text that came later. `evidence`, by
    detector, is there only in what `riskmon scan` prints: kinds and character offsets into its fields.
    """

    schema: Literal["riskmon.verdict/1"] = "riskmon.verdict/1"
    id: str
    response_id: str
    trace_id: str
    span_id: str
    time: str
    judged: str
    conversation: str
    error: str
    unread: dict[Side, Unreadable]
    revision: int = 0
    detectors: dict[str, DetectorVerdict]
    flags: tuple[FlagVerdict, ...]
    origin: VerdictOrigin
    evidence: dict[str, tuple[Evidence, ...]] | msgspec.UnsetType = msgspec.UNSET


def verdict_of(judgement: Judgement, now: float, *, evidence: bool = False) -> Verdict:
    """Make the verdict of a judgement, with or without evidence; `now` is Unix seconds."""
    trace, origin = judgement.trace, judgement.origin
    return Verdict(
        id="/".join(origin.names),
        response_id=trace.id,
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        time=rfc3339(trace.time),
        judged=rfc3339(now),
        **trace.identity(),
        conversation=trace.conversation,
        error=trace.error,
        unread={each.side: each.reason for each in trace.unread},
        revision=trace.revision,
        detectors={
            a.detector: DetectorVerdict(
                version=a.version,
                status=a.status,
                score=a.score,
                calibrated=a.calibrated,
                tier=a.tier,
                probability=a.probability,
                reason=a.reason,
            )
            for a in judgement.assessments
        },
        flags=tuple(
            FlagVerdict(
                id=flag.id,
                rule=flag.rule,
                version=flag.rule_version,
                severity=flag.severity,
                detectors=flag.detectors,
            )
            for flag in judgement.flags
        ),
        origin=VerdictOrigin(**origin._asdict()),
        evidence={a.detector: a.evidence for a in judgement.assessments} if evidence else msgspec.UNSET,
    )


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a verdict."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Verdict)}
