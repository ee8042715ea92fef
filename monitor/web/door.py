"""The door of a server: takes connections in turns, each as a bare socket until its client says something.

Most connections of a flood never do. To take and close such a one costs a fraction of what asyncio spends on
one with its streams. All of it counts in the share of `Turns`; while that is used up, the kernel's backlog
waits.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

from monitor.web.credentials import network_of
from monitor.web.places import Occupant, Places, Use
from monitor.web.turns import Turns

BACKLOG: Final = 512  # connections that may wait for the door
_AT_ONCE: Final = 8  # connections that one turn takes
_RETRY_SECONDS: Final = 1.0  # until the next try when the system has no room for a connection

log = structlog.get_logger(__name__)


class Door:
    """Takes the connections of one bound socket, which it owns, and gives those that speak to `admit`.

    Connections may be silent for `seconds`. `admit` takes the socket, the client's address, and who has its
    place.
    """

    peer = ""  # in turns, it is nobody's

    def __init__(
        self,
        bound: socket.socket,
        turns: Turns,
        places: Places[Occupant],
        seconds: float,
        admit: Callable[[socket.socket, str, Occupant], None],
    ) -> None:
        self.turns = turns
        self.places = places
        self.seconds = seconds
        self.admit = admit
        self._bound = bound
        self._loop = asyncio.get_running_loop()
        bound.setblocking(False)
        bound.listen(BACKLOG)
        self._watch()

    def close(self) -> None:
        """Take no more connections."""
        self._loop.remove_reader(self._bound)
        self.turns.leave(self)
        self._bound.close()

    def take(self) -> bool:
        """Take some of the connections that wait."""
        for _ in range(_AT_ONCE):
            try:
                made, address = self._bound.accept()
            except (BlockingIOError, ConnectionAbortedError):
                self._watch()
                return False
            except OSError as error:
                log.warning("cannot_accept", reason=error.strerror or type(error).__name__)
                self._loop.call_later(_RETRY_SECONDS, self._watch)
                return False
            if _is_over(made):
                made.close()
            else:
                _Visitor(self, made, address[0])
        return True

    def _watch(self) -> None:
        if self._bound.fileno() >= 0:
            self._loop.add_reader(self._bound, self._knock)

    def _knock(self) -> None:
        self._loop.remove_reader(self._bound)
        self.turns.ask(self)


class _Visitor:
    """A connection whose client has said nothing yet."""

    def __init__(self, door: Door, bare: socket.socket, address: str) -> None:
        self.peer = network_of(address)
        self._door = door
        self._bare = bare
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(bare, self._hear)
        self._deadline = self._loop.call_later(door.seconds, self.abort)
        door.places.enter(self)

    def abort(self) -> None:
        """Close it at once."""
        self._leave()
        self._bare.close()

    def pace(self, _now: float) -> float:
        """Return none: it is idle."""
        return 0.0

    def take(self) -> bool:
        """Let the client in. The place is kept for what follows, or it would cost another one's."""
        self._rest()
        self._door.places.use(self, Use.OURS)
        self._door.admit(self._bare, self._address, self)
        return False

    def _hear(self) -> None:
        """Ask for a turn, unless all the client says is good-bye."""
        self._loop.remove_reader(self._bare)
        if _is_over(self._bare):
            self.abort()
        else:
            self._door.turns.ask(self)

    def _leave(self) -> None:
        self._rest()
        self._door.places.leave(self)

    def _rest(self) -> None:
        self._loop.remove_reader(self._bare)
        self._deadline.cancel()
        self._door.turns.leave(self)


def _is_over(bare: socket.socket) -> bool:
    """Return whether the client has ended a connection without a word."""
    try:
        return not bare.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
