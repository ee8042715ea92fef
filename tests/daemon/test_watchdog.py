"""The watchdog: a loop that hangs is noticed once, a process that stood still is spared."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest
from checkout import ROOT
from patience import PATIENCE, eventually, unhindered

from monitor.clock import ManualClock
from monitor.daemon.watchdog import EX_SOFTWARE, Watchdog


class StoppingClock(ManualClock):
    """A clock of a process that stands still for some seconds once it has been asked a number of times."""

    def __init__(self, asked: int, seconds: float) -> None:
        super().__init__()
        self._left = asked
        self._seconds = seconds

    def monotonic(self) -> float:
        """The time before the stop, if it begins now."""
        now = super().monotonic()
        self._left -= 1
        if self._left == 0:
            self.advance(self._seconds)
        return now


class Watched:
    """A watchdog over a loop that never turns, and what it did."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.passes = 0
        self.expired = threading.Event()
        self.watchdog = Watchdog(lambda: 0.0, 60.0, self.clock, self.expired.set, self._passed, check=0.01)

    def _passed(self) -> None:
        self.passes += 1

    def after(self, seconds: float) -> bool:
        """Let time pass until the thread has looked again, wholly after that; whether it found a hang."""
        self.clock.advance(seconds)
        before = self.passes
        eventually(lambda: self.passes > before + 1 or self.expired.is_set(), "a look")
        return self.expired.is_set()


@pytest.mark.parametrize(("age", "overdue"), [(59.9, False), (60.0, False), (60.1, True)])
def test_a_loop_is_overdue_after_its_limit(age: float, overdue: bool) -> None:  # noqa: FBT001 - a table of cases
    """The watchdog bites after more than its limit without a turn, not before."""
    clock = ManualClock()
    turned_at = clock.monotonic()
    watchdog = Watchdog(lambda: turned_at, 60.0, clock)
    clock.advance(age)
    assert watchdog.overdue() == overdue


def test_a_wedged_loop_expires_once_and_is_passed_no_more() -> None:
    """Looks are passed on while the loop is in time; once overdue, `expire` is called and that is all."""
    watched = Watched()
    watched.watchdog.start()
    assert [watched.after(seconds) for seconds in (0.0, 25.0, 25.0, 25.0)] == [False, False, False, True]
    watched.watchdog._thread.join(PATIENCE)
    assert not watched.watchdog._thread.is_alive()


def test_a_stopped_watchdog_expires_nobody() -> None:
    """One told to stop looks no more, however late the loop."""
    watched = Watched()
    watched.watchdog.stop()
    watched.clock.advance(1000.0)
    watched.watchdog.start()
    watched.watchdog._thread.join(PATIENCE)
    assert not watched.watchdog._thread.is_alive()
    assert not watched.expired.is_set()


def test_a_process_that_stood_still_gets_its_time_again() -> None:
    """After a stop for longer than the limit the loop is spared, unless it still does not turn."""
    watched = Watched()
    watched.watchdog.start()
    assert not watched.after(0.0)
    assert not watched.after(1000.0)
    assert [watched.after(25.0) for _ in range(3)] == [False, False, True]


def test_a_process_that_stands_still_amid_a_look_gets_its_time_again() -> None:
    """A stop that begins while the watchdog looks is one like any other."""
    watched = Watched(StoppingClock(asked=2, seconds=1000.0))  # by its start, and by its first look
    watched.watchdog.start()
    assert not watched.after(0.0)
    watched.watchdog.stop()


_WEDGED = """
import threading
from monitor.clock import SystemClock
from monitor.daemon.watchdog import Watchdog

def wedged_poll():
    clock = SystemClock()
    turned_at = clock.monotonic()
    Watchdog(lambda: turned_at, 0.5, clock).start()
    threading.Event().wait()

wedged_poll()
"""


def test_a_wedged_process_ends_with_its_stacks_on_standard_error() -> None:
    """A process whose loop blocks for ever exits 70 and names the function it hangs in."""
    with unhindered():
        done = subprocess.run(
            [sys.executable, "-c", _WEDGED],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
            cwd=ROOT,
        )
    assert done.returncode == EX_SOFTWARE
    assert "wedged_poll" in done.stderr
    assert "_watch" in done.stderr


@pytest.mark.parametrize("gone", [True, False])
def test_a_wedged_process_ends_though_nobody_reads_its_last_words(*, gone: bool) -> None:
    """A full pipe, or one whose reader is gone, as standard error cannot keep a hanging daemon alive."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(65536))
    os.set_blocking(writing, True)
    if gone:
        os.close(reading)
    with unhindered():
        done = subprocess.run(
            [sys.executable, "-c", _WEDGED], stderr=writing, check=False, timeout=2 * PATIENCE, cwd=ROOT
        )
    os.close(writing)
    if not gone:
        os.close(reading)
    assert done.returncode == EX_SOFTWARE
