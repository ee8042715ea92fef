"""Traces wait by application: none waits for what another one sent before it."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from engines import assess, build_engine
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from monitor.assembly import ExchangeId
from monitor.engine.fair_queue import QUANTUM, FairQueue
from monitor.engine.work import Work
from monitor.findings import Judgement
from monitor.ledger.queries import verify
from monitor.ledger.store import Ledger
from monitor.ports import Observer
from monitor.privacy.vault import Vault
from monitor.testing import ManualClock, MemoryLog, MemorySource, ScriptedDetectors
from monitor.trace import Origin, Record, Trace

PARTITION = ("t", 0)


def work(app: str, number: int, size: int = 0, **fields: Any) -> Work:
    """A trace of an application; it came at the second of its number."""
    trace = Trace(id=f"{app}{number}", time=float(number), response="r", app=app)
    partition: Any = None
    fields = {"chars": size} | fields
    return Work(partition, Origin("t", 0, number, 0), trace, size, float(number), **fields)


def taken(queue: FairQueue, count: int) -> list[Work]:
    """The next traces, taken out."""
    chosen = queue.first(count)
    queue.remove(chosen)
    return list(chosen)


def named(works: Iterable[Work]) -> list[str]:
    """Ids of traces, sorted."""
    return sorted(each.trace.id for each in works)


class Model:
    """What a queue holds, by application, without any order among them."""

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Work]] = {}

    def all(self) -> list[Work]:
        """Everything."""
        return [each for queue in self.waiting.values() for each in queue]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcd"), st.integers(0, 3 * QUANTUM)),
        st.tuples(st.just("take"), st.integers(1, 7), st.booleans()),
        st.tuples(st.just("keep"), st.integers(2, 5), st.just(0)),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_each_trace_comes_once_in_the_order_of_its_application(
    actions: Sequence[tuple[str, Any, Any]],
) -> None:
    """Sizes and counts are those of what waits, and the one that waits longest is known, after anything."""
    queue, model = FairQueue(), Model()
    for number, (action, of, more) in enumerate(actions):
        if action == "add":
            each = work(of, number, more, exchange=ExchangeId("t", str(number)) if more % 2 else None)
            queue.append(each)
            model.waiting.setdefault(of, deque()).append(each)
        elif action == "take":
            chosen = queue.first(of)
            assert len(chosen) == min(of, len(model.all()))
            assert queue.first(of) == chosen
            if more:
                queue.remove(chosen)
                for each in chosen:
                    assert model.waiting[each.trace.app].popleft() is each
        else:
            dropped = queue.keep(lambda each, of=of: each.origin.offset % of != 0)  # type: ignore[misc]
            assert named(dropped) == named(w for w in model.all() if w.origin.offset % of == 0)
            model.waiting = {
                app: deque(each for each in waiting if each.origin.offset % of)
                for app, waiting in model.waiting.items()
            }
        waiting = model.all()
        assert named(queue) == named(waiting)
        assert len(queue) == len(waiting)
        assert queue.bytes == sum(each.size for each in waiting)
        assert queue.whole == sum(each.exchange is None for each in waiting)
        assert queue.oldest() == min((each.taken for each in waiting), default=None)


@given(st.integers(2, 6), st.integers(0, 20_000), st.integers(1, 64))
def test_applications_that_all_wait_get_equal_shares(apps: int, size: int, batch: int) -> None:
    """Of what is taken while all have traces waiting, none has more than a turn more than another."""
    queue = FairQueue()
    for app in range(apps):
        for number in range(200):
            queue.append(work(str(app), number, size))
    cost: Counter[str] = Counter(dict.fromkeys(map(str, range(apps)), 0))
    while min(Counter(each.trace.app for each in queue).values()) > 30 and len(queue) > 30 * apps:
        for each in taken(queue, batch):
            cost[each.trace.app] += 1024 + size
    assert max(cost.values()) - min(cost.values()) <= 2 * (QUANTUM + 1024 + size) + batch * (1024 + size)


def test_large_traces_of_one_application_do_not_delay_small_ones_of_another() -> None:
    """A turn is spent by size: beside one trace of a megabyte many small ones are judged."""
    queue = FairQueue()
    for number in range(100):
        queue.append(work("large", number, 2**20))
        queue.append(work("small", number, 500))
    order = [each.trace.app for each in taken(queue, 102)]
    assert order.count("large") <= 2


def test_what_detectors_read_counts_and_not_only_what_memory_holds() -> None:
    """Exchanges that share their sources cost their application what they take to judge."""
    queue = FairQueue()
    for number in range(100):
        queue.append(work("agent", number, 100, chars=200_000))
        queue.append(work("chat", number, 100))
    assert queue.bytes == 20_000
    assert Counter(each.trace.app for each in taken(queue, 100))["agent"] < 10


def test_applications_without_end_share_a_queue_but_named_ones() -> None:
    """Of a thousand names only some have turns of their own, and what the settings name always has."""
    queue = FairQueue({"support"})
    for number in range(1000):
        queue.append(work(f"made up {number}", number))
        queue.append(work(f"made up {number}", number))
    queue.append(work("support", 2000))
    place = next(p for p, each in enumerate(taken(queue, 2001)) if each.trace.app == "support")
    assert place < 400
    assert len(queue) == 0


def test_asking_again_gives_the_same() -> None:
    """The loop asks at each turn while detectors are busy: that takes nothing out and moves nothing."""
    queue = FairQueue()
    for number in range(100):
        queue.append(work(str(number % 3), number))
    before = list(queue)
    first = queue.first(8)
    for _ in range(100):
        assert queue.first(8) == first
    assert named(queue) == named(before)


class Waits(Observer):
    """How long each application's traces waited for their judgement, in turns of the detectors."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.seconds: dict[str, list[float]] = {"flood": [], "other": []}

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        for each in judgements:
            self.seconds[each.trace.app].append(self._clock.now() - each.trace.time)


