"""Logs that turn out to be another one, positions that move: what is new is judged once, what is old not."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from engines import assess, build_engine, decode_time
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.engine.partitions import BEYOND_SECONDS, LOOK_SECONDS, RECLAIM_SECONDS, Partitions
from monitor.events import Assigned, Existing, Passed
from monitor.ledger import queries
from monitor.ledger import schema as t
from monitor.ledger.store import Ledger
from monitor.ports import Incident
from monitor.privacy.vault import Vault
from monitor.progress import StartPosition
from monitor.sources.memory import MARKER
from monitor.testing import (
    FlakyLedger,
    ManualClock,
    MemoryLog,
    MemorySource,
    RecordingObserver,
    ScriptedDetectors,
)
from monitor.trace import Record

T0 = ("t", 0)


class Installation:
    """A log, a ledger, and daemons on them, one at a time; `x` is a record that cannot be decoded."""

    def __init__(self, items: Sequence[Any] = (), **log: Any) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog({T0: items}, **log)
        self.ledger = Ledger.open("sqlite://", Vault(bytes(32)), self.clock, "d0")
        self.observer = RecordingObserver()
        self.flaky = FlakyLedger(self.ledger)
        self.sources: list[MemorySource] = []
        self.start()

    def start(self, **settings: Any) -> None:
        """Start a daemon; one that ran before is gone as by a power cut."""
        for source in self.sources:
            source._leave()
        self.source = MemorySource(self.log, self.clock, finite=False)
        self.sources.append(self.source)
        self.detectors = ScriptedDetectors(assess)
        self.engine = build_engine(
            self.source,
            self.detectors,
            self.flaky,
            self.clock,
            decode=decode_time,
            observer=self.observer,
            **settings,
        )

    def turns(self, number: int = 20) -> None:
        """Let the daemon work."""
        for _ in range(number):
            self.engine.turn()
            self.clock.advance(0.3)
            self.detectors.finish_all()

    def flags(self) -> list[tuple[int, int]]:
        """Incarnation and offset of each flag on record."""
        c = t.flags.c
        with self.ledger.view() as connection:
            rows = connection.execute(sa.select(c.incarnation, c.offset)).all()
        return sorted((row.incarnation, row.offset) for row in rows)

    def letters(self) -> list[tuple[int, int]]:
        """Incarnation and offset of each dead letter."""
        return sorted((row.incarnation, row.offset) for row in queries.letters(self.ledger))

    def counted(self) -> Counter[Incident]:
        """Incidents so far."""
        return Counter(incident for incident, _, _ in self.observer.incidents)

    def entries(self, kind: str) -> list[str]:
        """Bodies of the chain's entries of a kind."""
        query = sa.select(t.chain.c.body).where(t.chain.c.kind == kind).order_by(t.chain.c.seq)
        with self.ledger.view() as connection:
            return list(connection.execute(query).scalars())


@pytest.fixture
def installation() -> Iterator[Callable[..., Installation]]:
    """Makes installations and closes their ledgers."""
    made: list[Installation] = []

    def make(*arguments: Any, **keywords: Any) -> Installation:
        made.append(Installation(*arguments, **keywords))
        return made[-1]

    yield make
    for each in made:
        each.ledger.close()


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_topic_made_anew_is_judged_from_its_first_record(
    installation: Callable[..., Installation], length: int, *, running: bool
) -> None:
    """Shorter, as long or longer, seen or not: all of it is new, and a restart forgets none of it."""
    here = installation([b"1", b"x", b"1"], topic_id="old")
    here.turns()
    here.log.recreate(T0, [b"1", b"x", b"1", b"1", b"1"][:length], topic_id="new")
    if not running:
        here.start()
    here.turns(60)
    here.start()
    here.turns()
    assert here.flags() == [(0, 0), (0, 2)] + [(1, n) for n in range(length) if n != 1]
    assert here.letters() == [(0, 1)] + [(1, 1)] * (length > 1)
    report = queries.verify(here.ledger)
    assert (report.ok, report.problems, report.records) == (True, [], 3 + length)
    assert report.incarnations == ["t/0 is another log from offset 0 on: recreated"]
    assert here.counted()[Incident.RECREATED] == 1
    with here.ledger.view() as connection:
        destinations = connection.execute(sa.select(t.outbox.c.destination, t.outbox.c.key)).all()
    assert len(destinations) == len(set(destinations)) > 0


