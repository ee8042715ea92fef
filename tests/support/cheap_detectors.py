"""Detectors for tests of the whole daemon: their score is written in the trace's id (see `trace_id`)."""

import os
import time
from collections.abc import Sequence

from monitor.findings import Assessment, Status
from monitor.trace import Trace

EVERY = 50


def trace_id(number: int) -> str:
    """Id of the n-th trace; every fiftieth is one that the test's rule flags."""
    return f"{'bad' if is_bad(number) else 'good'}-{number}"


def is_bad(number: int) -> bool:
    """Whether the n-th trace is to be flagged."""
    return number % EVERY == 0


class Cheap:
    """Scores by id, takes `seconds` for each trace and notes in a file what it has looked at."""

    version = "1"

    def __init__(self, name: str, seconds: float, notes: str) -> None:
        self.name = name
        self._seconds = seconds
        self._notes = notes

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Judge by id."""
        if self._seconds:
            time.sleep(self._seconds * len(traces))
        if self._notes:
            note(self._notes, [trace.id for trace in traces])
        return [
            Assessment(
                detector=self.name,
                version=self.version,
                status=Status.SCORED,
                score=1.0 if trace.id.startswith("bad-") else 0.0,
            )
            for trace in traces
        ]


def note(path: str, ids: Sequence[str]) -> None:
    """Append ids to a file that several workers share: one write, so lines stay whole."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, "".join(f"{one}\n" for one in ids).encode())
    finally:
        os.close(fd)


def build(name: str, seconds: float = 0.0, notes: str = "") -> Cheap:
    """Build one."""
    return Cheap(name, seconds, notes)
