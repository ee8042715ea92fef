"""Progress of a partition: positions, done ranges, and where reading begins."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitor.events import Assigned, OffsetRange
from monitor.progress import (
    Mark,
    Progress,
    StartPosition,
    StartReason,
    Stored,
    Witness,
    merge,
    start_position,
)


def test_position_follows_records_done_in_order() -> None:
    """Records finished in order move the position one by one."""
    progress = Progress(Mark(5))
    for offset in (5, 6):
        assert progress.deliver(offset)
        assert progress.expect(offset, 1) == [0]
        progress.finish(offset, [0])
    assert progress.mark() == Mark(7)


def test_position_waits_for_the_oldest_record() -> None:
    """A record finished early is kept as a range beyond the position until the older ones are done."""
    progress = Progress(Mark(0))
    for offset in range(3):
        progress.deliver(offset)
        progress.expect(offset, 1)
    progress.finish(2, [0])
    assert progress.mark() == Mark(0, (OffsetRange(2, 3),))
    progress.finish(0, [0])
    progress.finish(1, [0])
    assert progress.mark() == Mark(3)


def test_holes_are_covered_with_the_record_behind_them() -> None:
    """Offsets that compaction or transaction markers left empty belong to the next record's range."""
    progress = Progress(Mark(0))
    progress.deliver(0)
    progress.deliver(9)
    assert progress.finish(9, ()) == OffsetRange(1, 10)
    assert progress.finish(0, ()) == OffsetRange(0, 1)
    assert progress.next_offset == 10


def test_a_record_of_many_traces_is_done_when_all_are() -> None:
    """Parts recorded so far are in the mark, and only the others are due after a restart."""
    progress = Progress(Mark(0))
    progress.deliver(0)
    assert progress.expect(0, 3) == [0, 1, 2]
    assert progress.finish(0, [0, 2]) is None
    mark = progress.mark()
    assert mark == Mark(0, (), {0: (0, 2)})
    again = Progress(mark)
    again.deliver(0)
    assert again.expect(0, 3) == [1]
    assert again.finish(0, [1]) == OffsetRange(0, 1)


def test_what_is_done_beyond_the_position_is_not_delivered_twice() -> None:
    """After a restart, records in done ranges are skipped."""
    progress = Progress(Mark(0, (OffsetRange(1, 3),)))
    assert [progress.deliver(offset) for offset in range(4)] == [True, False, False, True]
    assert progress.finish(3, ()) == OffsetRange(3, 4)
    progress.finish(0, ())
    assert progress.next_offset == 4


def test_a_done_range_reached_by_the_position_is_still_skipped() -> None:
    """Records of a done range are skipped also when the position has passed them before their delivery."""
    progress = Progress(Mark(0, (OffsetRange(1, 3),)))
    progress.deliver(0)
    progress.finish(0, ())
    assert progress.next_offset == 3
    assert [progress.deliver(offset) for offset in (1, 2, 3)] == [False, False, True]
    assert progress.finish(3, ()) == OffsetRange(3, 4)


@given(
    gaps=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
    crash_after=st.integers(0, 30),
)
def test_every_offset_is_covered_exactly_once(gaps: list[int], order: object, crash_after: int) -> None:
    """Whatever the order of finishing and wherever a crash comes, ranges tile the offsets without overlap."""
    offsets, at = [], 0
    for gap in gaps:
        at += gap
        offsets.append(at)
        at += 1
    covered: list[OffsetRange] = []
    mark, finished = Mark(0), 0
    for crash in (crash_after, len(gaps)):
        progress = Progress(mark)
        open_records = [o for o in offsets if o >= mark.next_offset and progress.deliver(o)]
        order.shuffle(open_records)  # type: ignore[attr-defined] # hypothesis' Random
        for offset in open_records[: max(0, crash - finished)]:
            span = progress.finish(offset, ())
            assert span is not None
            covered.append(span)
            finished += 1
            lowest = min((o for o in open_records if o not in {s.end - 1 for s in covered}), default=at)
            assert progress.next_offset <= lowest
        mark = progress.mark()
    assert merge(covered) == (OffsetRange(0, at),)
    assert sum(span.end - span.start for span in covered) == at
    assert mark == Mark(at)


def _assigned(committed: int | None, begin: int, end: int, **others: Any) -> Assigned:
    return Assigned("t", 0, committed, begin, end, **others)


def test_reading_begins_where_the_ledger_stands() -> None:
    """Kafka's commit counts where the ledger knows nothing; one ahead shows that the ledger lost some."""
    assert start_position(Stored(7), _assigned(5, 0, 10)) == StartPosition(7, StartReason.LEDGER)
    assert start_position(Stored(7), _assigned(None, 0, 10)) == StartPosition(7, StartReason.LEDGER)
    assert start_position(Stored(5), _assigned(7, 0, 10)) == StartPosition(5, StartReason.LEDGER_BEHIND)
    assert start_position(Stored(5, moved=True), _assigned(7, 0, 10)) == StartPosition(5, StartReason.LEDGER)
    assert start_position(None, _assigned(5, 0, 10)) == StartPosition(5, StartReason.COMMITTED)
    assert start_position(None, _assigned(None, 3, 10)) == StartPosition(3, StartReason.EARLIEST)
    assert start_position(None, _assigned(None, 3, 10), latest_from=8) == StartPosition(8, StartReason.LATEST)
    assert start_position(None, _assigned(None, 3, 10), latest_from=1) == StartPosition(3, StartReason.LATEST)
    assert start_position(None, _assigned(None, 3, 10), latest_from=12) == StartPosition(
        10, StartReason.LATEST
    )


