"""A worker process as the pool holds it: started, written to and read from without ever blocking."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path

from monitor.config import PREFIX
from monitor.detect import wire

# A batch of 256 traces of 1 KiB can wait here while the worker is still busy; the kernel may cap it.
_BUFFER = 2**20
_CHUNK = 2**18
_MAX_CHUNKS = 1024  # 256 MiB in one call; a peer that sends faster than this is read again on the next turn

# One thread per worker: the pool already runs one worker per core.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "RAYON_NUM_THREADS",
    ),
    "1",
) | {"TOKENIZERS_PARALLELISM": "false"}


def _environment() -> dict[str, str]:
    """Return our environment and import path, without our settings: detectors must not see secrets."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return inherited | _ONE_THREAD | {"PYTHONPATH": path}


class WorkerProcess:
    """One child process and the pool's end of its socket.

    It runs in its own session, so a Ctrl-C in the terminal leaves it to the pool, and what it prints is
    discarded, because a library may print trace text. On Linux it is killed when the thread that created
    it ends.
    """

    def __init__(self) -> None:
        """Start it. Raises OSError when the system has no room for one more process."""
        parent_end, child_end = socket.socketpair()
        with child_end:
            for end in (parent_end, child_end):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            parent_end.setblocking(False)
            try:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "monitor.detect.worker",
                        str(child_end.fileno()),
                        str(os.getpid()),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                    pass_fds=[child_end.fileno()],
                    start_new_session=True,
                )
            except OSError:
                parent_end.close()
                raise
        self.socket = parent_end
        self.pid = self._process.pid
        self._outbox: deque[memoryview] = deque()
        self._inbox = bytearray()

    @property
    def sending(self) -> bool:
        """Return whether bytes wait to be written."""
        return bool(self._outbox)

    def send(self, payload: bytes) -> None:
        """Put a frame into the outbox and write what fits."""
        self._outbox.append(memoryview(wire.HEADER.pack(len(payload))))
        self._outbox.append(memoryview(payload))
        self.flush()

    def flush(self) -> None:
        """Write what fits. A dead worker is not noticed here but by `receive`."""
        while self._outbox:
            try:
                count = self.socket.send(self._outbox[0])
            except BlockingIOError:
                return
            except ConnectionError:
                self._outbox.clear()
                return
            if count == len(self._outbox[0]):
                self._outbox.popleft()
            else:
                self._outbox[0] = self._outbox[0][count:]

    def receive(self) -> tuple[list[bytes], bool]:
        """Return the frames that are complete, and whether the worker can say more."""
        alive = True
        for _ in range(_MAX_CHUNKS):
            try:
                chunk = self.socket.recv(_CHUNK)
            except BlockingIOError:
                break
            except ConnectionError:
                chunk = b""
            if not chunk:
                alive = False
                break
            self._inbox += chunk
        frames: list[bytes] = []
        start = 0
        while len(self._inbox) - start >= wire.HEADER.size:
            (size,) = wire.HEADER.unpack_from(self._inbox, start)
            if size > wire.MAX_FRAME:
                return frames, False
            end = start + wire.HEADER.size + size
            if len(self._inbox) < end:
                break
            frames.append(bytes(memoryview(self._inbox)[start + wire.HEADER.size : end]))
            start = end
        del self._inbox[:start]
        return frames, alive

    def kill(self) -> None:
        """Kill it and everything it started, and close the socket. It must still be reaped."""
        self._outbox.clear()
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def exit_status(self) -> int | None:
        """Reap it: exit code, or minus the signal that killed it; None while it has not ended."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Reap it within `seconds` after `kill`, if the kernel lets it go."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
