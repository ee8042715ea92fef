"""Who fills the bounds is read no further; who sends little is, and waits for no one."""

from collections.abc import Sequence
from typing import Any

from engines import assess, build_engine
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from monitor.engine import Engine
from monitor.engine.portions import MOST_BYTES
from monitor.engine.throttle import ALPHA, crowding
from monitor.findings import Judgement
from monitor.ledger.store import Ledger
from monitor.ports import Observer
from monitor.privacy.vault import Vault
from monitor.testing import ManualClock, MemoryLog, MemorySource, ScriptedDetectors
from monitor.trace import Record, Trace

LOADS = st.lists(st.floats(0.0, 1.0), max_size=6)


@given(LOADS, st.floats(0.0, 2.0), st.sets(st.integers(0, 5)))
def test_only_who_waits_is_held_and_the_largest_first(
    loads: list[float], more: float, before: set[int]
) -> None:
    """Without anything waiting none is held; beyond the bounds all are that fill them."""
    by_name = {("t", n): load for n, load in enumerate(loads)}
    total = min(2.0, sum(loads) + more)
    held = crowding(by_name, total, frozenset())
    assert all(by_name[name] > 0.0 for name in held)
    if total >= 1.0:
        assert held == {name for name, load in by_name.items() if load > 0.0}
    for name in held:
        assert all(other in held for other, load in by_name.items() if load >= by_name[name])
    longer = crowding(by_name, total, frozenset(("t", n) for n in before))
    assert held <= longer  # who is held stays so for longer


@given(st.integers(1, 8))
def test_floods_leave_room_to_others(floods: int) -> None:
    """However many partitions are full, another one finds a part of the bounds free."""
    loads = {("t", n): 0.0 for n in range(floods)}
    for _ in range(10_000):
        held = crowding(loads, sum(loads.values()), frozenset())
        if len(held) == floods:
            break
        loads = {name: load + (0.0002 if name not in held else 0.0) for name, load in loads.items()}
    assert sum(loads.values()) < 1.0 - 0.9 / (1 + ALPHA * floods)
    assert crowding({**loads, ("u", 0): 0.0}, sum(loads.values()), frozenset()) == loads.keys()


def engine_on(log: MemoryLog, detectors: ScriptedDetectors, clock: ManualClock, **settings: Any) -> Engine:
    """An engine on a log without end and a ledger of its own."""
    ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
    return build_engine(MemorySource(log, clock, finite=False), detectors, ledger, clock, **settings)


class Times(Observer):
    """When traces of each partition were judged."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.at: dict[int, list[float]] = {0: [], 1: []}

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        for each in judgements:
            self.at[each.origin.partition].append(self._clock.now() - each.trace.time)


def test_a_partition_is_read_while_another_one_fills_the_bounds() -> None:
    """5,000 traces of a flood wait; each trace of another partition is judged within three seconds."""
    clock = ManualClock()
    times = Times(clock)

    def decode(record: Record) -> Sequence[Trace]:
        app = "flood" if record.partition == 0 else "other"
        return [Trace(id=f"{record.partition}/{record.offset}", time=record.time, response="r", app=app)]

    log = MemoryLog({("t", 0): [b"x"] * 5000, ("t", 1): []}, start_time=clock.now())
    detectors = ScriptedDetectors(assess, batch_size=10, capacity=1)  # 100 traces a second
    engine = engine_on(
        log,
        detectors,
        clock,
        decode=decode,
        observer=times,
        max_waiting_traces=200,
        max_poll_records=100,
    )
    for turn in range(300):
        if turn % 10 == 0:
            log.append(("t", 1), [Record("t", 1, turn // 10, clock.now(), None, b"x")])
        engine.turn()
        clock.advance(0.1)
        detectors.finish_all()
    assert len(times.at[1]) >= 28
    assert max(times.at[1]) < 3.0
    assert len(times.at[0]) > 2000


@given(st.integers(1, 30), st.integers(100, 1000))
def test_what_is_at_hand_of_a_flood_waits_until_there_is_room(polled: int, kilobytes: int) -> None:
    """However much one poll brings of a partition, no more of it is decoded than leaves room to others."""
    clock = ManualClock()
    decoded = {0: 0, 1: 0}

    def decode(record: Record) -> Sequence[Trace]:
        decoded[record.partition] += 1
        return [Trace(id=f"{record.partition}/{record.offset}", time=record.time, response="r")]

    log = MemoryLog({("t", 0): [b"x" * 1000 * kilobytes] * 40, ("t", 1): []}, start_time=clock.now())
    detectors = ScriptedDetectors(assess, batch_size=1, capacity=1)
    engine = engine_on(
        log,
        detectors,
        clock,
        decode=decode,
        max_waiting_bytes=8 * MOST_BYTES,
        max_poll_records=polled,
    )
    for _ in range(50):
        engine.turn()
        clock.advance(0.3)
    share = 8 * MOST_BYTES * ALPHA / (1 + ALPHA)
    assert decoded[0] * 1000 * kilobytes <= share + MOST_BYTES + 3 * 1000 * kilobytes
    log.append(("t", 1), [Record("t", 1, 0, clock.now(), None, b"x")])
    for _ in range(5):
        engine.turn()
        clock.advance(0.3)
    assert decoded[1] == 1
    for _ in range(200):
        detectors.finish_all()
        engine.turn()
        clock.advance(0.3)
    assert engine.positions() == {("t", 0): 40, ("t", 1): 1}
