"""Writes lines to a file descriptor without ever holding up those who log.

Whoever reads a daemon's log may stop reading, or go away: a pipe then fills, or breaks. The daemon judges on.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from monitor.clock import Clock, Deadline

MOST_CHARACTERS: Final = 4 * 2**20
"""Of the lines that wait for a reader, together; further lines are dropped and counted."""
LOOK_SECONDS: Final = 1.0  # between two reports while nobody reads
_AT_ONCE: Final = (
    select.PIPE_BUF
)  # what a pipe with room for a byte takes without blocking, pipe(7) and poll(2)

log = structlog.get_logger(__name__)


class LineWriter:
    """Lines on their way to a descriptor, written by a thread of its own.

    It is a `stream` for `monitor.telemetry.logging.configure`: `write` returns at once and raises nothing.
    `put` writes before it returns, for those who must know. Thread-safe. The thread calls `dropped` with the
    number of lines that were lost since it last did.
    """

    def __init__(self, descriptor: int, clock: Clock) -> None:
        self.dropped: Callable[[int], object] = lambda _count: None
        self._descriptor = descriptor
        self._clock = clock
        self._lines: deque[str] = deque()
        self._characters = 0
        self._lost = 0  # not reported yet
        self._untold = 0  # lost, and not mentioned in the log yet
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._torn = False
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="riskmon-log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Have a line written soon, or dropped where too many wait."""
        with self._changed:
            if self._characters + len(text) > MOST_CHARACTERS:
                self._lost += 1
            else:
                self._lines.append(text)
                self._characters += len(text)
                self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes each line as soon as it can."""

    def put(self, line: str, seconds: float) -> None:
        """Write a line now. Raises TimeoutError if nobody reads it in time, OSError if nobody can.

        After a TimeoutError a part of it may have been written.
        """
        deadline = Deadline(self._clock, seconds)
        if not self._writing.acquire(timeout=seconds):
            raise TimeoutError
        try:
            self._out(line + "\n", deadline)
        finally:
            self._writing.release()

    def close(self, seconds: float) -> None:
        """Wait until what waits is written, or until the time is up. Idempotent."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while (line := self._next()) is not None:
            try:
                with self._writing:
                    self._out(line)
            except OSError:
                with self._changed:
                    self._lost += 1
            else:
                self._mention()
            self._report()

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._ending)
            if not self._lines:
                return None
            line = self._lines.popleft()
            self._characters -= len(line)
            return line

    def _out(self, text: str, deadline: Deadline | None = None) -> None:
        rest = memoryview((("\n" if self._torn else "") + text).encode(errors="backslashreplace"))
        while rest:
            self._await_reader(deadline)
            try:
                written = os.write(self._descriptor, rest[:_AT_ONCE])
            except BlockingIOError:  # who shares the descriptor has made it non-blocking, and was faster
                continue
            rest = rest[written:]
            self._torn = bool(rest)

    def _await_reader(self, deadline: Deadline | None) -> None:
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        while not room.poll(1000 * (LOOK_SECONDS if deadline is None else deadline.remaining())):
            if deadline is not None:
                raise TimeoutError
            self._report()

    def _report(self) -> None:
        with self._changed:
            lost, self._lost = self._lost, 0
        if lost:
            self._untold += lost
            self.dropped(lost)

    def _mention(self) -> None:
        """Say in the log itself how many lines it lacks, as soon as there is room to say so."""
        self._report()
        if self._untold and self._characters < MOST_CHARACTERS // 2:
            untold, self._untold = self._untold, 0
            log.warning("log_lines_dropped", count=untold)
