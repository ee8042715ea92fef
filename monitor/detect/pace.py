"""How many traces a batch should hold."""

FIRST_BATCH = 16  # traces, until a speed is known
_SMOOTHING = 0.2  # weight of the newest batch in the speed


class Pace:
    """Batch size that should take `target` seconds, from the smoothed seconds per trace of each detector."""

    def __init__(self, detectors: int, target: float, most: int) -> None:
        self._seconds: list[float | None] = [None] * detectors
        self._target = target
        self._most = most

    def took(self, detector: int, traces: int, seconds: float) -> None:
        """A step was done in so many seconds."""
        last, new = self._seconds[detector], seconds / traces
        self._seconds[detector] = new if last is None else last + _SMOOTHING * (new - last)

    def timed_out(self, detector: int, traces: int) -> None:
        """A step was too slow: let the next batch be half as large.

        A batch much smaller than asked for was not too large; a single trace is to blame.
        """
        if 2 * traces <= self.batch_size():
            return
        self._seconds[detector] = max(self._seconds[detector] or 0.0, 2 * self._target / traces)

    def batch_size(self) -> int:
        """How many traces the next batch should hold, from 1 to the most allowed."""
        known = [seconds for seconds in self._seconds if seconds is not None]
        if not known:
            return min(FIRST_BATCH, self._most)
        return max(1, min(self._most, int(self._target / max(sum(known), self._target / self._most))))
