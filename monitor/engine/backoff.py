"""Exponential back-off for a failing ledger."""

from typing import Final

from monitor.clock import Clock

FIRST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 10.0
_DOUBLINGS: Final = 10  # more would overflow and change nothing


class Backoff:
    """`failing` from a failure on until a success, or until nothing is left to attempt.

    The first wait is FIRST_SECONDS; each further one is twice as long, MOST_SECONDS at most.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._retry_at = 0.0

    @property
    def failing(self) -> bool:
        """Return whether the last attempt failed."""
        return self._failures > 0

    @property
    def due(self) -> bool:
        """Return whether it is time for an attempt."""
        return self._clock.monotonic() >= self._retry_at

    def failed(self) -> None:
        """Wait until the next attempt, twice as long as the last time."""
        self._retry_at = self._clock.monotonic() + min(MOST_SECONDS, FIRST_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS)

    def reset(self) -> None:
        """Stop waiting: an attempt succeeded, or nothing is left to attempt."""
        self._failures, self._retry_at = 0, 0.0
