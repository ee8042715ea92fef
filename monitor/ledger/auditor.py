"""Verify the audit chain again and again while a daemon runs, and count what the ledger keeps."""

import threading
from typing import Final, Protocol

import structlog

from monitor.clock import Clock, Deadline
from monitor.errors import Damaged, Retryable
from monitor.ledger import queries
from monitor.ledger.store import Ledger

REST_FACTOR: Final = 20.0  # so verifying takes under 5 % of the time, however long the chain has become
COUNT_SECONDS: Final = 60.0
TURN_SECONDS: Final = 10.0  # how soon a gap shows between verifications; they run in the same thread
COUNTED: Final = ("flags", "feedback", "dead_letters")  # each has a small index to count

log = structlog.get_logger(__name__)


class AuditObserver(Protocol):
    """The auditor's reports to telemetry. Calls are cheap, thread-safe and never raise."""

    def kept(self, rows: dict[str, int], /) -> None:
        """Rows per table."""
        ...

    def gaps(self, gaps: int) -> None:
        """Ranges of offsets that are on record as never judged."""
        ...

    def verified(self, entries: int, problems: int, gaps: int, seconds: float) -> None:
        """A verification was completed."""
        ...


class Auditor:
    """A thread that reads the ledger. Retries later when the ledger is busy; a cancelled run reports nothing.

    The first verification begins at the start, later ones `every` seconds or `REST_FACTOR` times its duration
    after the last one ended, whichever is longer, so that a long chain does not take the engine's time;
    `every` 0 means none. A damaged database is a problem of the chain, too. Gaps recorded between
    verifications are counted separately. `turn` is one step, so a test can drive it without a thread.

    Rows that riskmon cannot have written may break whatever reads them. That is a problem of the chain, too,
    and does not end the thread.
    """

    def __init__(self, ledger: Ledger, clock: Clock, observer: AuditObserver, every: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._observer = observer
        self._every = every
        self._due = self._count_due = clock.monotonic()
        self._seen = self._gaps = 0  # up to which entry gaps are counted, and how many
        self._ended = threading.Event()
        # A daemon thread: one long query must not keep the process past its deadline.
        self._thread = threading.Thread(target=self._run, name="riskmon-auditor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Cancel the verification under way. Idempotent, and safe before `start`."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(deadline.remaining())

    def turn(self) -> None:
        """Count new rows and gaps, and verify when that is due."""
        began = self._clock.monotonic()
        try:
            if began >= self._count_due:
                self._observer.kept(queries.row_counts(self._ledger, *COUNTED))
                self._count_due = began + COUNT_SECONDS
            if self._every and began >= self._due:
                report = queries.verify(self._ledger, self._ended.is_set)
                ended = self._clock.monotonic()
                self._due = ended + max(self._every, REST_FACTOR * (ended - began))
                self._seen, self._gaps = report.entries, len(report.gaps)
                self._observer.verified(report.entries, len(report.problems), self._gaps, ended - began)
                return
            self._seen, new = queries.new_gaps(self._ledger, self._seen)
        except Damaged:
            self._failed(began)
            return
        except (Retryable, queries.Cancelled):
            return
        except Exception as error:  # noqa: BLE001 - or whoever alters one row ends all verification
            log.critical("audit_ended", error=type(error).__name__)
            self._failed(began)
            return
        self._gaps += new
        self._observer.gaps(self._gaps)

    def _failed(self, began: float) -> None:
        self._due = began + self._every
        self._observer.verified(0, 1, self._gaps, self._clock.monotonic() - began)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.turn()
            self._ended.wait(min(TURN_SECONDS, self._every or TURN_SECONDS))
