"""Bodies of webhooks: one of our alerts in a receiver's format. Pure functions.

An alert is what `monitor.outcome.alerts.alert_of` makes: labels, annotations and times, no text of a trace.
Sources: Alertmanager's webhook data (`notify/webhook` and `template.Data`, version 4), Slack's Block Kit
reference, PagerDuty's Events API v2.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from monitor.config import WebhookConfig
from monitor.outcome.alerts import GROUP_BY
from monitor.records import Leased

SCHEMA: Final = "riskmon.alert/1"
_FIRING: Final = "0001-01-01T00:00:00Z"  # Go's zero time: what Alertmanager writes while an alert has no end
_FNV_OFFSET, _FNV_PRIME = 14695981039346656037, 1099511628211
_SLACK_HEADER, _SLACK_SECTION, _SLACK_FIELD, _SLACK_FIELDS = 150, 3000, 2000, 10
_PAGERDUTY_SUMMARY: Final = 1024
_SLACK_SHOWN: Final = ("severity", "app", "environment", "model", "detector")
_SLACK_NOTED: Final = ("kinds", "score", "trace_id", "flag_id")


def body_of(config: WebhookConfig, row: Leased) -> dict[str, Any]:
    """Write an alert in the format of a webhook."""
    return _FORMATS[config.format](config, row)


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return Alertmanager's name for an alert: FNV-1a, 64 bits, of its sorted labels, each ended by 0xff."""
    value = _FNV_OFFSET
    for name in sorted(labels):
        for byte in b"".join(part.encode() + b"\xff" for part in (name, labels[name])):
            value = (value ^ byte) * _FNV_PRIME & 0xFFFF_FFFF_FFFF_FFFF
    return f"{value:016x}"


def _riskmon(_config: WebhookConfig, row: Leased) -> dict[str, Any]:
    return {"schema": SCHEMA, "id": row.key, "alert": row.body}


def _alertmanager(config: WebhookConfig, row: Leased) -> dict[str, Any]:
    labels, annotations = row.body["labels"], row.body["annotations"]
    group = {name: labels[name] for name in GROUP_BY if name in labels}
    written = ", ".join(f"{name}={json.dumps(value)}" for name, value in sorted(group.items()))
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": annotations,
        "startsAt": row.body["startsAt"],
        "endsAt": _FIRING,
        "generatorURL": row.body.get("generatorURL", ""),
        "fingerprint": fingerprint(labels),
    }
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{written}}}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": config.name,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [alert],
    }


def _slack(_config: WebhookConfig, row: Leased) -> dict[str, Any]:
    labels, annotations = row.body["labels"], row.body["annotations"]
    shown = [(name, labels.get(name)) for name in _SLACK_SHOWN]
    shown += [(name, annotations.get(name)) for name in _SLACK_NOTED]
    fields = [
        {"type": "mrkdwn", "text": f"*{name}*\n{_escaped(value)}"[:_SLACK_FIELD]}
        for name, value in shown
        if value
    ]
    title = _title(labels)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title[:_SLACK_HEADER]}},
        {"type": "section", "fields": fields[:_SLACK_FIELDS]},
    ]
    about = [annotations.get("summary", ""), annotations.get("runbook_url", "")]
    if any(about):
        text = "\n".join(_escaped(line) for line in about if line)[:_SLACK_SECTION]
        blocks.insert(1, {"type": "section", "text": {"type": "mrkdwn", "text": text}})
    return {"text": _escaped(title), "blocks": blocks}


def _pagerduty(config: WebhookConfig, row: Leased) -> dict[str, Any]:
    labels, annotations = row.body["labels"], row.body["annotations"]
    assert config.routing_key is not None  # the configuration was checked
    summary = annotations.get("summary", "")
    title = f"{_title(labels)}: {summary}" if summary else _title(labels)
    return {
        "routing_key": config.routing_key.get_secret_value(),
        "event_action": "trigger",
        "dedup_key": row.key,
        "client": "riskmon",
        "payload": {
            "summary": title[:_PAGERDUTY_SUMMARY],
            "source": labels.get("app", "riskmon"),
            "severity": labels.get("severity", "warning"),  # ours are three of PagerDuty's four
            "timestamp": row.body["startsAt"],
            "component": labels.get("model", ""),
            "group": labels.get("environment", ""),
            "class": labels["alertname"],
            "custom_details": {**labels, **annotations},
        },
    }


def _title(labels: Mapping[str, str]) -> str:
    where = " ".join(labels[name] for name in ("app", "environment") if name in labels)
    return f"[{labels.get('severity', 'warning')}] {labels['alertname']}" + (f" in {where}" if where else "")


def _escaped(text: str) -> str:
    """Escape the characters Slack would read as markup, a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_FORMATS: Final[Mapping[str, Callable[[WebhookConfig, Leased], dict[str, Any]]]] = {
    "riskmon": _riskmon,
    "alertmanager": _alertmanager,
    "slack": _slack,
    "pagerduty": _pagerduty,
}
