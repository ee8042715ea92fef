"""The spool and sources combined: what was received is read in order, once, and deleted when judged."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from contracts.source import CHECKS, Rig, Seen, poll_until
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.clock import ManualClock, SystemClock
from monitor.errors import Conflict, Retryable, Tampered
from monitor.events import Assigned, Event, Exhausted, Fetched, OffsetRange, OutOfRange, Stuck, StuckReason
from monitor.ledger import queries
from monitor.ledger import schema as t
from monitor.ledger.claims import Claim
from monitor.ledger.spool import LedgerSpool, usage_by_topic
from monitor.ledger.store import Ledger
from monitor.outcome.transaction import Claimed, EngineVersion, Finished, Transaction, coverage_of
from monitor.privacy.vault import Vault
from monitor.progress import Mark, StartPosition, StartReason
from monitor.sources.combined import CombinedSource
from monitor.sources.memory import MemoryLog, MemorySource
from monitor.sources.spool import READ_BYTES, SpoolSource
from monitor.spool import Received, SpoolUsage, is_spool, spool_topic

VAULT = Vault(bytes(range(32)))
TRACES, LOGS = spool_topic("traces", "one"), spool_topic("logs", "one")
JSON = "application/json"
BODIES = [b'{"n": %d}' % n for n in range(40)]


@contextmanager
def opened(folder: Path, *, records: int = 1000, size: int = 10**9) -> Iterator[tuple[Ledger, LedgerSpool]]:
    """A ledger in a file with the spool of one instance."""
    ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}", VAULT, ManualClock(), "one")
    try:
        yield ledger, LedgerSpool(ledger, VAULT, (TRACES, LOGS), max_records=records, max_bytes=size)
    finally:
        ledger.close()


def bodies(topic: str, values: Sequence[bytes]) -> list[Received]:
    """Bodies received, a second apart."""
    return [Received(topic, float(n), JSON, value) for n, value in enumerate(values)]


def judge(ledger: Ledger, claim: Claim, topic: str, start: int, end: int) -> Claim:
    """Record that offsets are judged; returns the claim to go on with."""
    ledger.record(
        Transaction(
            owner="one",
            version=EngineVersion.of({"pii": "1"}, "rules"),
            marks={(topic, 0): Claimed(claim.epoch, claim.version, Mark(end))},
            coverage=coverage_of([Finished(topic, 0, OffsetRange(start, end), end - start)], [], []),
            flags=[],
            feedback=[],
            outgoing=[],
            kept_traces=[],
            dead_letters=[],
            snapshots={},
        )
    )
    return claim._replace(version=claim.version + 1)


def claimed(ledger: Ledger, spool: LedgerSpool, topic: str) -> Claim:
    """Claim a topic as the engine does, even where it is to begin at the latest."""
    events = SpoolSource(spool, SystemClock()).poll(0, 1)
    event = next(event for event in events if isinstance(event, Assigned) and event.topic == topic)
    claim = ledger.claim(event, latest=True)
    assert isinstance(claim, Claim)
    return claim


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A spool of two topics."""
    expected = {(TRACES, 0): BODIES, (LOGS, 0): BODIES[:9]}
    with opened(tmp_path) as (_, spool):
        for (topic, _), values in expected.items():
            assert spool.append(bodies(topic, values)) == len(values)
        yield Rig(lambda: SpoolSource(spool, SystemClock()), expected, remembers=False, finite=False, fresh=0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_spool_keeps_the_contract(check: Callable[[Rig], None], rig: Rig) -> None:
    """A spool is a source like any other."""
    check(rig)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sources_combined_keep_the_contract(check: Callable[[Rig], None]) -> None:
    """Two sources combined are a source like any other."""
    parts = [
        {("t", 0): BODIES, ("t", 1): BODIES[:9]},
        {("u", 0): BODIES[:20]},
    ]
    logs = [MemoryLog(part) for part in parts]

    def both() -> CombinedSource:
        clock = SystemClock()
        return CombinedSource([MemorySource(log, clock) for log in logs], clock)

    check(Rig(both, {**parts[0], **parts[1]}, remembers=True, finite=True))


def test_what_is_received_is_read_with_its_content_type_and_time(tmp_path: Path) -> None:
    """A record of the spool has the body, the time it came and the header that names its encoding."""
    with opened(tmp_path) as (_, spool):
        spool.append([Received(TRACES, 5.0, "application/x-protobuf", b"\x00\xff")])
        (record,) = spool.read(TRACES, 0, 10, 100)
    assert (record.topic, record.offset, record.time, record.value) == (TRACES, 0, 5.0, b"\x00\xff")
    assert dict(record.headers) == {"content-type": b"application/x-protobuf"}


@pytest.mark.parametrize(("records", "size"), [(4, 10**6), (1000, 9)])
def test_a_body_of_several_records_is_written_whole_or_not_at_all(
    tmp_path: Path, records: int, size: int
) -> None:
    """Where its last record has no room, none is written, and a later one that would fit waits its turn."""
    with opened(tmp_path, records=records, size=size) as (_, spool):
        body = Received(TRACES, 5.0, JSON, b"aa", (b"bb", b"cc"))
        assert spool.append([body, body, Received(TRACES, 5.0, JSON, b"d")]) == 1
        assert [record.value for record in spool.read(TRACES, 0, 10, 100)] == [b"aa", b"bb", b"cc"]
        assert spool.usage()[TRACES] == SpoolUsage(0, 3, 6)


def test_bodies_are_unreadable_on_disk_and_gone_once_judged(tmp_path: Path) -> None:
    """The file never holds a body in the clear, and no row of it once the position has passed."""
    with opened(tmp_path) as (ledger, spool):
        spool.append(bodies(TRACES, [b"canary-spool"] * 5))
        claim = claimed(ledger, spool, TRACES)
        judge(ledger, claim, TRACES, 0, 3)
        assert spool.usage()[TRACES] == SpoolUsage(3, 5, 24)
        assert [record.offset for record in spool.read(TRACES, 0, 10, 100)] == [3, 4]
    for file in tmp_path.iterdir():
        assert b"canary-spool" not in file.read_bytes()


def test_offsets_go_on_when_all_was_judged_and_the_audit_holds(tmp_path: Path) -> None:
    """After a restart on an empty spool the next body gets the next offset, and the audit has no gap."""
    with opened(tmp_path) as (ledger, spool):
        spool.append(bodies(TRACES, BODIES[:4]))
        judge(ledger, claimed(ledger, spool, TRACES), TRACES, 0, 4)
        assert spool.usage()[TRACES] == SpoolUsage(4, 4, 0)
    with opened(tmp_path) as (ledger, spool):
        assert spool.end(TRACES) == 4
        spool.append(bodies(TRACES, BODIES[:2]))
        judge(ledger, claimed(ledger, spool, TRACES), TRACES, 4, 6)
        report = queries.verify(ledger)
    assert (report.ok, report.positions, report.records) == (True, {f"{TRACES}/0": 6}, 6)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=8),
    judged=st.lists(st.integers(0, 40), max_size=8),
)
def test_a_spool_holds_its_bounds_and_counts_right(sizes: list[list[int]], judged: list[int]) -> None:
    """However bodies come and are judged, usage is what a list would say, and the bounds are kept."""
    ledger = Ledger.open("sqlite://", VAULT, ManualClock(), "one")
    spool = LedgerSpool(ledger, VAULT, (TRACES, LOGS), max_records=12, max_bytes=100)
    claim = claimed(ledger, spool, TRACES)
    held: list[int] = []
    begin = 0
    for step, group in enumerate(sizes):
        room = 0
        for size in group:
            if len(held) + room >= 12 or sum(held) + sum(group[: room + 1]) > 100:
                break
            room += 1
            del size
        assert spool.append(bodies(TRACES, [b"x" * size for size in group])) == room
        held += group[:room]
        assert spool.usage()[TRACES] == SpoolUsage(begin, begin + len(held), sum(held))
        done = min(judged[step], len(held)) if step < len(judged) else 0
        if done:
            claim = judge(ledger, claim, TRACES, begin, begin + done)
            begin, held = begin + done, held[done:]
            assert spool.usage()[TRACES] == SpoolUsage(begin, begin + len(held), sum(held))
    ledger.close()


