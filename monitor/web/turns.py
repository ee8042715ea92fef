"""Turns: whoever asks works at once while there is time, and waits in line when there is none."""

import asyncio
from time import thread_time
from typing import Final, Protocol

BURST: Final = 0.05  # seconds of work, spread over the share, that nobody waits for


class Taker(Protocol):
    """One who takes turns, on behalf of a peer. Hashed by identity."""

    @property
    def peer(self) -> str:
        """Whose turns these are; does not change."""
        ...

    def take(self) -> bool:
        """Work for about a millisecond at most; return whether there is more to do."""
        ...


class Turns:
    """Gives turns, one at a time, such that the thread works for `share` of the time in the long run.

    All that the thread does counts, be it in a turn or between two. Peers have their turns one after another,
    so one of many connections waits for one turn of each other peer. For the thread of `loop` alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, share: float) -> None:
        self._loop = loop
        self._share = share
        self._looked = loop.time()
        self._worked: float | None = None  # the thread's time when it was last looked at
        self._paid = 0.0  # the loop's time at which all work until then is paid for by waiting
        self._lines: dict[str, dict[Taker, None]] = {}  # of peers, the next one first; none is empty
        self._next: asyncio.TimerHandle | None = None

    def ask(self, taker: Taker) -> bool:
        """Give a turn, at once if nobody is in line; return whether the taker is in line now."""
        is_waiting = taker in self._lines.get(taker.peer, ())
        if not is_waiting and (self._lines or self._due() > 0 or taker.take()):
            self._join(taker)
            is_waiting = True
        self._wake()
        return is_waiting

    def leave(self, taker: Taker) -> None:
        """Give up a place in line."""
        line = self._lines.get(taker.peer, {})
        line.pop(taker, None)
        if not line:
            self._lines.pop(taker.peer, None)

    def _due(self) -> float:
        """Return the seconds until there is time for a turn."""
        worked, now = thread_time(), self._loop.time()
        if self._worked is not None:
            self._paid = max(self._paid, self._looked) + (worked - self._worked) / self._share
        self._looked, self._worked = now, worked
        return self._paid - now - BURST

    def _join(self, taker: Taker) -> None:
        self._lines.setdefault(taker.peer, {})[taker] = None

    def _wake(self) -> None:
        if self._next is None and self._lines:
            self._next = self._loop.call_later(max(0.0, self._due()), self._serve)

    def _serve(self) -> None:
        self._next = None
        if not self._lines:
            return
        peer, line = next(iter(self._lines.items()))
        taker = next(iter(line))
        self.leave(taker)
        if self._lines.pop(peer, None):
            self._lines[peer] = line  # behind the other peers
        try:
            if taker.take():
                self._join(taker)
        finally:
            self._wake()
