"""Progress of a partition: positions, done ranges, and where reading begins."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.findings import Span
from monitor.progress import Mark, Placing, Progress, merge, place


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
    assert progress.mark() == Mark(0, (Span(2, 3),))
    progress.finish(0, [0])
    progress.finish(1, [0])
    assert progress.mark() == Mark(3)


def test_holes_are_covered_with_the_record_behind_them() -> None:
    """Offsets that compaction or transaction markers left empty belong to the next record's range."""
    progress = Progress(Mark(0))
    progress.deliver(0)
    progress.deliver(9)
    assert progress.finish(9, ()) == Span(1, 10)
    assert progress.finish(0, ()) == Span(0, 1)
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
    assert again.finish(0, [1]) == Span(0, 1)


def test_what_is_done_beyond_the_position_is_not_delivered_twice() -> None:
    """After a restart, records in done ranges are skipped."""
    progress = Progress(Mark(0, (Span(1, 3),)))
    assert [progress.deliver(offset) for offset in range(4)] == [True, False, False, True]
    assert progress.finish(3, ()) == Span(3, 4)
    progress.finish(0, ())
    assert progress.next_offset == 4


def test_a_done_range_reached_by_the_position_is_still_skipped() -> None:
    """Records of a done range are skipped also when the position has passed them before their delivery."""
    progress = Progress(Mark(0, (Span(1, 3),)))
    progress.deliver(0)
    progress.finish(0, ())
    assert progress.next_offset == 3
    assert [progress.deliver(offset) for offset in (1, 2, 3)] == [False, False, True]
    assert progress.finish(3, ()) == Span(3, 4)


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
    covered: list[Span] = []
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
    assert merge(covered) == (Span(0, at),)
    assert sum(span.end - span.start for span in covered) == at
    assert mark == Mark(at)


def test_reading_begins_at_the_later_of_commit_and_ledger() -> None:
    """The ledger counts when Kafka's commit got lost; a commit ahead of it is a declared gap."""
    assert place(7, 5, 0, 10, latest=False) == (7, Placing.LEDGER, None)
    assert place(7, None, 0, 10, latest=False) == (7, Placing.LEDGER, None)
    assert place(5, 7, 0, 10, latest=False) == (7, Placing.COMMITTED_AHEAD, Span(5, 7))
    assert place(None, 5, 0, 10, latest=False) == (5, Placing.COMMITTED, None)
    assert place(None, None, 3, 10, latest=False) == (3, Placing.EARLIEST, None)
    assert place(None, None, 3, 10, latest=True) == (10, Placing.LATEST, None)


def test_what_retention_deleted_is_a_gap() -> None:
    """Offsets that expired before they were judged go on record as a gap."""
    assert place(2, 2, 6, 10, latest=False) == (6, Placing.RETENTION, Span(2, 6))


def test_a_position_beyond_the_end_is_not_read() -> None:
    """A position behind the end of the log (topic created anew) needs an operator."""
    assert place(12, None, 0, 10, latest=False).reason is Placing.BEYOND_END