def test_a_topic_without_an_id_is_told_by_the_record_before_the_position(
    installation: Callable[..., Installation],
) -> None:
    """Another time at that offset shows another log; the same time shows the same one."""
    here = installation([b"1", b"1"], stamped=True)
    here.turns()
    here.start()
    here.turns()
    here.log.append(T0, [b"1"])
    here.turns()
    assert here.flags() == [(0, 0), (0, 1), (0, 2)]
    assert here.counted()[Incident.RECREATED] == 0
    anew = [Record(*T0, offset, 100.0 + offset, None, b"1") for offset in range(4)]
    here.log.recreate(T0, anew)
    here.start()
    here.turns()
    assert here.flags() == [(0, 0), (0, 1), (0, 2), *((1, n) for n in range(4))]
    assert queries.verify(here.ledger).ok


def test_a_topic_that_stays_shorter_than_the_position_is_another_one(
    installation: Callable[..., Installation],
) -> None:
    """It is waited for, not ready meanwhile; then what is there is read as new."""
    here = installation([b"1"] * 4)
    here.turns()
    here.log.recreate(T0, [b"1"])
    here.start()
    here.turns(10)
    assert not here.engine.health()["no_partition_stuck"]
    assert here.flags() == [(0, n) for n in range(4)]
    here.turns(int(BEYOND_SECONDS / 0.3) + 20)
    assert here.engine.health()["no_partition_stuck"]
    assert here.flags() == [(0, n) for n in range(4)] + [(1, 0)]


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=12))
@settings(max_examples=100)
def test_an_end_that_is_old_never_makes_a_log_another_one(steps: list[tuple[int, int]]) -> None:
    """While another daemon judges on, an end from before is waited for, however long that takes."""
    clock = ManualClock()
    ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
    source = MemorySource(MemoryLog({T0: []}), clock, finite=False)
    observer = RecordingObserver()
    late = Partitions(source, ledger, observer, clock, latest=False)
    ledger.claim(Assigned(*T0, None, 0, 5), latest=False)
    position, since = 5, 0.0
    for more, seconds in steps:
        clock.advance(seconds)
        since = 0.0 if more else since + seconds
        position += more
        with ledger.begin() as connection:  # what its transactions leave: the position, and no operator
            connection.execute(t.positions.update().values(next_offset=position, moved=0))
        late.claim(Assigned(*T0, None, 0, position - 1))
        if since < BEYOND_SECONDS:
            assert late.stuck
            assert not [name for name, *_ in observer.incidents if name is Incident.RECREATED]
        else:
            return  # nobody has judged for so long: then it is another log


@pytest.mark.parametrize("running", [True, False])
def test_a_log_that_was_cut_off_is_judged_from_the_cut(
    installation: Callable[..., Installation], *, running: bool
) -> None:
    """What stood behind the cut stays on record, what is written there now is new."""
    here = installation([b"1"] * 6)
    here.turns()
    here.log.cut(T0, 3)
    here.log.append(T0, [b"1"] * 9)
    if not running:
        here.start()
    here.turns()
    here.start()
    here.turns()
    assert here.flags() == [(0, n) for n in range(6)] + [(1, n) for n in range(3, 12)]
    report = queries.verify(here.ledger)
    assert (report.ok, report.records) == (True, 15)
    assert report.incarnations == ["t/0 is another log from offset 3 on: truncated"]
    assert here.counted()[Incident.TRUNCATED] == 1


