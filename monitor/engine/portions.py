"""Portions of what a source delivered: as much as one turn of the loop may decode."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from monitor.events import Event, Exhausted, Fetched, Passed

MOST_BYTES: Final = 4 * 2**20
"""Records decoded in one turn: up to half a second of it, where they hold many small spans."""


def portion(events: Sequence[Event], most_bytes: int) -> tuple[list[Event], list[Event]]:
    """Return the events to handle now, and those for later, of which the order stays.

    Now come records of `most_bytes` bytes, or the first one that is larger, and all that is about no records.
    """
    now: list[Event] = []
    later: list[Event] = []
    room = most_bytes
    for event in events:
        if not isinstance(event, Fetched | Passed | Exhausted):
            now.append(event)
        elif later or room <= 0:
            later.append(event)
        elif isinstance(event, Fetched):
            sizes = accumulate(len(record.value or b"") for record in event.records)
            ends = next((place for place, size in enumerate(sizes, 1) if size >= room), len(event.records))
            room -= sum(len(record.value or b"") for record in event.records[:ends])
            now.append(event if ends == len(event.records) else event._replace(records=event.records[:ends]))
            if ends < len(event.records):
                later.append(event._replace(records=event.records[ends:]))
        else:
            now.append(event)
    return now, later
