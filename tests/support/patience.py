"""Waiting for what is real: bounds that catch a hang and that no busy machine can miss."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

PATIENCE: Final = 60.0
"""Seconds for what takes a few. What hangs in a test must hang for much longer."""
_T = TypeVar("_T")


def eventually(look: Callable[[], _T], what: str, seconds: float = PATIENCE) -> _T:
    """Look until there is something truthy; fails the test when time is up."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@contextmanager
def unhindered() -> Iterator[None]:
    """Fail the test when what is done inside was held up by something that hangs."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < PATIENCE
