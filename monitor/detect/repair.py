"""How the pool finds the trace that makes a detector fail, and when it stops trying. Pure decisions.

Three bounds keep a batch's time finite, whatever its detectors do:

- one `Repair` per failed step narrows it down, one attempt at a time, so it holds one worker at most;
- a detector that fails on SUSPECT single traces in a row is given the trace farthest away as the last word,
  so that a burst of equal traces does not condemn it; failing there too opens its `Breaker`;
- a repair that has lost `budget` seconds gives up, even if traces in between succeed.
"""

from collections import deque
from enum import Enum
from typing import NamedTuple

from monitor.clock import Clock
from monitor.detect import step
from monitor.findings import Status

SUSPECT = 3
FIRST_COOL_DOWN = 1.0
LONGEST_COOL_DOWN = 60.0  # seconds; at the default time-out a trial then costs a third of one worker
_KILLED = frozenset({step.TIMEOUT, step.CRASH})


class Part(NamedTuple):
    """The traces [lo, hi) of a batch."""

    lo: int
    hi: int


def split(part: Part, reason: str) -> list[Part]:
    """Cut a part whose step failed for `reason`.

    An exception costs one call, so halves find one bad trace of n in 2·log2(n) calls and keep the rest in
    large batches. A time-out or crash costs a worker, so each trace goes alone: one bad trace is met once
    more instead of log2(n) times.
    """
    lo, hi = part
    if reason in _KILLED:
        return [Part(i, i + 1) for i in range(lo, hi)]
    middle = (lo + hi) // 2
    return [Part(lo, middle), Part(middle, hi)]


class Repair:
    """What is still to be tried of one failed step, in which order."""

    def __init__(self, budget: float, parts: tuple[Part, ...] = ()) -> None:
        self._budget = budget
        self._parts = deque(parts)
        self._crashed: set[Part] = set()

    def failed(self, part: Part, reason: str, cost: float) -> bool:
        """Take note that trying `part` failed and cost so many seconds; return whether its trace is to blame.

        A single trace is to blame at once, except for a crash: that needs two, because a worker may have
        been killed from outside.
        """
        self._budget -= cost
        if part.hi - part.lo > 1:
            self._parts.extendleft(reversed(split(part, reason)))
            return False
        if reason == step.CRASH and part not in self._crashed:
            self._crashed.add(part)
            self._parts.appendleft(part)
            return False
        return True

    @property
    def exhausted(self) -> bool:
        """Whether this search has cost more than its budget."""
        return self._budget < 0.0

    def take(self, *, far: bool) -> Part | None:
        """Return what to try next, None when all is done. `far` asks for the single trace farthest away."""
        if not self._parts:
            return None
        if not far:
            return self._parts.popleft()
        lo, hi = self._parts.pop()
        if hi - lo > 1:
            self._parts.append(Part(lo, hi - 1))
        return Part(hi - 1, hi)

    def abandon(self) -> list[Part]:
        """Return everything that was not tried to the end; nothing is left afterwards."""
        parts = list(self._parts)
        self._parts.clear()
        return parts


class Admission(Enum):
    """What a breaker says about a new batch."""

    RUN = "run"
    TRIAL = "trial"
    SKIP = "skip"


class Breaker:
    """Whether a detector is worth trying. Open, it is skipped until a cool-down ends; then one trace tries.

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
        """Whether nothing more should be tried now."""
        return self._open and not self._trying

    @property
    def suspicious(self) -> bool:
        """Whether the next attempt should be on the trace farthest away."""
        return self._failures >= SUSPECT

    def failed(self, status: Status) -> None:
        """A single trace failed."""
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
        """The detector answered: close."""
        self._failures = 0
        self._cool_down = 0.0
        self._open = self._trying = False
