"""The size of batches, adapted to the speed of the detectors."""

FIRST_BATCH = 16  # traces, until a speed is known
_SMOOTHING = 0.2  # weight of the newest batch in the speed


class BatchSizer:
    """Batch size that should take `target` seconds, from the smoothed seconds per trace of each detector."""

    def __init__(self, detectors: int, target: float, most: int) -> None:
        self._seconds: list[float | None] = [None] * detectors
        self._target = target
        self._most = most

    def succeeded(self, detector: int, traces: int, seconds: float) -> None:
        """Note the seconds that an invocation took."""
        last, new = self._seconds[detector], seconds / traces
        self._seconds[detector] = new if last is None else last + _SMOOTHING * (new - last)

    def timed_out(self, detector: int, traces: int) -> None:
        """Note that an invocation was too slow: the next batch is half as large.

        A batch much smaller than asked for was not too large; a single trace is to blame.
        """
        if 2 * traces <= self.batch_size():
            return
        self._seconds[detector] = max(self._seconds[detector] or 0.0, 2 * self._target / traces)

    def batch_size(self) -> int:
        """Return the size of the next batch, from 1 to the most allowed."""
        known = [seconds for seconds in self._seconds if seconds is not None]
        if not known:
            return min(FIRST_BATCH, self._most)
        return max(1, min(self._most, int(self._target / max(sum(known), self._target / self._most))))
