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


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6), st.integers(0, 20), st.booleans())
def test_portions_hold_all_records_once_and_in_order(
    sizes: list[list[int]],
    most: int,
    ends: bool,  # noqa: FBT001
) -> None:
    """None has more than its bytes and one record, and the end of the input comes last."""
    offset = 0
    events: list[Event] = []
    for each in sizes:
        records = [record(offset + place, size) for place, size in enumerate(each)]
        offset += len(records)
        events += [Fetched("t", 0, records), Passed("t", 0, offset), Revoked("u", 1)]
    events += [Exhausted()] if ends else []
    now, later = portion(events, most)
    assert sum(isinstance(event, Revoked) for event in now) == len(sizes)
    told: list[Event] = []
    for _ in range(200):
        taken = [r for event in now if isinstance(event, Fetched) for r in event.records]
        assert sum(len(r.value or b"") for r in taken[:-1]) < max(most, 1)
        told += now
        if not later:
            break
        now, later = portion(later, max(most, 1))
    assert not later
    offsets = [r.offset for event in told if isinstance(event, Fetched) for r in event.records]
    assert offsets == [*range(offset)]
    assert [event for event in told if isinstance(event, Passed)] == [
        e for e in events if isinstance(e, Passed)
    ]
    assert not ends or isinstance(told[-1], Exhausted)


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
