"""One turn of the loop decodes a bounded portion of what came, in order, and loses nothing of it."""

from collections.abc import Sequence

from engines import assess, build_engine
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.portions import portion
from monitor.events import Event, Exhausted, Fetched, Passed, Revoked
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.testing import ManualClock, MemoryLog, MemorySource, RecordingObserver, ScriptedDetectors
from monitor.trace import Record, Trace

MIB = 2**20


def record(offset: int, size: int) -> Record:
    """A record of so many bytes; none has no value."""
    return Record("t", 0, offset, 0.0, None, b"x" * size if size else None)


SIZES = st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 9), max_size=6)), max_size=8)


@given(SIZES, st.integers(0, 20), st.booleans(), st.dictionaries(st.integers(0, 2), st.integers(0, 3)))
def test_portions_hold_all_records_once_and_in_order(
    sizes: list[tuple[int, list[int]]],
    most: int,
    ends: bool,  # noqa: FBT001
    rooms: dict[int, int],
) -> None:
    """None has more than its bytes and one record, nor more of a partition than there is room for."""
    counts = [0] * 3
    events: list[Event] = []
    for partition, each in sizes:
        begin = counts[partition]
        records = [record(begin + place, size) for place, size in enumerate(each)]
        counts[partition] += len(records)
        events += [Fetched("t", partition, records), Passed("t", partition, counts[partition])]
        events += [Revoked("u", 1)]
    events += [Exhausted()] if ends else []
    now, later = portion(events, most, {("t", n): room for n, room in rooms.items()})
    assert sum(isinstance(event, Revoked) for event in now) == len(sizes)
    for n, room in rooms.items():
        assert sum(len(e.records) for e in now if isinstance(e, Fetched) and e.partition == n) <= room
    told: list[Event] = []
    for _ in range(400):
        taken = [len(r.value or b"") for event in now if isinstance(event, Fetched) for r in event.records]
        assert sum(taken) < max(most, 1) + max(taken, default=0) * 3
        told += now
        if not later:
            break
        now, later = portion(later, max(most, 1))
    assert not later
    for partition, count in enumerate(counts):
        own = [e for e in told if isinstance(e, Fetched | Passed) and e.partition == partition]
        offsets = [r.offset for event in own if isinstance(event, Fetched) for r in event.records]
        assert offsets == [*range(count)]
        seen = 0  # what is passed comes behind the records that it is about
        for event in own:
            seen = max(seen, event.offset) if isinstance(event, Passed) else seen + len(event.records)
            assert not isinstance(event, Passed) or event.offset == seen
    assert not ends or isinstance(told[-1], Exhausted)


@given(st.integers(1, 20), st.integers(1, 30), st.booleans())
def test_a_partition_with_little_does_not_wait_for_one_with_much(
    large: int,
    small: int,
    first: bool,  # noqa: FBT001
) -> None:
    """All its records come with the first portion, before or behind whatever else was delivered."""
    flood = Fetched("t", 0, [record(offset, MIB) for offset in range(large)])
    other = Fetched("t", 1, [record(offset, 1000) for offset in range(small)])
    now, _ = portion([flood, other] if first else [other, flood], 4 * MIB)
    taken = {event.partition: len(event.records) for event in now if isinstance(event, Fetched)}
    assert taken == {0: min(large, 4), 1: small}


def test_a_poll_of_large_records_is_decoded_over_some_turns() -> None:
    """Twenty records of a mebibyte come with one poll; no turn decodes five, and each is judged once."""
    clock = ManualClock()
    decoded: list[int] = []

    def decode(record: Record) -> Sequence[Trace]:
        decoded.append(record.offset)
        return [Trace(id=f"{record.offset}", time=1.0, response="r")]

    ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
    detectors, observer = ScriptedDetectors(assess), RecordingObserver()
    log = MemoryLog({("t", 0): [b"x" * MIB] * 20})
    engine = build_engine(
        MemorySource(log, clock, finite=True), detectors, ledger, clock, decode=decode, observer=observer
    )
    most = 0
    for _ in range(200):
        if engine.finished:
            break
        before = len(decoded)
        engine.turn()
        most = max(most, len(decoded) - before)
        detectors.finish_all()
        clock.advance(0.05)
    assert engine.finished
    assert most < 5
    assert decoded == [*range(20)]
    assert len(observer.judgements) == 20
    assert verify(ledger).ok


def test_what_was_delivered_before_a_claim_is_not_taken_after_it() -> None:
    """Records that wait when their partition is assigned anew are delivered again, and judged once."""
    clock = ManualClock()
    ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
    detectors, observer = ScriptedDetectors(assess), RecordingObserver()
    log = MemoryLog({("t", 0): [b"x" * MIB] * 20})
    source = MemorySource(log, clock, finite=False)

    def decode(record: Record) -> Sequence[Trace]:
        return [Trace(id=f"{record.offset}", time=1.0, response="r")]

    engine = build_engine(source, detectors, ledger, clock, decode=decode, observer=observer)
    for turn in range(100):
        if turn == 3:
            source.refresh("t", 0)
        engine.turn()
        detectors.finish_all()
        clock.advance(0.3)
    assert engine.positions() == {("t", 0): 20}
    assert sorted(int(each.trace.id) for each in observer.judgements) == [*range(20)]
    assert verify(ledger).ok
