"""Deliver alerts to the log: one structured line each, for a place without Alertmanager."""

import logging
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import structlog

from monitor.clock import Clock, Deadline
from monitor.deliver.results import Delivered, Outcome, Reason, Result, Retry
from monitor.findings import Severity
from monitor.records import Leased

_LEVELS = {
    Severity.INFO.value: logging.INFO,
    Severity.WARNING.value: logging.WARNING,
    Severity.CRITICAL.value: logging.ERROR,
}
_LABELS = ("severity", "app", "environment", "model", "detector")
_ANNOTATIONS = ("flag_id", "trace_id", "topic", "partition", "offset", "kinds", "score", "summary")


class Lines(Protocol):
    """Where lines are written to."""

    def put(self, line: str, seconds: float) -> None:
        """Write a line before returning. Raises TimeoutError when it takes too long, else OSError."""
        ...


class LogSender:
    """Logs event `alert` at the level of the severity, with flat string fields that hold no trace text.

    With `lines`, an alert is delivered when its line is written there; without, when it was logged as any
    other event is.
    """

    batch = 64
    timeout = 2.0

    def __init__(self, clock: Clock, lines: Lines | None = None) -> None:
        self._clock = clock
        self._deadline = Deadline(clock, 0.0)
        self._lines = lines
        # structlog finishes a line and hands it to a method named after its level.
        own = SimpleNamespace(info=self._put, warning=self._put, error=self._put)
        self._log = structlog.wrap_logger(own) if lines else structlog.get_logger(__name__)

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Log each row."""
        self._deadline = Deadline(self._clock, self.timeout)
        return [self._write(row) for row in batch]

    def _write(self, row: Leased) -> Result:
        level = _LEVELS.get(row.body["labels"]["severity"], logging.WARNING)
        try:
            self._log.log(level, "alert", **_fields(row.body))
        except TimeoutError:
            return Retry(Reason.TIMEOUT)
        except OSError:
            return Retry(Reason.STREAM)
        return Delivered()

    def _put(self, line: str) -> None:
        assert self._lines is not None
        self._lines.put(line, self._deadline.remaining())

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _fields(alert: Mapping[str, Any]) -> dict[str, str]:
    labels, annotations = alert["labels"], alert["annotations"]
    named = {name: labels[name] for name in _LABELS if name in labels}
    noted = {name: annotations[name] for name in _ANNOTATIONS if name in annotations}
    return {"rule": labels["alertname"], **named, **noted}
