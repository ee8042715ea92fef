"""The in-memory and file sources: the shared contract, and what is particular to each."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from contracts.source import CHECKS, Rig, Seen, idle, poll_until
from patience import unhindered

from monitor.clock import ManualClock, SystemClock
from monitor.errors import ConfigError
from monitor.events import Assigned, Exhausted, Fetched, OutOfRange, Revoked, Stuck, StuckReason
from monitor.sources.file import MAX_LINE_BYTES, FileSource, topic_of
from monitor.sources.memory import (
    BAD_BATCH,
    CRASH,
    TRUNCATE,
    Assign,
    MemoryLog,
    MemorySource,
    Revoke,
    SimulatedCrash,
    Stall,
)
from monitor.trace import Record

T0, T1 = ("t", 0), ("t", 1)
VALUES = [b'{"n": %d}' % n for n in range(40)]


def memory_rig(_: Path) -> Rig:
    """Two partitions in memory."""
    expected = {T0: VALUES, T1: VALUES[:9]}
    log = MemoryLog(expected)
    return Rig(lambda: MemorySource(log, SystemClock()), expected, remembers=True, finite=True)


def file_rig(folder: Path) -> Rig:
    """One file."""
    path = folder / "my traces.jsonl"
    path.write_bytes(b"\n".join(VALUES))
    expected = {("my_traces.jsonl", 0): VALUES}
    return Rig(lambda: FileSource(path, SystemClock()), expected, remembers=False, finite=True)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", [memory_rig, file_rig])
def test_contract(check: Callable[[Rig], None], make: Callable[[Path], Rig], tmp_path: Path) -> None:
    """The in-memory and the file source keep every promise of a source."""
    check(make(tmp_path))


def drained(source: MemorySource | FileSource) -> Seen:
    """Begin every partition at its beginning and read until the end."""
    seen = Seen()

    def begin_new() -> bool:
        for key, assigned in list(seen.assigned.items()):
            source.seek(*key, assigned.begin)
            del seen.assigned[key]
        return Exhausted() in seen.others

    poll_until(source, seen, begin_new)
    return seen


def test_a_crash_ends_a_source_and_the_next_goes_on_from_the_commit() -> None:
    """CRASH raises out of poll, nothing is committed after it, and a new source goes on from the commit."""
    log = MemoryLog({T0: [b"a", b"b", CRASH, b"c"]})
    source = MemorySource(log)
    source.poll(0, 10)
    source.seek(*T0, 0)
    assert source.poll(0, 10) == [
        Fetched("t", 0, [Record("t", 0, n, n, None, v) for n, v in enumerate([b"a", b"b"])], leader_epoch=0)
    ]
    source.commit({T0: 1})
    with pytest.raises(SimulatedCrash):
        source.poll(0, 10)
    source.commit({T0: 2})
    source.close({T0: 2}, 1)
    with pytest.raises(SimulatedCrash):
        source.poll(0, 10)
    second = MemorySource(log)
    assert second.poll(0, 10) == [Assigned("t", 0, 1, 0, 3)]
    second.seek(*T0, 1)
    assert drained(second).values(T0) == [b"b", b"c"]


def test_a_revoked_partition_goes_to_another_source() -> None:
    """After REVOKE the first source stops at that record and the other one is offered the partition."""
    log = MemoryLog({T0: [b"a", Revoke(), b"b"]})
    first, second = MemorySource(log), MemorySource(log)
    assert first.poll(0, 10) == [Assigned("t", 0, None, 0, 2)]
    assert second.poll(0, 10) == []
    first.seek(*T0, 0)
    first.poll(0, 10)
    first.commit({T0: 1})
    assert first.poll(0, 10) == [Revoked("t", 0)]
    first.commit({T0: 2})
    assert second.poll(0, 10) == [Assigned("t", 0, 1, 0, 2)]
    assert first.poll(0, 10) == []


def test_an_assignment_can_be_scripted() -> None:
    """ASSIGN gives back a partition that was taken away before."""
    log = MemoryLog({T0: [Revoke(T1), b"a", Assign(T1), b"b"], T1: [b"x"]})
    seen = drained(MemorySource(log))
    assert seen.values(T0) == [b"a", b"b"]
    assert seen.values(T1) == [b"x"]
    assert seen.others == [Revoked("t", 1), Exhausted()]


def test_an_evicted_source_learns_so_at_its_next_poll() -> None:
    """Until then another source may already own its partitions."""
    log = MemoryLog({T0: [b"a"]})
    first, second = MemorySource(log), MemorySource(log)
    first.poll(0, 10)
    first.evict()
    assert second.poll(0, 10) == [Assigned("t", 0, None, 0, 1)]
    assert first.poll(0, 10) == [Revoked("t", 0)]


def test_time_passes_in_a_stall() -> None:
    """STALL moves the clock inside poll, and the age of the last record shows it."""
    clock = ManualClock(start=0.0)
    source = MemorySource(MemoryLog({T0: [b"a", Stall(30), b"b", Stall(0), b"c"]}), clock)
    source.poll(0, 10)
    source.seek(*T0, 0)
    source.poll(0, 10)
    assert clock.monotonic() == 0
    source.poll(0, 10)
    assert clock.monotonic() == 30
    (lag,) = source.lag()
    assert (lag.records, lag.seconds) == (1, 29.0)


def test_an_unreadable_batch_stops_its_partition_only() -> None:
    """A bad batch is reported once; other partitions go on, and a seek behind it continues."""
    source = MemorySource(MemoryLog({T0: [b"a", BAD_BATCH, b"bad", b"c"], T1: [b"x", b"y"]}))
    source.poll(0, 10)
    source.seek(*T0, 0)
    source.seek(*T1, 0)
    seen = Seen()
    idle(source, seen)
    assert seen.others == [Stuck("t", 0, 1, StuckReason.CORRUPT_BATCH)]
    assert (seen.values(T0), seen.values(T1)) == ([b"a"], [b"x", b"y"])
    source.seek(*T0, 2)
    idle(source, seen)
    assert seen.values(T0) == [b"a", b"c"]
    assert seen.others[-1] == Exhausted()


def test_retention_overtaking_the_reader_is_out_of_range() -> None:
    """TRUNCATE deletes the record in front of the reader, who is told what still exists."""
    source = MemorySource(MemoryLog({T0: [b"a", TRUNCATE, b"gone", b"c"]}))
    source.poll(0, 10)
    source.seek(*T0, 0)
    seen = Seen()
    idle(source, seen)
    assert seen.others == [OutOfRange("t", 0, 1, 2, 3)]
    source.seek(*T0, 2)
    idle(source, seen)
    assert seen.values(T0) == [b"a", b"c"]


def test_records_may_have_gaps() -> None:
    """Offsets keep the gaps that compaction and transaction markers leave."""
    records = [Record("t", 0, offset, 1.0, b"k", b"v") for offset in (2, 3, 7)]
    seen = drained(MemorySource(MemoryLog({T0: records})))
    assert [record.offset for record in seen.records] == [2, 3, 7]


def test_blank_lines_keep_their_numbers(tmp_path: Path) -> None:
    """Blank lines, a byte order mark and Windows line breaks do not become part of a record."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf{1}\r\n\r\n  \n{2}\n\n")
    source = FileSource(path, SystemClock())
    seen = drained(source)
    assert [(record.offset, record.value) for record in seen.records] == [(0, b"{1}"), (3, b"{2}")]
    assert source.progress() == (path.stat().st_size, path.stat().st_size)
    assert sum(lag.records for lag in source.lag()) == 0
    source.close({}, 1)