def test_a_read_is_bounded_in_bytes_and_never_empty(tmp_path: Path) -> None:
    """Records come until the bytes are used up, but one always comes, however large."""
    with opened(tmp_path) as (_, spool):
        spool.append(bodies(TRACES, [b"x" * 60, b"x" * 30, b"x" * 30]))
        assert [record.offset for record in spool.read(TRACES, 0, 10, 50)] == [0]
        assert [record.offset for record in spool.read(TRACES, 0, 10, 90)] == [0, 1]
        assert [record.offset for record in spool.read(TRACES, 1, 10, READ_BYTES)] == [1, 2]
        assert spool.read(TRACES, 3, 10, 50) == ()


def test_a_body_that_was_altered_stops_its_topic_and_an_operator_moves_on(tmp_path: Path) -> None:
    """What comes before it is delivered, then the topic is stuck until it is sought elsewhere."""
    with opened(tmp_path) as (ledger, spool):
        spool.append(bodies(TRACES, BODIES[:4]))
        with ledger.begin() as connection:
            connection.execute(t.spool.update().where(t.spool.c.offset == 2).values(sealed=b"x" * 40))
        source, seen = SpoolSource(spool, SystemClock()), Seen()
        poll_until(source, seen, lambda: bool(seen.assigned))
        source.seek(TRACES, 0, 0)
        poll_until(source, seen, lambda: bool(seen.others))
        assert [record.offset for record in seen.records] == [0, 1]
        assert seen.others == [Stuck(TRACES, 0, 2, StuckReason.CORRUPT_BATCH)]
        source.seek(TRACES, 0, 3)
        poll_until(source, seen, lambda: len(seen.records) == 3)
        assert seen.records[-1].offset == 3