@pytest.mark.parametrize("state", ["idle", "busy", "stopped", "stuck"])
def test_a_move_back_is_followed_within_seconds(
    installation: Callable[..., Installation], state: str
) -> None:
    """Whatever the daemon does, it reads again from there; nothing is recorded twice, or called fenced."""
    here = installation([b"1"] * 6)
    here.turns()
    if state == "stuck":
        here.log.partitions()[T0].bad.add(6)
        here.log.append(T0, [b"1"])
        here.turns(5)
        assert here.engine.health()["no_partition_stuck"] is False
    if state == "busy":
        here.log.append(T0, [b"1"] * 40)
        here.turns(3)
    here.ledger.move("t", 0, 2, "better rules")
    read_again: list[int] = []
    poll = here.source.poll

    def spied(*arguments: Any) -> Sequence[Any]:
        events = poll(*arguments)
        read_again.extend(r.offset for e in events for r in getattr(e, "records", ()))
        return events

    if state == "stopped":
        here.log.committed[T0] = 6
        here.start()
        poll = here.source.poll
    here.source.poll = spied  # type: ignore[method-assign,assignment] # to see what is read
    unfenced = set[bool]()
    for _ in range(12):  # 3.6 s
        here.turns(1)
        unfenced.add(here.engine.health()["no_partition_fenced"])
    assert 2 in read_again
    # Whoever writes meanwhile learns of the move by being refused, as after another daemon's claim.
    assert unfenced == {True} or state == "busy"
    here.turns(30)
    report = queries.verify(here.ledger)
    assert report.problems == []
    assert len(here.flags()) == len(set(here.flags()))
    assert here.counted()[Incident.FENCED] <= 1
    assert here.counted()[Incident.LEDGER_BEHIND] == 0


@pytest.mark.parametrize("busy", [False, True])
def test_a_partition_that_another_daemon_claimed_is_claimed_again_within_seconds(
    installation: Callable[..., Installation], *, busy: bool
) -> None:
    """Meanwhile the daemon is not ready, also one that has nothing to write; nothing is judged twice."""
    here = installation([b"1"] * 6)
    here.turns()
    here.ledger.claim(Assigned("t", 0, None, 0, 6), latest=False)
    if busy:
        here.log.append(T0, [b"1"] * 3)
    fenced = []
    for _ in range(50):  # 15 s
        here.turns(1)
        fenced.append(not here.engine.health()["no_partition_fenced"])
    noticed, again = fenced.index(True) * 0.3, (len(fenced) - fenced[::-1].index(True)) * 0.3
    assert noticed <= LOOK_SECONDS + 0.6
    assert again - noticed <= RECLAIM_SECONDS + 0.6
    here.log.append(T0, [b"1"])
    here.turns()
    assert here.flags() == [(0, offset) for offset in range(10 if busy else 7)]
    assert here.counted()[Incident.FENCED] == 1
    assert queries.verify(here.ledger).ok


def test_a_move_ahead_ends_what_is_stuck(installation: Callable[..., Installation]) -> None:
    """A batch that cannot be read is passed over, on record, and reading goes on within seconds."""
    here = installation([b"1", b"1"])
    here.turns()
    here.log.partitions()[T0].bad.add(2)
    here.log.append(T0, [b"1", b"1"])
    here.turns(5)
    here.ledger.move("t", 0, 3, "corrupt batch")
    here.turns(12)
    assert here.flags() == [(0, 0), (0, 1), (0, 3)]
    assert here.engine.health()["no_partition_stuck"]
    assert queries.verify(here.ledger).gaps == ["t/0 offsets [2, 3): corrupt batch"]


def test_a_position_that_was_moved_beyond_the_end_waits_for_its_operator(
    installation: Callable[..., Installation],
) -> None:
    """An operator's slip is no new log: nothing is read until the position is put right."""
    here = installation([b"1", b"1"])
    here.turns()
    here.ledger.move("t", 0, 900, "a slip")
    here.turns(80)
    assert here.engine.health()["no_partition_stuck"] is False
    assert here.flags() == [(0, 0), (0, 1)]
    here.ledger.move("t", 0, 2, "put right")
    here.log.append(T0, [b"1"])
    here.turns(20)
    assert here.flags() == [(0, 0), (0, 1), (0, 2)]


def test_a_ledger_behind_the_commit_reads_again(installation: Callable[..., Installation]) -> None:
    """What a restored backup lost is judged from the broker, and that it was behind is on record."""
    here = installation([b"1"] * 5)
    here.log.committed[T0] = 0
    here.turns()
    here.log.committed[T0] = 9
    here.log.append(T0, [b"1"] * 4)
    here.start()
    here.turns()
    assert here.flags() == [(0, n) for n in range(9)]
    assert here.counted()[Incident.LEDGER_BEHIND] == 1
    assert len(here.entries("behind")) == 1
    assert queries.verify(here.ledger).ok


