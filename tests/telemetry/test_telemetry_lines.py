"""The writer of the log: it never holds up who logs, and says what it lost."""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE, eventually, unhindered

from monitor.clock import SystemClock
from monitor.telemetry.lines import MOST_CHARACTERS, LineWriter
from monitor.telemetry.logging import configure

PIPE = 4096  # a page: the smallest pipe there is


class Pipe:
    """A small pipe, which its reader reads, does not read, or closes."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE)
        self.writer = LineWriter(self.writing, SystemClock())
        self.dropped: list[int] = []
        self.writer.dropped = self.dropped.append
        self._thread: threading.Thread | None = None
        self._got = bytearray()

    def read(self) -> None:
        """Begin to read all that comes."""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self.reading, 65536):
            self._got += chunk

    def leave(self) -> None:
        """Go away without having read."""
        os.close(self.reading)
        self.reading = -1

    def lines(self) -> list[str]:
        """What came so far, whole lines."""
        return self._got.decode().split("\n")[:-1]

    def close(self) -> None:
        """End both."""
        if self.reading >= 0 and self._thread is None:
            self.read()
        self.writer.close(PATIENCE)
        os.close(self.writing)
        if self._thread is not None:
            self._thread.join()
        if self.reading >= 0:
            os.close(self.reading)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that nobody reads yet."""
    with closing(Pipe()) as made:
        yield made


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=9000)))
@settings(max_examples=30, deadline=None)
def test_what_is_read_is_what_was_written(texts: list[str]) -> None:
    """Lines arrive whole and in order, also those longer than a pipe; so do those that are waited for."""
    pipe = Pipe()
    pipe.read()
    for place, text in enumerate(texts):
        if place % 3:
            pipe.writer.write(f"{place} {text}\n")
        else:
            pipe.writer.put(f"{place} {text}", PATIENCE)
    pipe.close()
    found = {int(line.partition(" ")[0]): line.partition(" ")[2] for line in pipe.lines()}
    assert [found[place] for place in range(len(texts))] == texts
    assert not pipe.dropped


def test_a_reader_that_stands_still_holds_nobody_up(pipe: Pipe) -> None:
    """Lines beyond the bound are dropped, counted while it stands still, and mentioned behind the gap."""
    configure("info", pipe.writer)
    logging.getLogger().handlers.clear()  # another test's threads may still have something to say
    log = structlog.get_logger()
    with unhindered():
        for number in range(2 * MOST_CHARACTERS // 300):
            log.info("event", count=number, reason="x" * 250)
    eventually(lambda: sum(pipe.dropped) > 1000, "the count of lost lines")
    pipe.read()
    eventually(lambda: any("log_lines_dropped" in line for line in pipe.lines()), "the word of it")
    log.info("after")
    eventually(lambda: json.loads(pipe.lines()[-1])["event"] == "after", "what is logged then")
    found = [json.loads(line) for line in pipe.lines()]
    told = [line for line in found if line["event"] == "log_lines_dropped"]
    lost = sum(pipe.dropped)
    assert sum(line["count"] for line in told) == lost
    assert len(found) - len(told) - 1 + lost == 2 * MOST_CHARACTERS // 300


def test_a_reader_that_is_gone_ends_nobody(pipe: Pipe) -> None:
    """Lines that nobody can ever read are dropped and counted; who logs hears nothing of it."""
    configure("info", pipe.writer)
    pipe.leave()
    for number in range(50):
        structlog.get_logger().info("event", count=number)
    eventually(lambda: sum(pipe.dropped) >= 50, "the count of lost lines")
    with pytest.raises(BrokenPipeError):
        pipe.writer.put("line", PATIENCE)


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK])
def test_who_must_know_learns_that_a_line_was_not_written(pipe: Pipe, flags: int) -> None:
    """`put` ends in time when nobody reads; a half-written line is ended before the next one."""
    fcntl.fcntl(pipe.writing, fcntl.F_SETFL, flags)
    with unhindered(), pytest.raises(TimeoutError):
        pipe.writer.put("x" * (PIPE + 1), 0.05)
    for line in ("queued", "also"):
        pipe.writer.write(f"{line}\n")
    with unhindered(), pytest.raises(TimeoutError):
        pipe.writer.put("late", 0.05)
    pipe.read()
    pipe.writer.put("last", PATIENCE)
    eventually(lambda: {"queued", "also", "last"} <= set(pipe.lines()), "whole lines")
    assert "late" not in pipe.lines()


def test_the_end_waits_for_what_waits_but_not_for_ever(pipe: Pipe) -> None:
    """`close` returns when all is written, or when its time is up."""
    for number in range(100):
        pipe.writer.write(f"{number} {'x' * 100}\n")
    with unhindered():
        pipe.writer.close(0.05)
    pipe.read()
    pipe.writer.close(PATIENCE)
    eventually(lambda: len(pipe.lines()) == 100, "all lines")
