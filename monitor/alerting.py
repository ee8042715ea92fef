"""What leaves riskmon about a flag: an Alertmanager alert and a feedback item, made by pure functions.

An alert carries identifiers, enum-like names and numbers only; no text of a trace, not even redacted. Its
labels name the kind of finding, so that Alertmanager groups and deduplicates equal ones; what tells one
trace from another stands in the annotations. A feedback item carries text as `SafeText` only.
"""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from monitor.config import DeliverConfig
from monitor.findings import Action, FeedbackItem, FlagRow, Outgoing

ALERTMANAGER = "alertmanager"
LOG = "log"
FEEDBACK = "feedback"
WEBHOOK_PREFIX = "webhook:"
FEEDBACK_SCHEMA = "riskmon.feedback/1"

MAX_KINDS = 10  # an alert names the most frequent kinds; the audit record has all of them
_LATEST = 253_402_300_799.0  # 9999-12-31T23:59:59Z, the last second RFC 3339 can write
_NOT_IN_A_LABEL_NAME = re.compile(r"[^a-zA-Z0-9_]")  # Prometheus data model, label names


def rfc3339(time: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC with milliseconds; clamped to the years 1970 to 9999."""
    clamped = min(max(time, 0.0), _LATEST)
    return datetime.fromtimestamp(clamped, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def alert_of(row: FlagRow, now: float, resolve_seconds: float, generator_url: str = "") -> dict[str, Any]:
    """Make the Alertmanager v2 alert of a flag: labels, annotations, startsAt, endsAt (and generatorURL).

    All values are strings. It starts when the trace happened, or at `now` if the trace claims a later time
    (Alertmanager refuses an alert that ends before it starts), and ends `resolve_seconds` after `now`.
    """
    alert = {
        "labels": _labels(row),
        "annotations": _annotations(row),
        "startsAt": rfc3339(min(row.time, now)),
        "endsAt": rfc3339(now + resolve_seconds),
    }
    return alert | ({"generatorURL": generator_url} if generator_url else {})


def feedback_item(row: FlagRow) -> FeedbackItem:
    """Make the feedback item of a flag: schema `riskmon.feedback/1`, deterministic in `row`.

    `prompt`, `completion` and `label` have the shape of TRL's unpaired preference (KTO) data; a flagged
    answer is one not to repeat, hence `label` false. `review.state` is `unreviewed` until a person decides.
    """
    flag = row.flag
    rule = f"{flag.rule}@{flag.rule_version}"
    body: dict[str, Any] = {
        "schema": FEEDBACK_SCHEMA,
        "id": flag.id,
        "created_at": rfc3339(row.time),
        "task": "unpaired_preference",
        "prompt": [{"role": "user", "content": row.prompt}],
        "completion": [{"role": "assistant", "content": row.response}],
        "label": False,
        "signals": [
            {"detector": a.detector, "version": a.version, "score": a.score, "rule": rule}
            for a in row.assessments
            if a.detector in flag.detectors
        ],
        "review": {"state": "unreviewed"},
        "privacy": {"pii": "redacted"},
        "provenance": {
            "trace_id": row.trace_id,
            "app": row.app,
            "environment": row.environment,
            "model": row.model,
            "kafka": {
                "topic": row.origin.topic,
                "partition": row.origin.partition,
                "offset": row.origin.offset,
            },
        },
    }
    return FeedbackItem(id=flag.id, body=body)


def outgoing_for(rows: Iterable[FlagRow], deliver: DeliverConfig, now: float) -> list[Outgoing]:
    """List what the outbox gets for new flags: one message per flag and destination, keyed by flag id.

    A flag with action `alert` goes to every alert destination configured, one with `feedback` to the
    feedback topic; the other actions have no message.
    """
    alert_destinations = [
        *([ALERTMANAGER] if deliver.alertmanager.url else []),
        *(WEBHOOK_PREFIX + webhook.name for webhook in deliver.webhooks),
        *([LOG] if deliver.log else []),
    ]
    messages = []
    for row in rows:
        key = row.flag.id
        if Action.ALERT in row.flag.actions:
            body = alert_of(row, now, deliver.alertmanager.resolve_seconds)
            messages += [Outgoing(destination=d, key=key, body=body) for d in alert_destinations]
        if Action.FEEDBACK in row.flag.actions and deliver.feedback_topic:
            messages.append(Outgoing(destination=FEEDBACK, key=key, body=feedback_item(row).body))
    return messages


def _labels(row: FlagRow) -> dict[str, str]:
    flag = row.flag
    own = {
        "alertname": flag.rule,
        "severity": flag.severity.value,
        "app": row.app,
        "environment": row.environment,
        "model": row.model,
        "detector": "+".join(sorted(flag.detectors)),
    }
    # A rule's labels cannot replace ours: routing would no longer show what was judged. Alertmanager takes
    # an empty value for an absent label, so absent ones are left out.
    labels = {_label_name(name): value for name, value in flag.labels.items()} | own
    return {name: value for name, value in sorted(labels.items()) if value}


def _label_name(name: str) -> str:
    clean = _NOT_IN_A_LABEL_NAME.sub("_", name)
    return clean if clean[:1].isalpha() or clean[:1] == "_" else f"_{clean}"


def _annotations(row: FlagRow) -> dict[str, str]:
    flag, origin = row.flag, row.origin
    judged = [a for a in row.assessments if a.detector in flag.detectors]
    scores = [a.score for a in judged if a.score is not None]
    own = {
        "flag_id": flag.id,
        "trace_id": row.trace_id,
        "topic": origin.topic,
        "partition": str(origin.partition),
        "offset": str(origin.offset),
        "rule_version": flag.rule_version,
        "kinds": kinds_of(Counter(e.kind for a in judged for e in a.evidence)),
        "score": f"{max(scores):.3f}" if scores else "",
        "controls": ", ".join(flag.controls),
    }
    annotations = {_label_name(name): value for name, value in flag.annotations.items()} | own
    return {name: value for name, value in sorted(annotations.items()) if value}


def kinds_of(counts: Counter[str]) -> str:
    """Name the most frequent kinds with their counts, e.g. `US_SSN x2, EMAIL x1`."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{kind} x{n}" for kind, n in ranked[:MAX_KINDS]]
    more = len(ranked) - MAX_KINDS
    return ", ".join([*named, f"{more} more"] if more > 0 else named)