def test_an_endless_line_is_cut_but_not_lost(tmp_path: Path) -> None:
    """A line beyond the limit is delivered one byte too long, and the next line is intact."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * (MAX_LINE_BYTES + 5000) + b"\n{2}\n" + b"y" * (MAX_LINE_BYTES + 7))
    source = FileSource(path, SystemClock())
    seen = drained(source)
    assert [len(record.value or b"") for record in seen.records] == [
        MAX_LINE_BYTES + 1,
        3,
        MAX_LINE_BYTES + 1,
    ]
    assert source.progress() == (path.stat().st_size, path.stat().st_size)
    source.close({}, 1)


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """The error names the file and what to give instead."""
    with pytest.raises(ConfigError, match=r"nothing\.jsonl: cannot be read .*give a readable JSONL file"):
        FileSource(tmp_path / "nothing.jsonl", SystemClock())


def test_standard_input_is_read_to_its_end() -> None:
    """Lines of standard input arrive in order and its end is reported."""
    source = FileSource("-", SystemClock(), stdin=io.BytesIO(b"\n".join(VALUES) + b"\n"))
    seen = drained(source)
    assert seen.values(("stdin", 0)) == VALUES
    assert source.progress()[1] is None
    assert [lag.records for lag in source.lag()] == [0]
    source.seek("stdin", 0, 3)
    idle(source, seen, polls=1)
    assert seen.others[-1] == OutOfRange("stdin", 0, 3, len(VALUES), len(VALUES))
    source.close({}, 1)


def test_a_silent_pipe_does_not_block_a_poll() -> None:
    """While standard input has nothing to give, a poll returns when its time is up."""
    reading, writing = os.pipe()
    clock = SystemClock()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb") as out:
        source = FileSource("-", clock, stdin=stdin)
        source.poll(0, 10)
        source.seek("stdin", 0, 0)
        with unhindered():
            assert source.poll(0.1, 10) == ()
        out.write(b"{}\n")
        out.flush()
        seen = Seen()
        poll_until(source, seen, lambda: len(seen.records) == 1)
        out.close()
        poll_until(source, seen, lambda: Exhausted() in seen.others)
        source.close({}, 1)


def test_a_topic_is_made_of_a_file_name() -> None:
    """Only characters a Kafka topic may have are left."""
    assert topic_of("/data/my traces (1).jsonl") == "my_traces__1_.jsonl"
    assert topic_of("-") == "stdin"