def test_a_new_ledger_over_an_old_group_puts_the_gap_on_record(
    installation: Callable[..., Installation],
) -> None:
    """What retention took since the group's commit is a gap, in metric, chain and audit."""
    here = installation()
    here.log.partitions()[T0].begin = 4
    here.log.append(T0, [Record(*T0, 4, 1.0, None, b"1")])
    here.log.committed[T0] = 1
    here.turns()
    assert queries.verify(here.ledger).gaps == ["t/0 offsets [1, 4): retention"]
    assert here.counted()[Incident.GAP] == 1
    assert here.flags() == [(0, 4)]


def test_latest_holds_for_what_existed_at_the_first_start(installation: Callable[..., Installation]) -> None:
    """Partitions that came later are read from their start, whoever asks and however often it starts."""
    here = installation([b"1"] * 3)
    here.start(latest=True)
    first = here.source.poll
    here.source.poll = lambda *a: [Existing({T0: 3}), *first(*a)]  # type: ignore[method-assign] # once is enough
    here.engine.turn()
    here.source.poll = first  # type: ignore[method-assign] # as above
    here.log.append(T0, [b"1"])
    here.log.append(("t", 1), [b"1", b"1"])
    here.turns()
    assert sorted(here.flags()) == [(0, 0), (0, 1), (0, 3)]
    here.start(latest=True)
    here.log.append(("new", 0), [b"1"])
    here.turns()
    with here.ledger.view() as connection:
        starts = connection.execute(sa.select(t.positions.c.topic, t.positions.c.next_offset)).all()
    assert sorted(map(tuple, starts)) == [("new", 1), ("t", 2), ("t", 4)]


def test_offsets_without_records_are_covered(installation: Callable[..., Installation]) -> None:
    """Markers at the end move position and commit, and retention over them is no gap."""
    here = installation([b"1"])
    here.turns()
    here.source._events.append(Passed(*T0, 7))
    here.turns()
    assert here.log.committed[T0] == 7
    here.log.partitions()[T0].begin = 7
    here.log.partitions()[T0].records.clear()
    here.start()
    here.turns()
    report = queries.verify(here.ledger)
    assert (report.ok, report.records, report.positions) == (True, 1, {"t/0": 7})


@given(
    steps=st.lists(
        st.tuples(
            st.lists(st.sampled_from([b"1", b"0", b"x", MARKER]), max_size=4),
            st.sampled_from(["", "before", "after"]),
            st.integers(1, 3),
        ),
        max_size=8,
    )
)
def test_nothing_joins_a_transaction_that_may_have_been_written(
    steps: list[tuple[list[Any], str, int]],
) -> None:
    """Whatever arrives while the ledger fails, or while its answer is lost, is covered once and in order."""
    here = Installation()
    offsets = 0
    for items, fault, turns in steps:
        here.log.append(T0, items)
        here.flaky.faults = [fault] if fault else []
        offsets += len(items)
        for _ in range(turns):
            here.engine.turn()
            here.clock.advance(1.1)  # so that lags, and with them markers, are looked at in every turn
            here.detectors.finish_all()
            report = queries.verify(here.ledger)
            assert not report.problems
    here.flaky.faults = []
    here.turns()
    report = queries.verify(here.ledger)
    assert (report.problems, report.gaps, report.open) == ([], [], [])
    assert report.positions == {"t/0": offsets}
    assert report.records == sum(item is not MARKER for items, *_ in steps for item in items)
    here.ledger.close()


def test_tombstones_are_passed_over_and_counted(installation: Callable[..., Installation]) -> None:
    """A record without a value is no dead letter: it is recorded, with nothing to judge, and counted."""
    counted: list[tuple[Any, ...]] = []
    here = installation([b"1", Record(*T0, 1, 1.0, b"key", None), b"1"])
    here.observer.skipped = lambda *what: counted.append(what)  # type: ignore[method-assign] # to hear it
    here.turns()
    assert (here.flags(), here.letters()) == ([(0, 0), (0, 2)], [])
    assert counted == [("t", "tombstone", 1)]
    assert queries.verify(here.ledger).records == 3
    assert here.engine.totals.consumed == here.engine.totals.recorded == 3


CHANGES = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("recreate"), st.integers(0, 6)),
    st.tuples(st.just("cut"), st.integers(0, 6)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 8)),
)


