"""The circuit breaker of a detector: when the pool stops trying it, and when it tries again."""

from enum import Enum

from monitor.clock import Clock
from monitor.findings import Status

SUSPECT = 3
FIRST_COOL_DOWN = 1.0
LONGEST_COOL_DOWN = 60.0  # seconds; at the default time-out a trial then costs a third of one worker


class Admission(Enum):
    """A breaker's answer to a new batch: run the detector, try it on one trace, or skip it."""

    RUN = "run"
    TRIAL = "trial"
    SKIP = "skip"


class Breaker:
    """Decides whether to run a detector. While open, batches skip it; after a cool-down one trace tries it.

    The cool-down starts at FIRST_COOL_DOWN seconds and doubles with each trial that fails.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._cool_down = 0.0
        self._until = 0.0
        self._open = False
        self._trying = False
        self.status = Status.ERROR
        """Status of the failure that came last; traces skipped because of it bear it too."""

    def admit(self) -> Admission:
        """Decide on a new batch. The caller of a TRIAL must end in `failed` or `succeeded`."""
        if not self._open:
            return Admission.RUN
        if self._trying or self._clock.monotonic() < self._until:
            return Admission.SKIP
        self._trying = True
        return Admission.TRIAL

    @property
    def refuses(self) -> bool:
        """Return whether the pool should stop trying for now."""
        return self._open and not self._trying

    @property
    def suspicious(self) -> bool:
        """Return whether the next attempt should be on the trace farthest away."""
        return self._failures >= SUSPECT

    def failed(self, status: Status) -> None:
        """Note that a single trace failed."""
        self._failures += 1
        self.status = status
        if self._trying or self._failures > SUSPECT:
            self.trip()

    def trip(self) -> None:
        """Open, or open again after a trial. Does nothing while open."""
        if self.refuses:
            return
        self._cool_down = min(max(2 * self._cool_down, FIRST_COOL_DOWN), LONGEST_COOL_DOWN)
        self._until = self._clock.monotonic() + self._cool_down
        self._failures = max(self._failures, SUSPECT)
        self._open, self._trying = True, False

    def succeeded(self) -> None:
        """Close the breaker: the detector answered."""
        self._failures = 0
        self._cool_down = 0.0
        self._open = self._trying = False