def test_rows_cannot_be_swapped(tmp_path: Path) -> None:
    """A sealed body opens only at the offset it was written at."""
    with opened(tmp_path) as (ledger, spool):
        spool.append(bodies(TRACES, BODIES[:2]))
        with ledger.begin() as connection:
            sealed = connection.execute(sa.select(t.spool.c.sealed).where(t.spool.c.offset == 0)).scalar()
            connection.execute(t.spool.update().where(t.spool.c.offset == 1).values(sealed=sealed))
        with pytest.raises(Tampered, match="wrong key file, or the row was altered"):
            spool.read(TRACES, 1, 1, 100)


def test_a_position_beyond_the_spool_is_not_read(tmp_path: Path) -> None:
    """Sought where nothing is, the source says so; what was judged cannot be judged again."""
    with opened(tmp_path) as (ledger, spool):
        spool.append(bodies(TRACES, BODIES[:4]))
        source = SpoolSource(spool, SystemClock())
        source.poll(0, 1)
        source.seek(TRACES, 0, 9)
        assert source.poll(0, 10) == [OutOfRange(TRACES, 0, 9, 0, 4)]
        judge(ledger, claimed(ledger, spool, TRACES), TRACES, 0, 4)
        with pytest.raises(Conflict, match="what was judged of a spool is deleted"):
            ledger.move(TRACES, 0, 2, "again")
        placed = ledger.claim(Assigned(TRACES, 0, 4, 4, 4), latest=False)
    assert isinstance(placed, Claim)
    assert placed.start == StartPosition(4, StartReason.LEDGER)


