"""Notices a loop that has stopped turning, logs where it hangs, and ends the process: a restart is safe."""

import faulthandler
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import NoReturn

from monitor.clock import Clock

CHECK_SECONDS = 1.0
LAST_WORDS_SECONDS = 2.0
EX_SOFTWARE = 70  # sysexits.h


def abort() -> NoReturn:
    """Write every thread's stack to standard error (function names only) and end with status 70.

    It ends also where standard error is a pipe that nobody reads, after `LAST_WORDS_SECONDS`.
    """
    try:
        writer = threading.Thread(target=os.write, args=(sys.stderr.fileno(), _stacks()), daemon=True)
        writer.start()
        writer.join(LAST_WORDS_SECONDS)
    finally:
        os._exit(EX_SOFTWARE)


def _stacks() -> bytes:
    """Return what faulthandler says. It holds the interpreter while it writes, hence to a file of ours."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
        file.seek(0)
        return file.read()


class Watchdog:
    """A thread that calls `expire` once when `beat()` (monotonic seconds) is older than `seconds`.

    Until then it calls `passed` every `check` seconds or so, for an outside watchdog that guards the whole
    process. A check that is late by half of `seconds` shows that the whole process was stopped (SIGSTOP, a
    suspended machine) and not only its loop, which then gets its full time again.
    """

    def __init__(
        self,
        beat: Callable[[], float],
        seconds: float,
        clock: Clock,
        expire: Callable[[], object] = abort,
        passed: Callable[[], object] = lambda: None,
        check: float = CHECK_SECONDS,
    ) -> None:
        self._beat = beat
        self._seconds = seconds
        self._clock = clock
        self._expire = expire
        self._passed = passed
        self._check = check
        self._awake = float("-inf")  # since when the process runs without a stop
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="riskmon-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        self._stopped.set()

    def overdue(self) -> bool:
        """Return whether the loop has not turned for too long."""
        return self._late(self._clock.monotonic())

    def _late(self, now: float) -> bool:
        return now - max(self._beat(), self._awake) > self._seconds

    def _watch(self) -> None:
        looked = self._clock.monotonic()
        while not self._stopped.wait(self._check):
            now = self._clock.monotonic()
            if now - looked > self._check + self._seconds / 2:
                self._awake = now
            looked = now
            # With the time read above: the process may also be stopped between two reads of the clock.
            if self._late(now):
                self._expire()
                return
            self._passed()
