"""What every source promises, whatever it reads from. Each check takes a rig over prepared records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from patience import PATIENCE, unhindered

from monitor.clock import Deadline, SystemClock
from monitor.events import Assigned, Event, Exhausted, Fetched, Revoked, TopicPartition
from monitor.ports import Source
from monitor.trace import Record

POLL: Final = 0.05


@dataclass
class Rig:
    """Opens sources over the same records, which are expected in this order; `remembers` commits or not.

    `fresh` is the committed offset where nobody has committed.
    """

    open: Callable[[], Source]
    expected: Mapping[TopicPartition, Sequence[bytes]]
    remembers: bool
    finite: bool
    fresh: int | None = None


@dataclass
class Seen:
    """What polls returned so far."""

    assigned: dict[TopicPartition, Assigned] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    others: list[Event] = field(default_factory=list)

    def values(self, key: TopicPartition) -> list[bytes | None]:
        """Values of one partition in the order of delivery."""
        return [record.value for record in self.records if (record.topic, record.partition) == key]

    def take(self, events: Sequence[Event]) -> None:
        """Sort events by kind."""
        for event in events:
            if isinstance(event, Assigned):
                self.assigned[event.topic, event.partition] = event
            elif isinstance(event, Fetched):
                assert {(record.topic, record.partition) for record in event.records} == {event[:2]}
                self.records += event.records
            else:
                self.others.append(event)


def poll_until(source: Source, seen: Seen, done: Callable[[], bool], max_records: int = 1000) -> None:
    """Poll until something holds; fails after a while."""
    deadline = Deadline(SystemClock(), PATIENCE)
    while not done():
        assert not deadline.expired(), (
            f"still waiting after {PATIENCE} s: {seen.others}, {len(seen.records)} records"
        )
        seen.take(source.poll(POLL, max_records))


def join(rig: Rig) -> tuple[Source, Seen]:
    """Open a source and poll until it has every partition of the rig."""
    source, seen = rig.open(), Seen()
    poll_until(source, seen, lambda: set(seen.assigned) == set(rig.expected))
    return source, seen


def seek_all(source: Source, rig: Rig, offset: int = 0) -> None:
    """Begin every partition at an offset."""
    for key in rig.expected:
        source.seek(*key, offset)


def read_all(source: Source, seen: Seen, rig: Rig, max_records: int = 1000) -> None:
    """Poll until as many records came as the rig has."""
    total = sum(len(values) for values in rig.expected.values())
    poll_until(source, seen, lambda: len(seen.records) >= total, max_records)


def idle(source: Source, seen: Seen, polls: int = 6) -> None:
    """Poll a few times, longer in sum than a fetch takes."""
    for _ in range(polls):
        seen.take(source.poll(POLL, 1000))


def waits_for_seek(rig: Rig) -> None:
    """An assigned partition says what it holds and delivers nothing before it is sought."""
    source, seen = join(rig)
    idle(source, seen)
    assert seen.records == []
    for key, values in rig.expected.items():
        assigned = seen.assigned[key]
        assert assigned == Assigned(*key, rig.fresh, 0, len(values), assigned.topic_id)
    assert {lag[:2]: lag.records for lag in source.lag()} == {k: len(v) for k, v in rig.expected.items()}
    source.close({}, PATIENCE)


def delivers_in_order_and_again(rig: Rig) -> None:
    """From a seek on, every record comes once and in order; seeking back repeats them; lag falls to zero."""
    source, seen = join(rig)
    seek_all(source, rig)
    read_all(source, seen, rig, max_records=7)
    for key, values in rig.expected.items():
        assert seen.values(key) == list(values)
        offsets = [record.offset for record in seen.records if (record.topic, record.partition) == key]
        assert offsets == list(range(len(values)))
    poll_until(source, seen, lambda: sum(lag.records for lag in source.lag()) == 0)
    poll_until(source, seen, lambda: bool(seen.others) or not rig.finite)
    idle(source, seen)
    assert all(lag.seconds == 0.0 for lag in source.lag())
    assert seen.others == ([Exhausted()] if rig.finite else [])

    seek_all(source, rig, offset=3)
    again = Seen()
    count = sum(len(values) - 3 for values in rig.expected.values())
    poll_until(source, again, lambda: len(again.records) >= count)
    idle(source, again)
    for key, values in rig.expected.items():
        assert again.values(key) == list(values[3:])
    source.close({}, PATIENCE)


def bounds_a_poll(rig: Rig) -> None:
    """No poll returns more records than it was allowed."""
    source, seen = join(rig)
    seek_all(source, rig)
    deadline = Deadline(SystemClock(), PATIENCE)
    total = sum(len(values) for values in rig.expected.values())
    while len(seen.records) < total and not deadline.expired():
        events = source.poll(POLL, 3)
        assert sum(len(event.records) for event in events if isinstance(event, Fetched)) <= 3
        seen.take(events)
    assert len(seen.records) == total
    source.close({}, PATIENCE)


def pauses(rig: Rig) -> None:
    """A paused source still answers polls but delivers nothing; resuming continues without loss."""
    source, seen = join(rig)
    source.pause()
    seek_all(source, rig)
    idle(source, seen)
    assert seen.records == []
    source.resume()
    poll_until(source, seen, lambda: len(seen.records) > 0, max_records=2)
    source.pause()
    source.pause()
    before = len(seen.records)
    idle(source, seen)
    assert len(seen.records) == before
    source.resume()
    source.resume()
    read_all(source, seen, rig)
    for key, values in rig.expected.items():
        assert seen.values(key) == list(values)
    source.close({}, PATIENCE)


def holds(rig: Rig) -> None:
    """A held partition delivers nothing while the others do; it goes on without loss once it is let go."""
    source, seen = join(rig)
    held = sorted(rig.expected)[:1]
    source.hold(held)
    seek_all(source, rig)
    others = sum(len(values) for key, values in rig.expected.items() if key not in held)
    poll_until(source, seen, lambda: len(seen.records) >= others, max_records=2)
    idle(source, seen)
    assert len(seen.records) == others
    source.hold(held)
    source.hold([])
    read_all(source, seen, rig)
    for key, values in rig.expected.items():
        assert seen.values(key) == list(values)
    source.close({}, PATIENCE)


def commits_survive(rig: Rig) -> None:
    """What one source committed, while running and at its close, is what the next one is told."""
    keys = sorted(rig.expected)
    source, _ = join(rig)
    source.commit({keys[0]: 4})
    source.commit({("not-ours", 0): 1})
    idle(source, Seen())
    source.close(dict.fromkeys(keys[1:], 5), 2 * PATIENCE)  # half of it is for the commit
    source, seen = join(rig)
    expected = {keys[0]: 4, **dict.fromkeys(keys[1:], 5)} if rig.remembers else dict.fromkeys(keys, rig.fresh)
    assert {key: assigned.committed for key, assigned in seen.assigned.items()} == expected
    source.close({}, PATIENCE)


def closes(rig: Rig) -> None:
    """Closing returns in time, may be repeated, and ends delivery; a source never polled can be closed."""
    rig.open().close({}, 2.0)
    source, seen = join(rig)
    source.seek("not-ours", 0, 0)
    seek_all(source, rig)
    with unhindered():
        source.close({}, 5.0)
        source.close({}, 5.0)
    after = Seen()
    idle(source, after, polls=2)
    assert after.records == []
    assert not any(isinstance(event, Revoked) for event in seen.others)


CHECKS: Final[tuple[Callable[[Rig], None], ...]] = (
    waits_for_seek,
    delivers_in_order_and_again,
    bounds_a_poll,
    pauses,
    holds,
    commits_survive,
    closes,
)
