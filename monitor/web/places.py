"""Places of a server's open connections: which one is closed for a new one when none is free."""

import math
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class Occupant(Protocol):
    """A connection. Hashed by identity."""

    def abort(self) -> None:
        """Close it at once."""
        ...

    def pace(self, now: float) -> float:
        """Return the bytes a second of the request in hand; infinite: never to be closed for another."""
        ...


class Use(Enum):
    """What an open connection does: nothing, send a request, or wait for its answer, which we never break."""

    IDLE = auto()
    AMID = auto()
    OURS = auto()


_One = TypeVar("_One", bound=Occupant)


class Places(Generic[_One]):
    """At most `most` connections. `now` is the clock of `Occupant.pace`."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._open: dict[_One, Use] = {}
        self._idle: dict[_One, None] = {}  # the longest idle first
        self._amid: dict[_One, None] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def __iter__(self) -> Iterator[_One]:
        """Iterate over all."""
        return iter(self._open)

    def enter(self, new: _One) -> None:
        """Give a place to a connection that has opened. If none is free, close the longest idle.

        If none is idle, it is the slowest in sending; and the new one where all others wait for us.
        """
        if len(self._open) >= self._most:
            now = self._now()
            loser = next(iter(self._idle), None)
            loser = loser or min(self._amid, key=lambda amid: amid.pace(now), default=new)
            if loser not in self._idle and loser.pace(now) == math.inf:
                loser = new
            self.leave(loser)
            loser.abort()
            if loser is new:
                return
        self._open[new] = Use.IDLE
        self._idle[new] = None

    def use(self, one: _One, use: Use) -> None:
        """Say what an open connection is doing from now on."""
        before = self._open.get(one)
        if before is None or before is use:
            return
        self.leave(one)
        self._open[one] = use
        if use is Use.IDLE:
            self._idle[one] = None
        elif use is Use.AMID:
            self._amid[one] = None

    def leave(self, one: _One) -> None:
        """Give a connection's place back."""
        for places in (self._open, self._idle, self._amid):
            places.pop(one, None)