def test_instances_have_spools_of_their_own(tmp_path: Path) -> None:
    """Two daemons on one ledger number their bodies apart, and the ledger shows what each left."""
    with opened(tmp_path) as (ledger, spool):
        theirs = spool_topic("traces", "two")
        other = LedgerSpool(ledger, VAULT, (theirs,), max_records=10, max_bytes=1000)
        assert spool.append(bodies(TRACES, BODIES[:3])) == 3
        assert other.append([Received(theirs, 7.0, JSON, b"{}")]) == 1
        assert other.usage() == {theirs: SpoolUsage(0, 1, 2)}
        assert usage_by_topic(ledger) == {
            TRACES: (SpoolUsage(0, 3, 24), 0.0),
            theirs: (SpoolUsage(0, 1, 2), 7.0),
        }


def test_a_topic_of_the_spool_can_be_none_of_kafka() -> None:
    """Kafka allows letters, digits, dots, underscores and hyphens only."""
    assert is_spool(spool_topic("logs", "host-1.example_a"))
    assert not is_spool("otlp.logs")
    assert "@" in TRACES


def test_reading_waits_for_no_writer(tmp_path: Path) -> None:
    """While another process holds the write lock, what waits can still be read."""
    with opened(tmp_path) as (_, spool):
        spool.append(bodies(TRACES, BODIES[:1]))
        writer = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        try:
            assert len(spool.read(TRACES, 0, 1, 100)) == 1
            assert spool.usage()[TRACES].end == 1
        finally:
            writer.close()


def test_a_ledger_of_the_version_before_gets_a_spool(tmp_path: Path) -> None:
    """A ledger made by the first migration is brought up to date when it is opened, and keeps its rows."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as connection:
        t.migrate(connection, t.MIGRATIONS[:1])
        connection.execute(t.feedback.insert().values(id="f", created=1.0, body="{}"))
        assert "spool" not in sa.inspect(connection).get_table_names()
    engine.dispose()
    with opened(tmp_path) as (ledger, spool):
        assert spool.append(bodies(TRACES, BODIES[:1])) == 1
        assert list(queries.feedback_items(ledger)) == [{}]


class Refusing(MemorySource):
    """A source whose broker refuses for now."""

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Refuse."""
        del timeout, max_records
        raise Retryable("not now")


def test_a_source_that_refuses_holds_up_no_other() -> None:
    """What others have is delivered; the refusal is raised when there is nothing else."""
    clock = ManualClock()
    source = CombinedSource([Refusing(MemoryLog({})), MemorySource(MemoryLog({("t", 0): BODIES[:1]}))], clock)
    assert source.poll(0, 10) == [Assigned("t", 0, None, 0, 1)]
    source.seek("t", 0, 0)
    fetched = source.poll(0, 10)
    assert [type(event) for event in fetched] == [Fetched]
    with pytest.raises(Retryable, match="not now"):
        source.poll(0, 10)


def test_the_conditions_of_all_sources_are_those_of_the_whole() -> None:
    """A condition that any source has is one of theirs combined; most sources have none."""

    class Unwell(MemorySource):
        def health(self) -> Mapping[str, bool]:
            return {"group_member": False}

    assert CombinedSource([MemorySource(MemoryLog({}))], ManualClock()).health() == {}
    sources = [MemorySource(MemoryLog({})), Unwell(MemoryLog({}))]
    assert CombinedSource(sources, ManualClock()).health() == {"group_member": False}


def test_a_busy_source_starves_no_other() -> None:
    """With more to read than a poll may return, two sources take turns."""
    sources = [MemorySource(MemoryLog({(name, 0): BODIES})) for name in ("t", "u")]
    source = CombinedSource(sources, ManualClock())
    source.poll(0, 10)
    for name in ("t", "u"):
        source.seek(name, 0, 0)
    polls = [source.poll(0, 10) for _ in range(4)]
    topics = [event.topic for events in polls for event in events if isinstance(event, Fetched)]
    assert sorted(topics) == ["t", "t", "u", "u"]
    assert not any(isinstance(event, Exhausted) for events in polls for event in events)