def test_what_retention_deleted_is_a_gap() -> None:
    """Offsets that expired before they were judged go on record as a gap, with a ledger or a commit alone."""
    assert start_position(Stored(2), _assigned(2, 6, 10)) == StartPosition(
        6, StartReason.RETENTION, OffsetRange(2, 6)
    )
    assert start_position(Stored(2), _assigned(8, 6, 10)) == StartPosition(
        6, StartReason.RETENTION, OffsetRange(2, 6)
    )
    assert start_position(None, _assigned(2, 6, 10)) == StartPosition(
        6, StartReason.RETENTION, OffsetRange(2, 6)
    )


def test_a_topic_made_anew_is_read_from_its_start() -> None:
    """Another id, or nothing in common, means new records from the first on, however long the topic is."""
    for end in (5, 7, 90):
        other = start_position(Stored(7, "old"), _assigned(None, 0, end, topic_id="new"))
        assert other == StartPosition(0, StartReason.RECREATED, None, 0)
    late = start_position(Stored(7, "old"), _assigned(3, 3, 90, topic_id="new"))
    assert late == StartPosition(3, StartReason.RECREATED, OffsetRange(0, 3), 0)
    assert start_position(Stored(7), _assigned(None, 2, 90, diverged=2)) == StartPosition(
        2, StartReason.RECREATED, None, 2
    )
    assert start_position(None, _assigned(12, 3, 10)) == StartPosition(3, StartReason.EARLIEST)


def test_the_first_id_seen_is_adopted() -> None:
    """A ledger from before ids were kept goes on where it stands, as does a topic that has none."""
    assert start_position(Stored(7), _assigned(None, 0, 10, topic_id="new")) == StartPosition(
        7, StartReason.LEDGER
    )
    assert start_position(Stored(7, "old"), _assigned(None, 0, 10)) == StartPosition(7, StartReason.LEDGER)
    assert start_position(Stored(7, "old"), _assigned(None, 0, 10, topic_id="old")) == StartPosition(
        7, StartReason.LEDGER
    )


def test_a_log_that_was_cut_off_is_read_from_the_cut() -> None:
    """What stands at the cut and behind is new; what retention took of that is a gap."""
    assert start_position(Stored(7), _assigned(7, 0, 9, diverged=5)) == StartPosition(
        5, StartReason.TRUNCATED, None, 5
    )
    cut = start_position(Stored(7), _assigned(7, 0, 5, diverged=5))
    assert cut == StartPosition(5, StartReason.TRUNCATED, None, 5)


def test_a_position_beyond_the_end_is_waited_for() -> None:
    """An end may lag behind; one that stays is another log, unless an operator put the position there."""
    assert start_position(Stored(12), _assigned(None, 2, 10)).reason is StartReason.BEYOND_END
    assert start_position(Stored(12), _assigned(None, 2, 10), waited_at=12) == StartPosition(
        2, StartReason.RECREATED, None, 2
    )
    moved = start_position(Stored(12, moved=True), _assigned(None, 2, 10), waited_at=12)
    assert moved.reason is StartReason.BEYOND_END
    elsewhere = start_position(Stored(12), _assigned(None, 2, 10), waited_at=11)
    assert elsewhere.reason is StartReason.BEYOND_END


@given(
    deliveries=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_a_mark_knows_the_log_it_stands_in(deliveries: list[tuple[int, int]], order: Any) -> None:
    """Its leader epoch is never older than the record before it; its witness stands before it."""
    progress, offset, epoch = Progress(Mark(0)), 0, 0
    epochs: list[int] = []
    for records, step in deliveries:
        epoch += step
        for _ in range(records):
            progress.deliver(offset)
            epochs.append(epoch)
            offset += 1
        progress.saw(offset - 1, float(offset - 1), epoch)
    todo = list(range(offset))
    order.shuffle(todo)
    for done in todo:
        progress.finish(done, ())
        mark = progress.mark()
        if mark.next_offset:
            assert mark.leader_epoch >= epochs[mark.next_offset - 1]
        if mark.witness is not None:
            assert mark.witness.offset < mark.next_offset
            assert mark.witness.time == float(mark.witness.offset)
    assert progress.mark()[3:] == (epochs[-1], Witness(offset - 1, float(offset - 1)))


def test_what_holds_no_record_is_passed() -> None:
    """Markers behind the last record are covered once it is done, and records go on from there."""
    progress = Progress(Mark(3))
    assert progress.deliver(3)
    assert progress.pass_to(3) is None
    assert progress.pass_to(9) == OffsetRange(4, 9)
    assert progress.next_offset == 3
    assert progress.finish(3, ()) == OffsetRange(3, 4)
    assert progress.next_offset == 9
    assert progress.pass_to(9) is None
    assert progress.deliver(9)
    assert progress.finish(9, ()) == OffsetRange(9, 10)
