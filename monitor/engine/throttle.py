"""Which partitions are read while traces wait: all, those that left room to the others, or none."""

from collections.abc import Iterable, Mapping
from typing import Final

from monitor.engine.partitions import Partition
from monitor.engine.settings import Settings
from monitor.events import Event, Fetched, Passed, TopicPartition
from monitor.ports import Source

ALPHA: Final = 4.0
"""A partition may fill so many times the room that is left: alone 4/5 of the bounds, two of them 4/9 each."""


def crowding(
    loads: Mapping[TopicPartition, float], total: float, before: frozenset[TopicPartition]
) -> frozenset[TopicPartition]:
    """Return the partitions that fill more than their share of the bounds; one of `before` until it has half.

    Shares are dynamic thresholds (Choudhury and Hahne, 1998, doi:10.1109/90.664262): whoever sends little is
    read on while another partition fills the bounds, and none has room taken from it before it is needed.
    """
    most = ALPHA * max(0.0, 1.0 - total)
    return frozenset(
        name for name, load in loads.items() if load > (most / 2 if name in before else most) and load > 0.0
    )


class Throttle:
    """Pauses a source while there is enough to do, and single partitions of it that crowd out the others.

    `paused`: nothing is read at all. All resume at half of the bounds. `crowding` are the partitions of which
    nothing may be taken now, not even what is at hand.
    """

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._settings = settings
        self._held: frozenset[TopicPartition] = frozenset()
        self.crowding: frozenset[TopicPartition] = frozenset()
        self.paused = False

    @property
    def holds(self) -> bool:
        """Return whether some partitions are not read, while others are."""
        return bool(self._held) and not self.paused

    def apply(
        self,
        owned: Mapping[TopicPartition, Partition],
        deferred: Iterable[Event],
        *,
        waiting: float,
        closed: bool,
    ) -> None:
        """Pause and resume. `waiting` is the share of the bounds that all fill, `closed`: read nothing."""
        hold = closed or waiting >= (0.5 if self.paused else 1.0)
        if hold and not self.paused:
            self._source.pause()
        elif self.paused and not hold:
            self._source.resume()
        self.paused = hold
        loads = {name: self._load(partition) for name, partition in owned.items()}
        self.crowding = crowding(loads, waiting, self.crowding)
        # What waits to be decoded is at hand already: more of it would only take memory.
        behind = {(each.topic, each.partition) for each in deferred if isinstance(each, Fetched | Passed)}
        held = self.crowding | behind
        if held != self._held:
            self._source.hold(held)
            self._held = held

    def _load(self, partition: Partition) -> float:
        return max(
            partition.queued_traces / self._settings.max_waiting_traces,
            partition.queued_bytes / self._settings.max_waiting_bytes,
        )
