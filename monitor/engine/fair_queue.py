"""The queue before the detectors, which no application can fill for the others: each has its turn."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Final

from monitor.engine.work import Work

QUANTUM: Final = 16 * 2**10
"""What an application may spend at its turn: some traces, and the next one's turn comes soon."""
_LEAST: Final = 2**10  # cost of a trace without text: detectors and rules look at it all the same
_MOST_COST: Final = 2**20  # so that a trace of any size delays its application's next ones for a while only
_MOST_APPS: Final = 64  # with a queue of their own; what further ones send waits in one queue


class _Line:
    """The traces of one application, and what it may still spend at its turn; under zero it is in debt."""

    __slots__ = ("credit", "name", "work")

    def __init__(self, name: str) -> None:
        self.name = name
        self.work: deque[Work] = deque()
        self.credit = QUANTUM


class FairQueue:
    """Traces that wait for detectors: first come, first served within an application, by turns among them.

    After deficit round robin (Shreedhar and Varghese, 1995, doi:10.1145/217382.217453), by the characters
    that detectors will read. `bytes` is the size of all, `whole` counts those that were not assembled, and
    each operation takes constant time per trace. `named` applications have a queue of their own however many
    others there are.
    """

    def __init__(self, named: Collection[str] = ()) -> None:
        self._named = frozenset(named)
        self._lines: dict[str, _Line] = {}
        self._turns: deque[_Line] = deque()  # of the applications that have traces waiting
        self._next: deque[Work] = deque()  # chosen, and not taken yet
        self._length = 0
        self.bytes = self.whole = 0

    def __len__(self) -> int:
        return self._length

    def append(self, work: Work) -> None:
        """Add a trace behind those of its application."""
        name = work.trace.app
        line = self._lines.get(name)
        if line is None:
            if len(self._lines) >= _MOST_APPS and name not in self._named:
                name = ""
            line = self._lines.get(name)
            if line is None:
                line = self._lines[name] = _Line(name)
                self._turns.append(line)
        line.work.append(work)
        self._length += 1
        self.whole += work.exchange is None
        self.bytes += work.size

    def first(self, count: int) -> Sequence[Work]:
        """Return the next traces, `count` at most, and leave them there: asked again, it returns the same."""
        chosen = self._next
        while len(chosen) < count and self._turns:
            self._choose(count - len(chosen))
        return list(islice(chosen, count))

    def remove(self, work: Sequence[Work]) -> None:
        """Remove the traces that `first` has returned."""
        for _ in work:
            self._next.popleft()
        self.whole -= sum([each.exchange is None for each in work])
        self.bytes -= sum([each.size for each in work])
        self._length -= len(work)

    def oldest(self) -> float | None:
        """Return when the trace that waits longest began to (monotonic); None when the queue is empty."""
        heads = [line.work[0].taken for line in self._turns]
        # Those chosen last may have come before those chosen first.
        heads += [each.taken for each in self._next]
        return min(heads, default=None)

    def keep(self, wanted: Callable[[Work], bool]) -> list[Work]:
        """Drop the traces that are not wanted, and return these."""
        everything = list(self)
        self.clear()
        dropped = []
        for work in everything:
            if wanted(work):
                self.append(work)
            else:
                dropped.append(work)
        return dropped

    def clear(self) -> None:
        """Drop all traces."""
        self._lines.clear()
        self._turns.clear()
        self._next.clear()
        self._length = self.bytes = self.whole = 0

    def __iter__(self) -> Iterator[Work]:
        yield from self._next
        for line in self._turns:
            yield from line.work

    def _choose(self, count: int) -> None:
        """Let the application whose turn it is spend its credit, and pass the turn on."""
        line = self._turns[0]
        while count and line.work and line.credit > 0:
            work = line.work.popleft()
            line.credit -= min(_MOST_COST, _LEAST + work.chars)
            self._next.append(work)
            count -= 1
        if not line.work:
            self._turns.popleft()
            del self._lines[line.name]
        elif line.credit <= 0:
            line.credit += QUANTUM
            self._turns.rotate(-1)
