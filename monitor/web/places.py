"""Places of a server's open connections: which one is closed for a new one when none is free."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class Occupant(Protocol):
    """A connection. Hashed by identity."""

    @property
    def peer(self) -> str:
        """Who has opened it; does not change."""
        ...

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
    """At most `most` connections, and a few less of one peer. `now` is the clock of `Occupant.pace`."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._most_of_one = most - max(1, most // 8)
        self._now = now
        self._open: dict[_One, Use] = {}
        self._idle: dict[_One, None] = {}  # the longest idle first
        self._amid: dict[_One, None] = {}
        self._held: Counter[str] = Counter()  # places by peer

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def __iter__(self) -> Iterator[_One]:
        """Iterate over all."""
        return iter(self._open)

    def enter(self, new: _One) -> None:
        """Give a place to a connection that has opened. If none is free, close another.

        It is one of the peer that holds most places: the longest idle, or if none is idle the slowest in
        sending. Where all of those wait for us it is the longest idle of any peer, else the new one.
        """
        held = self._held[new.peer] = self._held[new.peer] + 1
        if held > self._most_of_one:
            loser = self._loser(held) or new
        elif len(self._open) == self._most:
            loser = self._loser(max(self._held.values())) or next(iter(self._idle), new)
        else:
            loser = None
        self._open[new] = Use.IDLE
        self._idle[new] = None
        if loser is not None:
            self.leave(loser)
            loser.abort()

    def use(self, one: _One, use: Use) -> None:
        """Say what an open connection is doing from now on."""
        before = self._open.get(one)
        if before is None or before is use:
            return
        self._idle.pop(one, None)
        self._amid.pop(one, None)
        self._open[one] = use
        if use is Use.IDLE:
            self._idle[one] = None
        elif use is Use.AMID:
            self._amid[one] = None

    def leave(self, one: _One) -> None:
        """Give a connection's place back."""
        if self._open.pop(one, None) is None:
            return
        self._idle.pop(one, None)
        self._amid.pop(one, None)
        self._held -= Counter((one.peer,))  # without those that hold none

    def _loser(self, held: int) -> _One | None:
        """Return who of the peers that hold so many places is closed first."""
        idle = next((one for one in self._idle if self._held[one.peer] == held), None)
        if idle is not None:
            return idle
        now = self._now()
        paces = {one: one.pace(now) for one in self._amid if self._held[one.peer] == held}
        slowest = min(paces, key=paces.__getitem__, default=None)
        return None if slowest is None or paces[slowest] == math.inf else slowest
