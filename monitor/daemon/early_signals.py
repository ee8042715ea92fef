"""Signals that a daemon gets before it exists: SIGHUP waits for it, SIGTERM and SIGINT end the process."""

import signal
import sys
from types import FrameType

_waiting: list[int] = []


def hold() -> None:
    """Handle signals from now on, until the daemon does. Without this SIGHUP would end the process."""
    signal.signal(signal.SIGHUP, lambda number, _frame: _waiting.append(number))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def take() -> bool:
    """Return whether SIGHUP came meanwhile, and forget it."""
    came = bool(_waiting)
    _waiting.clear()
    return came


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)  # nothing runs yet that would have to end in order
