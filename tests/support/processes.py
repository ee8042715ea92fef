"""Programs in the background, their ports and answers."""

import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def free_port() -> int:
    """Return a port on which nothing listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def fetch_json(url: str) -> Any:
    """Return the JSON that a server of ours answers with."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own URL, http
        return json.load(answer)


def fetch_text(url: str) -> str:
    """Return the text that a server of ours answers with."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own URL, http
        text: str = answer.read().decode()
        return text


@contextmanager
def running(log: Path, *command: str) -> Iterator[None]:
    """Run a program in the background until the block ends."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)
