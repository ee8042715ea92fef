"""Portions of what a source delivered: as much as one turn of the loop may decode."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from monitor.events import Event, Exhausted, Fetched, Passed, TopicPartition
from monitor.trace import Record

MOST_BYTES: Final = 4 * 2**20
"""Records decoded in one turn: up to half a second of it, where they hold many small spans."""


def portion(
    events: Sequence[Event], most_bytes: int, rooms: Mapping[TopicPartition, int] = MappingProxyType({})
) -> tuple[list[Event], list[Event]]:
    """Return the events to handle now, and those for later, of which the order stays.

    Now come records of `most_bytes` bytes, or the first one that is larger, and all that is about no records;
    of the partitions in `rooms` no more records than that.
    """
    now: list[Event] = []
    later: list[Event] = []
    room, left, behind = most_bytes, dict(rooms), set[TopicPartition]()
    for event in events:
        if isinstance(event, Exhausted):
            (later or now).append(event)
        elif not isinstance(event, Fetched | Passed):
            now.append(event)
        elif room <= 0 or (name := event[:2]) in behind:
            later.append(event)
        elif isinstance(event, Passed):
            now.append(event)
        else:
            ends, size = _reach(event.records, room, left.get(name))
            room -= size
            left |= {name: left[name] - ends} if name in left else {}
            if ends:
                now.append(event._replace(records=event.records[:ends]))
            if ends < len(event.records):
                later.append(event._replace(records=event.records[ends:]))
                behind.add(name)
    return now, later


def _reach(records: Sequence[Record], room: int, most: int | None) -> tuple[int, int]:
    """Return how many records come now, and their size in bytes."""
    size = 0
    for place, record in enumerate(records[:most]):
        if size >= room:
            return place, size
        size += len(record.value or b"")
    return len(records[:most]), size
