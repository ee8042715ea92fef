"""Signals in the first instant of a daemon: before its configuration is read."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import PATIENCE, eventually


@contextmanager
def starting(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A daemon that waits for its configuration, which is a pipe, and where to write it."""
    pipe = folder / "riskmon.yaml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "monitor", "run", "--config", str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        opened: list[int] = []

        def reads() -> bool:
            try:
                opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                assert process.poll() is None
                return False
            return True

        try:
            eventually(reads, "the configuration being read")
            yield process, opened[0]
        finally:
            for descriptor in opened:
                os.close(descriptor)
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Nothing runs that would have to end in order; no traceback, exit 0."""
    with starting(tmp_path) as (process, _):
        process.send_signal(number)
        output = process.communicate(timeout=PATIENCE)[0]
        assert (process.returncode, output) == (0, b"")


def test_hangup_does_not_end_it(tmp_path: Path) -> None:
    """It goes on to read its configuration, and says what is wrong with that."""
    with starting(tmp_path) as (process, pipe):
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
        os.write(pipe, b"nonsense: 1\n")
        os.set_blocking(pipe, True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), pipe)  # the end of the file
        output = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode == 78
    assert "nonsense: no such setting" in output
