"""Verifies the audit chain again and again while a daemon runs, and counts what the ledger keeps."""

import threading
from typing import Final, Protocol

from monitor.clock import Clock, Deadline
from monitor.errors import Retryable
from monitor.ledger import reading
from monitor.ledger.store import Ledger

REST: Final = 20.0
COUNT_SECONDS: Final = 60.0
COUNTED: Final = ("flags", "feedback", "dead_letters")  # each has a small index to count


class Observer(Protocol):
    """What the auditor tells telemetry. Calls are cheap, thread-safe and never raise."""

    def kept(self, rows: dict[str, int], /) -> None:
        """Rows per table."""
        ...

    def verified(self, entries: int, problems: int, gaps: int, seconds: float) -> None:
        """A verification was completed."""
        ...


class Auditor:
    """A thread that reads the ledger. A ledger that is busy is asked again later; no result is a result.

    The first verification begins at the start, later ones `every` seconds after the last one ended, or `REST`
    times as long as that took, so that a long record does not take the engine's time; 0 means none. `turn` is
    one step, so that a test can drive it without a thread.
    """

    def __init__(self, ledger: Ledger, clock: Clock, observer: Observer, every: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._observer = observer
        self._every = every
        self._due = clock.monotonic()
        self._ended = threading.Event()
        # A daemon thread: one long query must not keep the process past its deadline.
        self._thread = threading.Thread(target=self._run, name="riskmon-auditor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """End what is under way, without a result. Idempotent, and safe before `start`."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(deadline.remaining())

    def turn(self) -> None:
        """Count, and verify when that is due."""
        try:
            self._observer.kept(reading.counts(self._ledger, *COUNTED))
            if self._every and self._clock.monotonic() >= self._due:
                began = self._clock.monotonic()
                report = reading.verify(self._ledger, self._ended.is_set)
                ended = self._clock.monotonic()
                self._due = ended + max(self._every, REST * (ended - began))
                self._observer.verified(report.entries, len(report.problems), len(report.gaps), ended - began)
        except Retryable:
            return

    def _run(self) -> None:
        while not self._ended.is_set():
            self.turn()
            self._ended.wait(min(COUNT_SECONDS, self._every or COUNT_SECONDS))
