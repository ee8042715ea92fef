"""Waits for a ledger that is away, read-only or full, or denies something; systemd hears of it."""

from collections.abc import Callable
from typing import Final

from monitor.clock import Clock
from monitor.daemon.systemd import notify
from monitor.engine.backoff import Backoff
from monitor.errors import Retryable
from monitor.ledger.reader import Faults

LOOK_SECONDS: Final = 0.1  # between two looks at whether to go on waiting
START_USEC: Final = 3_600_000_000  # that systemd is asked for: a large ledger may have to be migrated
MORE_TIME: Final = f"EXTEND_TIMEOUT_USEC={START_USEC}"


class Waiting:
    """Does what needs the ledger, again and again until it works, or until `stop`."""

    def __init__(self, clock: Clock, faults: Faults, report: Callable[[bool], None]) -> None:
        self._clock = clock
        self._faults = faults
        self._report = report
        self.stopped = False

    def done(self, step: Callable[[], object]) -> bool:
        """Do a step that raises Retryable as long as it has to wait; False when told to stop before."""
        backoff = Backoff(self._clock)
        while not self.stopped:
            if backoff.due:
                notify(MORE_TIME)
                try:
                    step()
                except Retryable as error:
                    self._faults.failed(error)
                    self._report(False)
                    backoff.failed()
                    notify(f"STATUS=waits for the ledger: {error.cause}")
                else:
                    self._faults.ended()
                    self._report(True)
                    if backoff.failing:
                        notify("STATUS=")
                    return True
            self._clock.sleep(LOOK_SECONDS)
        return False

    def stop(self) -> None:
        """Wait no longer. Safe from any thread and from signal handlers."""
        self.stopped = True
