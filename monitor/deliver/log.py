"""Deliver alerts to the log: one structured line each, for a place without Alertmanager."""

import logging
from collections.abc import Sequence

import structlog

from monitor.deliver.outbox import Delivered, Leased, Outcome
from monitor.findings import Severity

_LEVELS = {
    Severity.INFO.value: logging.INFO,
    Severity.WARNING.value: logging.WARNING,
    Severity.CRITICAL.value: logging.CRITICAL,
}


class LogSender:
    """Logs event `alert` with the alert's id, labels, annotations and start. They hold no trace text."""

    batch = 64
    timeout = 1.0

    def __init__(self) -> None:
        self._log = structlog.get_logger("monitor.alert")

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Log each row at the level of its severity."""
        for row in batch:
            labels = row.body["labels"]
            level = _LEVELS.get(labels.get("severity", ""), logging.WARNING)
            self._log.log(
                level,
                "alert",
                id=row.key,
                labels=labels,
                annotations=row.body["annotations"],
                starts_at=row.body["startsAt"],
            )
        return [Delivered()] * len(batch)

    def close(self) -> None:
        """Nothing to let go of."""
