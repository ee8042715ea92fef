"""Load shedding: higher tiers see less while traces queue up, and more again while they do not."""

from typing import Final

from monitor.clock import Clock

TARGET_SECONDS: Final = 0.25
"""Longest time a trace may wait for a detector before the higher tiers see less."""
INTERVAL_SECONDS: Final = 0.5
_LESS: Final = 0.7  # per interval: from 1 to 0.1 in 3.5 s
_MORE: Final = 1 / 30  # per second: from 0 to 1 in half a minute
_ROOM: Final = 0.5  # of the target: below it there is room for more
_EASING: Final = 0.9  # of the wait before: below it the queue is shrinking


class LoadShedding:
    """Additive increase, multiplicative decrease of `escalation_rate` in [0, 1], by how long traces wait.

    It acts on the least wait of an interval, so a burst that is worked off within it costs nothing, and a
    standing queue is noticed at once (CoDel: Nichols and Jacobson, 2012, doi:10.1145/2208917.2209336).
    While a queue shrinks, it waits for its earlier steps to take effect.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._least = float("inf")
        self._before = 0.0
        self.escalation_rate = 1.0

    def observe(self, waiting: float) -> float:
        """Take the seconds that the oldest trace has waited (0.0: none waits); return `escalation_rate`."""
        self._least = min(self._least, waiting)
        now = self._clock.monotonic()
        elapsed = now - self._since
        if elapsed >= INTERVAL_SECONDS:
            if self._least > TARGET_SECONDS:
                if self._least > self._before * _EASING:
                    self.escalation_rate *= _LESS
            elif self._least < TARGET_SECONDS * _ROOM:
                # One observation after a long silence says nothing of the time before it.
                self.escalation_rate = min(
                    1.0, self.escalation_rate + _MORE * min(elapsed, 2 * INTERVAL_SECONDS)
                )
            self._since, self._before, self._least = now, self._least, float("inf")
        return self.escalation_rate
