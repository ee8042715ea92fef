"""Alerts: the messages that leave riskmon about a flag, made by pure functions.

An alert carries identifiers, enum-like names and numbers only; no text of a trace, not even redacted. Its
labels name the kind of finding, so that Alertmanager groups and deduplicates equal ones; what
distinguishes traces is in the annotations.
"""

import re
from collections import Counter
from typing import Any, Final

from monitor.clock import rfc3339
from monitor.config import DeliverConfig
from monitor.findings import ALERT_LABELS, Action
from monitor.records import FeedbackItem, FlagRow, Outgoing
from monitor.trace import Traffic

ALERTMANAGER = "alertmanager"
LOG = "log"
FEEDBACK = "feedback"
WEBHOOK_PREFIX = "webhook:"

GROUP_BY: Final = ("alertname", "app", "environment")
"""Labels by which receivers group alerts; `docker/alertmanager.yml` says the same."""
MAX_KINDS = 10  # an alert names the most frequent kinds; the audit record has all of them
_NOT_IN_A_LABEL_NAME = re.compile(r"[^a-zA-Z0-9_]")  # Prometheus data model, label names


def alert_of(row: FlagRow, now: float, resolve_seconds: float, generator_url: str = "") -> dict[str, Any]:
    """Make the Alertmanager v2 alert of a flag: labels, annotations, startsAt, endsAt (and generatorURL).

    All values are strings. It starts when the flag was recorded, but never after `now`, because Alertmanager
    refuses an alert that ends before it starts. It ends `resolve_seconds` after `now`.
    """
    alert = {
        "labels": _labels(row),
        "annotations": _annotations(row),
        "startsAt": rfc3339(min(row.time, now)),
        "endsAt": rfc3339(now + resolve_seconds),
    }
    return alert | ({"generatorURL": generator_url} if generator_url else {})


def outgoing_for(
    row: FlagRow, item: FeedbackItem | None, deliver: DeliverConfig, now: float
) -> list[Outgoing]:
    """List what the outbox gets for a new flag: one message per destination, keyed by flag id.

    With action `alert` it goes to every alert destination configured; `item`, its feedback item if it has
    one, goes to the feedback topic. The other actions have no message.
    """
    messages: list[Outgoing] = []
    if Action.ALERT in row.flag.actions:
        body = alert_of(row, now, deliver.alertmanager.resolve_seconds)
        destinations = [
            *([ALERTMANAGER] if deliver.alertmanager.url else []),
            *(WEBHOOK_PREFIX + webhook.name for webhook in deliver.webhooks),
            *([LOG] if deliver.log else []),
        ]
        messages += [Outgoing(destination=name, key=row.flag.id, body=body) for name in destinations]
    if item is not None and deliver.feedback_topic:
        messages.append(Outgoing(destination=FEEDBACK, key=item.id, body=item.body))
    return messages


def _labels(row: FlagRow) -> dict[str, str]:
    flag = row.flag
    values = (
        flag.rule,
        flag.severity.value,
        row.traffic.app,
        row.traffic.environment,
        row.traffic.model,
        "+".join(sorted(flag.detectors)),
    )
    own = dict(zip(ALERT_LABELS, values, strict=True))
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
        **_further_traffic(row.traffic),
    }
    annotations = {_label_name(name): value for name, value in flag.annotations.items()} | own
    return {name: value for name, value in sorted(annotations.items()) if value}


def _further_traffic(traffic: Traffic) -> dict[str, str]:
    """Return the fields that identify traffic and are not labels, where the sender gave them."""
    identity = traffic.identity().items()
    return {name: value for name, value in identity if name not in ALERT_LABELS and value != "unknown"}


def kinds_of(counts: Counter[str]) -> str:
    """Name the most frequent kinds with their counts, e.g. `US_SSN x2, EMAIL x1`."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{kind} x{n}" for kind, n in ranked[:MAX_KINDS]]
    more = len(ranked) - MAX_KINDS
    return ", ".join([*named, f"{more} more"] if more > 0 else named)
