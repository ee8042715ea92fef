"""The observer's ports to the rest of telemetry."""

from collections.abc import Sequence
from typing import Protocol

from monitor.findings import Judgement


class Log(Protocol):
    """The part of a structlog logger that the observer uses."""

    def info(self, event: str, **fields: object) -> object:
        """Log at level info."""
        ...

    def warning(self, event: str, **fields: object) -> object:
        """Log at level warning."""
        ...

    def error(self, event: str, **fields: object) -> object:
        """Log at level error."""
        ...


class Spans(Protocol):
    """Reports judged batches as spans."""

    def batch(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """Report a judged batch."""
        ...


class Evaluations(Protocol):
    """Exports evaluation events."""

    def offer(self, judgements: Sequence[Judgement], time: float) -> None:
        """Take judged traces; `time` is Unix seconds."""
        ...
