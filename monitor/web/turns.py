"""Turns: whoever asks works at once while there is time, and waits in line when there is none."""

import asyncio
from time import thread_time
from typing import Final, Protocol

BURST: Final = 0.05  # seconds of work, spread over the share, that nobody waits for
AROUND: Final = 50e-6  # seconds of a turn that it cannot measure itself: waking, receiving, sending


class Taker(Protocol):
    """One who takes turns. Hashed by identity."""

    def take(self) -> bool:
        """Work for about a millisecond at most; return whether there is more to do."""
        ...


class Turns:
    """Gives turns, one at a time, such that all together take `share` of a processor's time in the long run.

    For the thread of `loop` alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, share: float) -> None:
        self._loop = loop
        self._share = share
        self._paid = 0.0  # the loop's time at which all work so far is paid for by waiting
        self._line: dict[Taker, None] = {}
        self._next: asyncio.TimerHandle | None = None

    def ask(self, taker: Taker) -> bool:
        """Give a turn, at once if nobody is in line; return whether the taker is in line now."""
        if taker in self._line or (not self._line and self._due() <= 0 and not self._give(taker)):
            return taker in self._line
        self._line[taker] = None
        self._wake()
        return True

    def leave(self, taker: Taker) -> None:
        """Give up a place in line."""
        self._line.pop(taker, None)

    def _due(self) -> float:
        return self._paid - self._loop.time() - BURST

    def _wake(self) -> None:
        if self._next is None and self._line:
            self._next = self._loop.call_later(max(0.0, self._due()), self._serve)

    def _serve(self) -> None:
        self._next = None
        if not self._line:
            return
        taker = next(iter(self._line))
        del self._line[taker]
        try:
            if self._give(taker):
                self._line[taker] = None
        finally:
            self._wake()

    def _give(self, taker: Taker) -> bool:
        began = thread_time()
        more = taker.take()
        spent = thread_time() - began + AROUND
        self._paid = max(self._paid, self._loop.time()) + spent / self._share
        return more
