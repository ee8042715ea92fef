"""The only place that reads a clock. Everything else takes a `Clock`, so time is an input of every test."""

import threading
import time
from datetime import UTC, datetime
from typing import Final, Protocol

_LATEST: Final = 253_402_300_799.0  # 9999-12-31T23:59:59Z, the last second RFC 3339 can write


class Clock(Protocol):
    """Wall-clock and monotonic time, in seconds."""

    def now(self) -> float:
        """Seconds since the Unix epoch; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. Deadlines use this one."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for this long."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)


class ManualClock:
    """A clock that only `sleep` and `advance` move; thread-safe. Public, for tests of rules and detectors."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._offset = 0.0
        self._start = start

    def now(self) -> float:
        """Return the start plus all that was advanced."""
        return self._start + self._offset

    def monotonic(self) -> float:
        """Return the seconds advanced so far."""
        return self._offset

    def sleep(self, seconds: float) -> None:
        """Advance at once instead of blocking."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move time forward."""
        with self._lock:
            self._offset += seconds


class Deadline:
    """One shared end of time for a sequence of steps, e.g. every step of a shutdown."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - self._clock.monotonic())

    def expired(self) -> bool:
        """Return whether no time is left."""
        return self.remaining() <= 0.0


def rfc3339(time: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC with milliseconds; clamped to the years 1970 to 9999."""
    clamped = min(max(time, 0.0), _LATEST)
    return datetime.fromtimestamp(clamped, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
