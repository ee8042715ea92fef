"""Records that end the daemon: found by those that follow, set aside, and no other record is lost for it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from engines import assess, build_engine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.events import TopicPartition
from monitor.ledger import schema as t
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.ports import Incident, JudgedBatch
from monitor.privacy.vault import Vault
from monitor.testing import ManualClock, MemoryLog, MemorySource, RecordingObserver, ScriptedDetectors
from monitor.trace import Record, Span, Step, StepKind, Trace

T0, T1 = ("t", 0), ("t", 1)
AT_ONCE, LATER = b"kill at once", b"kill later"
BAD = [AT_ONCE, LATER]


class Killed(BaseException):
    """The end of a process."""


def decode(record: Record) -> Sequence[Trace | Span]:
    """A trace per record, or a span of a trace of its own; some end the process at once."""
    if record.value == AT_ONCE:
        raise Killed
    name = f"{record.partition}/{record.offset}"
    trace = Trace(id=name, time=1.0, response=(record.value or b"").decode())
    if record.value == b"span":
        return [Span(trace_id=name, span_id="1", step=Step(kind=StepKind.CHAT), exchange=trace)]
    return [trace]


class Detectors(ScriptedDetectors):
    """Detectors in whose answers some traces end the process."""

    def collect(self, timeout: float) -> Sequence[JudgedBatch]:
        """Die of a trace that is judged, as of its redaction or recording."""
        judged = [trace for ticket in self._finished for trace in self.in_flight[ticket]]
        if any(trace.response == LATER.decode() for trace in judged):
            raise Killed
        return super().collect(timeout)


class Fleet:
    """Daemons that live one after the other on one log and one ledger."""

    def __init__(self, folder: Path, partitions: Mapping[TopicPartition, Sequence[bytes]]) -> None:
        self._url = f"sqlite:///{folder / 'ledger.db'}"
        self.clock = ManualClock()
        self.items = partitions
        self.log = MemoryLog(partitions)
        self.lives = 0
        self.observer = RecordingObserver()

    def open(self, owner: str) -> Ledger:
        """Open the ledger as a process of this name."""
        return Ledger.open(self._url, Vault(bytes(32)), self.clock, owner)

    def live(self, owner: str = "d0", turns: int = 2000) -> bool:
        """Live for some turns, or until killed, or until all is recorded; return whether it was."""
        self.lives += 1
        ledger = self.open(owner)
        source = MemorySource(self.log, self.clock, finite=False)
        detectors = Detectors(assess, batch_size=8, capacity=4)
        engine = build_engine(
            source, detectors, ledger, self.clock, decode=decode, observer=self.observer, owner=owner
        )
        try:
            for _ in range(turns):
                if all(ledger.position(*name) == len(items) for name, items in self.items.items()):
                    engine.drain()
                    return True
                engine.turn()
                self.clock.advance(0.3)
                detectors.finish_all()
        except Killed:
            pass  # as at the end of the loop
        finally:
            ledger.close()
        source.close({}, 1.0)  # the group expels it
        return False

    def outlive(self, owner: Callable[[int], str] = lambda _: "d0", most: int = 100) -> None:
        """Live again and again until all is recorded."""
        for number in range(most):
            if self.live(owner(number)):
                return
        pytest.fail(f"not done after {most} lives")

    def check(self) -> None:
        """Assert that each good record was judged once, each bad one set aside, and that the audit holds."""
        ledger = self.open("auditor")
        with ledger.view() as connection:
            judged = Counter(connection.execute(sa.select(t.flags.c.trace_id)).scalars())
            columns = (t.dead_letters.c.partition, t.dead_letters.c.offset, t.dead_letters.c.reason)
            letters = {tuple(row) for row in connection.execute(sa.select(*columns))}
        records = [
            (partition, offset, item)
            for (_, partition), items in self.items.items()
            for offset, item in enumerate(items)
        ]
        assert letters == {(*place, "crashed_daemon") for *place, item in records if item in BAD}
        assert judged == {f"{part}/{offset}": 1 for part, offset, item in records if item not in BAD}
        assert verify(ledger).problems == []
        ledger.close()


@pytest.mark.parametrize("cause", BAD)
@pytest.mark.parametrize("before", [0, 3, 200])
@pytest.mark.parametrize("good", [b"good", b"span"])
def test_a_record_that_kills_is_set_aside(tmp_path: Path, cause: bytes, before: int, good: bytes) -> None:
    """After two deaths with it in hand and one with it alone it is a dead letter, and intake goes on."""
    fleet = Fleet(tmp_path, {T0: [good] * before + [cause] + [good] * 20, T1: [good] * 20})
    fleet.outlive()
    fleet.check()
    # Those that die further on record some of what comes before, and die of the same again.
    assert fleet.lives in ({4} if before < 64 else range(4, 8)), fleet.lives
    assert fleet.observer.incidents.count((Incident.SUSPECTED, *T0)) >= fleet.lives - 2


def test_daemons_of_other_names_take_one_death_more(tmp_path: Path) -> None:
    """One of another name may be alive, and late to give its partition back."""
    fleet = Fleet(tmp_path, {T0: [AT_ONCE, b"good"]})
    fleet.outlive(lambda number: f"d{number}")
    fleet.check()
    assert fleet.lives == 5


def test_a_death_after_care_was_taken_is_one_like_the_first(tmp_path: Path) -> None:
    """Once the records that came after two deaths are on record, nothing is suspected any more."""
    fleet = Fleet(tmp_path, {T0: [b"good"] * 200})
    fleet.items = {T0: [b"good"] * 300}  # so it goes on until it is killed
    for turns in (1, 1, 150):
        assert not fleet.live(turns=turns)
    assert len(fleet.observer.incidents) == 1
    fleet.log.append(T0, [b"good"] * 100)
    fleet.outlive()
    fleet.check()
    assert len(fleet.observer.incidents) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    partitions=st.lists(
        st.lists(st.sampled_from([b"good"] * 8 + [b"span"] * 4 + BAD), max_size=120), min_size=1, max_size=3
    ),
    names=st.integers(1, 2),
)
def test_whatever_kills_no_record_is_lost_or_judged_twice(
    tmp_path_factory: pytest.TempPathFactory, partitions: list[list[bytes]], names: int
) -> None:
    """With records that kill on any partition, intake goes on past each of them."""
    folder = tmp_path_factory.mktemp("fleet")
    fleet = Fleet(folder, {("t", number): items for number, items in enumerate(partitions)})
    fleet.outlive(lambda number: f"d{number % names}", most=1000)
    fleet.check()


def test_kills_from_outside_set_nothing_aside(tmp_path: Path) -> None:
    """Daemons that are killed before they have a record in hand lose time, and no record."""
    fleet = Fleet(tmp_path, {T0: [b"good"] * 300})
    for _ in range(5):
        assert not fleet.live(turns=1)
    fleet.outlive()
    fleet.check()


def test_a_partition_that_is_given_back_counts_no_death(tmp_path: Path) -> None:
    """A stop and a rebalance are no deaths, however little was judged."""
    fleet = Fleet(tmp_path, {T0: [b"good"] * 30})
    for number in range(6):
        ledger = fleet.open(f"d{number}")
        source = MemorySource(fleet.log, fleet.clock, finite=False)
        detectors = ScriptedDetectors(assess)
        engine = build_engine(
            source, detectors, ledger, fleet.clock, decode=decode, observer=fleet.observer, drain_seconds=0.0
        )
        for _ in range(3):
            engine.turn()
        engine.drain()
        ledger.close()
    fleet.outlive()
    fleet.check()
    assert not fleet.observer.incidents


def test_an_operators_move_forgets_deaths(tmp_path: Path) -> None:
    """After it other records are in hand, so nothing is known of them."""
    fleet = Fleet(tmp_path, {T0: [AT_ONCE, b"good"]})
    while fleet.observer.incidents.count((Incident.SUSPECTED, *T0)) == 0:
        assert not fleet.live()
    ledger = fleet.open("operator")
    ledger.move("t", 0, 1, "it kills")
    ledger.close()
    assert fleet.live()
    ledger = fleet.open("auditor")
    assert verify(ledger).gaps == ["t/0 offsets [0, 1): it kills"]
    ledger.close()
