"""Portions of what a source delivered: as much as one turn of the loop may decode."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from monitor.events import Event, Exhausted, Fetched, Passed, TopicPartition

MOST_BYTES: Final = 2 * 2**20
"""Records decoded in one turn: up to a fifth of a second of it, where they hold many small spans."""


def portion(
    events: Sequence[Event], most_bytes: int, rooms: Mapping[TopicPartition, int] = MappingProxyType({})
) -> tuple[list[Event], list[Event]]:
    """Return the events to handle now, and those for later; of each partition the order stays.

    Now come records of `most_bytes` bytes, or the first one that is larger, and all that is about no records;
    of the partitions in `rooms` no more records than that. Each partition has an equal part of the bytes, and
    those with less to decode than that come first.
    """
    sizes = _sizes(events)
    if not rooms and 0 < sum(map(sum, sizes.values())) <= most_bytes:
        return [*events], []
    left = _shared(sizes, most_bytes, rooms)
    now: list[Event] = []
    later: list[Event] = []
    behind: set[TopicPartition] = set()
    for event in events:
        if isinstance(event, Exhausted):
            (later or now).append(event)
        elif not isinstance(event, Fetched | Passed):
            now.append(event)
        elif (name := (event.topic, event.partition)) in behind:
            later.append(event)
        elif isinstance(event, Passed):
            (now if most_bytes > 0 else later).append(event)
        else:
            count = min(left[name], len(event.records))
            left[name] -= count
            if count:
                now.append(event._replace(records=event.records[:count]))
            if count < len(event.records):
                later.append(event._replace(records=event.records[count:]))
                behind.add(name)
    return now, later


def _sizes(events: Sequence[Event]) -> dict[TopicPartition, list[int]]:
    """Return the sizes of the records of each partition, in bytes."""
    sizes: dict[TopicPartition, list[int]] = {}
    for event in events:
        if isinstance(event, Fetched):
            of = sizes.setdefault((event.topic, event.partition), [])
            of += [len(record.value or b"") for record in event.records]
    return sizes


def _shared(
    sizes: Mapping[TopicPartition, Sequence[int]], most_bytes: int, rooms: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Return how many records of each partition come now."""
    counts = dict.fromkeys(sizes, 0)
    room = most_bytes
    part = most_bytes / max(1, len(sizes))
    for nth, name in enumerate(sorted(sizes, key=lambda name: sum(sizes[name]) > part)):
        share = room / (len(sizes) - nth)  # what the ones before have left is shared by those after
        used = 0
        for size in sizes[name][: rooms.get(name)]:
            if used >= share:
                break
            used += size
            counts[name] += 1
        room -= used
    return counts