@settings(deadline=None)
@given(changes=st.lists(CHANGES, max_size=12), named=st.booleans())
def test_every_record_of_every_log_is_judged_once(changes: list[tuple[str, int]], *, named: bool) -> None:
    """However logs follow one another, a record has one flag, and none of those there at the end has none."""
    here = Installation([], topic_id="id0" if named else "", stamped=True)
    written = 0

    def write(number: int) -> None:
        nonlocal written
        end = here.log.partitions()[T0].end
        here.log.append(T0, [Record(*T0, end + n, float(written + n), None, b"1") for n in range(number)])
        written += number

    write(1)
    here.turns(40)
    for nth, (change, number) in enumerate(changes):
        match change:
            case "append":
                write(number)
            case "recreate":
                here.log.recreate(T0, topic_id=f"id{nth + 1}" if named else "")
                write(number)
                if not named:  # a topic without an id is told at the next start
                    here.start()
            case "cut":
                here.log.cut(T0, min(number, here.log.partitions()[T0].end))
                here.turns(90)
                write(1)  # without an id, a log is told by a record of it
            case "restart":
                here.start()
            case _:
                here.turns(number)
        if change in {"recreate", "cut"}:
            here.turns(90)  # two changes that nobody saw apart are one
    here.turns(90)
    report = queries.verify(here.ledger)
    with here.ledger.view() as connection:
        traces = Counter(connection.execute(sa.select(t.flags.c.trace_id)).scalars())
    here.ledger.close()
    assert (report.problems, report.gaps) == ([], [])
    assert set(traces.values()) <= {1}
    assert {str(record.time) for record in here.log.partitions()[T0].records} <= traces.keys()
    assert report.records == traces.total()


@given(
    steps=st.lists(
        st.sampled_from(["record", "recreate", "stale", "new partition, stale", "restart", "turn"]),
        max_size=12,
    )
)
def test_an_id_that_was_replaced_never_names_a_new_log(steps: list[str]) -> None:
    """Whoever is assigned a partition by old metadata waits for new: no log is judged under two ids."""
    here = Installation([b"1"], topic_id="id-0")
    here.turns(4)
    written, stale = [1], list[str]()
    for step in steps:
        match step:
            case "record":
                here.log.append(T0, [b"1"])
                written[-1] += 1
            case "recreate":
                stale.append(f"id-{len(stale)}")
                here.log.recreate(T0, topic_id=f"id-{len(stale)}")
                written.append(0)
                here.turns(20)  # so that a claim has shown the new id
            case "stale":
                for old in stale:
                    here.source._events.append(Assigned(*T0, None, 0, written[-1], old))
                    here.engine.turn()
            case "new partition, stale":
                for old in stale:
                    assert isinstance(
                        here.ledger.claim(Assigned("t", 7, None, 0, 5, old), latest=False), StartPosition
                    )
            case "restart":
                here.start()
            case _:
                here.turns(4)
    here.turns(60)
    report = queries.verify(here.ledger)
    assert (report.problems, report.open) == ([], [])
    assert len(report.incarnations) == len(written) - 1
    assert report.records == len(here.flags())
    judged = Counter(incarnation for incarnation, _ in here.flags())
    assert judged[len(written) - 1] == written[-1]
    assert here.engine.health()["no_partition_stuck"]
    here.ledger.close()


def test_an_operator_admits_an_id_that_was_replaced(installation: Callable[..., Installation]) -> None:
    """A cluster restored from a backup has its old ids again: a move says that they are to count."""
    here = installation([b"1"], topic_id="old")
    here.turns()
    here.log.recreate(T0, [b"1", b"1"], topic_id="new")
    here.turns(60)
    here.log.recreate(T0, [b"1"] * 3, topic_id="old")
    here.turns(60)
    assert here.engine.health()["no_partition_stuck"] is False
    assert here.counted()[Incident.STUCK] == 1
    here.ledger.move("t", 0, 0, "restored from the backup of Monday")
    here.turns(60)
    assert here.engine.health()["no_partition_stuck"]
    assert Counter(incarnation for incarnation, _ in here.flags()) == {0: 1, 1: 2, 2: 3}
    assert not queries.verify(here.ledger).problems
