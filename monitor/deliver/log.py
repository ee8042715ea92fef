"""Deliver alerts to the log: one structured line each, for a place without Alertmanager."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from monitor.deliver.outbox import Delivered, Outcome
from monitor.findings import Severity
from monitor.records import Leased

_LEVELS = {
    Severity.INFO.value: logging.INFO,
    Severity.WARNING.value: logging.WARNING,
    Severity.CRITICAL.value: logging.ERROR,
}
_LABELS = ("severity", "app", "environment", "model", "detector")
_ANNOTATIONS = ("flag_id", "trace_id", "topic", "partition", "offset", "kinds", "score", "summary")


class LogSender:
    """Logs event `alert` at the level of the severity, with flat string fields that hold no trace text."""

    batch = 64
    timeout = 1.0

    def __init__(self) -> None:
        self._log = structlog.get_logger(__name__)

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Log each row."""
        for row in batch:
            level = _LEVELS.get(row.body["labels"]["severity"], logging.WARNING)
            self._log.log(level, "alert", **_fields(row.body))
        return [Delivered()] * len(batch)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _fields(alert: Mapping[str, Any]) -> dict[str, str]:
    labels, annotations = alert["labels"], alert["annotations"]
    named = {name: labels[name] for name in _LABELS if name in labels}
    noted = {name: annotations[name] for name in _ANNOTATIONS if name in annotations}
    return {"rule": labels["alertname"], **named, **noted}
