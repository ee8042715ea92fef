"""Effects of judgements: rows, redaction, alerts and feedback items. Nothing is written or sent here.

A trace leaves rows only when a rule flagged it, a detector failed on it, or it was sampled; everything else
is proven by coverage.
"""

import hashlib
from collections.abc import Sequence
from operator import attrgetter

import msgspec

from monitor.config import DeliverConfig
from monitor.feedback.items import feedback_item
from monitor.findings import Action, Judgement, Status
from monitor.outcome.alerts import outgoing_for
from monitor.outcome.transaction import Kept, KeptTrace, Transaction
from monitor.outcome.verdict import verdict_of
from monitor.privacy.redact import EXCERPTS, detectors_shown, withheld
from monitor.records import FlagRow
from monitor.trace import Traffic

_status = attrgetter("status")
_FAILED = frozenset({Status.TIMEOUT, Status.ERROR})


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that decide what is kept and where it goes."""

    deliver: DeliverConfig
    sample_ratio: float


def flag_rows(judgement: Judgement, now: float) -> list[FlagRow]:
    """Return a row per flag of a trace, with its redacted texts; without any where it was not redacted."""
    trace = judgement.trace
    texts = judgement.redaction or withheld(judgement.assessments, detectors_shown(judgement))
    traffic = Traffic(**trace.identity())
    rows = []
    for flag in judgement.flags:
        concerned = tuple(a for a in judgement.assessments if a.detector in flag.detectors)
        evidence = [text for a in concerned for text in texts.excerpts.get(a.detector, ())]
        rows.append(
            FlagRow(
                flag=flag,
                origin=judgement.origin,
                trace_id=trace.id,
                time=now,
                traffic=traffic,
                assessments=concerned,
                prompt=texts.prompt,
                response=texts.response,
                evidence=tuple(evidence[:EXCERPTS]),
                error=trace.error,
            )
        )
    return rows


def why_kept(judgement: Judgement, sample_ratio: float) -> Kept | None:
    """Return why a trace's assessments are kept, or None. Sampling depends on the origin, so it repeats."""
    if judgement.flags:
        return Kept.FLAGGED
    if not _FAILED.isdisjoint(map(_status, judgement.assessments)):
        return Kept.FAILED
    if sample_ratio > 0:
        digest = hashlib.blake2b("/".join(judgement.origin.names).encode(), digest_size=4).digest()
        if int.from_bytes(digest, "big") < sample_ratio * 2**32:
            return Kept.SAMPLED
    return None


def add_effects(judgements: Sequence[Judgement], policy: Policy, now: float, into: Transaction) -> None:
    """Add all effects of judgements to the transaction `into`, except positions and coverage.

    What is added depends on the arguments alone, so that a transaction can be built again.
    """
    if policy.deliver.verdicts_topic:
        into.verdicts += [verdict_of(judgement, now) for judgement in judgements]
    for judgement in judgements:
        why = why_kept(judgement, policy.sample_ratio)
        if why is None:
            continue
        into.kept_traces.append(
            KeptTrace(
                origin=judgement.origin,
                trace_id=judgement.trace.id,
                time=now,
                why=why,
                assessments=judgement.assessments,
            )
        )
        rows = flag_rows(judgement, now) if judgement.flags else []
        into.flags += rows
        for row in rows:
            item = feedback_item(row) if Action.FEEDBACK in row.flag.actions else None
            if item is not None:
                into.feedback.append(item)
            into.outgoing += outgoing_for(row, item, policy.deliver, now)
