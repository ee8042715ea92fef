"""The search for the trace of a batch that makes a detector fail. Pure decisions.

Three bounds keep a batch's time finite, whatever its detectors do:

- one `Bisection` per failed invocation narrows it down, one attempt at a time: it holds one worker at most;
- a detector that fails on `SUSPECT` single traces in a row gets the trace farthest away as a last attempt, so
  that a burst of equal traces does not condemn it; failing there too opens its `Breaker`;
- a bisection that has lost `budget` seconds gives up, even if traces in between succeed.
"""

from collections import deque
from typing import NamedTuple

from monitor.detect import invocation

_KILLED = frozenset({invocation.TIMEOUT, invocation.CRASH})


class BatchRange(NamedTuple):
    """The traces [lo, hi) of a batch."""

    lo: int
    hi: int


def split(part: BatchRange, reason: str) -> list[BatchRange]:
    """Cut a part whose invocation failed for `reason`.

    An exception costs one call, so halves find one bad trace of n in 2·log2(n) calls and keep the rest in
    large batches. A time-out or crash costs a worker, so each trace goes alone: one bad trace is met once
    more instead of log2(n) times.
    """
    lo, hi = part
    if reason in _KILLED:
        return [BatchRange(i, i + 1) for i in range(lo, hi)]
    middle = (lo + hi) // 2
    return [BatchRange(lo, middle), BatchRange(middle, hi)]


class Bisection:
    """The parts of a batch on which a failed detector is still to be tried, in order."""

    def __init__(self, budget: float, parts: tuple[BatchRange, ...] = ()) -> None:
        self._budget = budget
        self._parts = deque(parts)
        self._crashed: set[BatchRange] = set()

    def failed(self, part: BatchRange, reason: str, cost: float) -> bool:
        """Note that trying `part` failed and cost some seconds; return whether its trace is to blame.

        A single trace is to blame at once, except for a crash: that needs two, because a worker may have
        been killed from outside.
        """
        self._budget -= cost
        if part.hi - part.lo > 1:
            # In front of the others: the part known to fail is searched to its end.
            self._parts.extendleft(reversed(split(part, reason)))
            return False
        if reason == invocation.CRASH and part not in self._crashed:
            self._crashed.add(part)
            self._parts.appendleft(part)
            return False
        return True

    @property
    def exhausted(self) -> bool:
        """Return whether this search has cost more than its budget."""
        return self._budget < 0.0

    def take(self, *, far: bool) -> BatchRange | None:
        """Return the next part to try, None at the end. `far` asks for the single trace farthest away."""
        if not self._parts:
            return None
        if not far:
            return self._parts.popleft()
        # Equal traces arrive in bursts, so the farthest trace is the least like the ones that failed.
        lo, hi = self._parts.pop()
        if hi - lo > 1:
            self._parts.append(BatchRange(lo, hi - 1))
        return BatchRange(hi - 1, hi)

    def abandon(self) -> list[BatchRange]:
        """Return and forget every part that was not tried to the end."""
        parts = list(self._parts)
        self._parts.clear()
        return parts