def waits(flood: int, every: int, rate: int) -> dict[str, list[float]]:
    """Judge `rate` traces a second of an application that sent `flood`; another one has one in `every`."""
    clock = ManualClock()
    observer = Waits(clock)
    apps = ["other" if number % every == every - 1 else "flood" for number in range(flood)]
    source = MemorySource(MemoryLog({PARTITION: [app.encode() for app in apps]}), clock, finite=False)
    detectors = ScriptedDetectors(assess, batch_size=rate // 10, capacity=1)
    began = clock.now()

    def decode(record: Record) -> Sequence[Trace]:
        assert record.value is not None
        return [Trace(id=f"{record.offset}", time=began, response="r", app=record.value.decode())]

    ledger = Ledger.open("sqlite://", Vault(bytes(32)), clock, "d0")
    engine = build_engine(
        source, detectors, ledger, clock, decode=decode, observer=observer, max_waiting_traces=10**6
    )
    for _ in range(flood):
        if engine.totals.recorded == flood:
            break
        engine.turn()
        clock.advance(0.1)
        detectors.finish_all()
    assert engine.totals.recorded == engine.totals.traces == flood
    assert verify(ledger).ok
    return observer.seconds


@pytest.mark.parametrize("flood", [1000, 5000])
def test_who_sends_little_waits_little_beside_a_flood(flood: int) -> None:
    """5,000 traces of one application wait, one in a hundred is another's: that one's are judged at once.

    At 100 a second they would wait up to 50 s in one queue; in fair ones the last of 50 waits some seconds.
    """
    found = waits(flood, every=100, rate=100)
    others = sorted(found["other"])
    assert len(others) == flood // 100
    # Each of its traces has a whole turn of the flood before it at most, and there are enough for all.
    assert others[int(0.99 * len(others))] < 0.15 * flood / 100
    assert max(found["flood"]) < 1.05 * flood / 100 + 1
