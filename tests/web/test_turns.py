"""Turns: all together take their share of time, each in its place."""

import asyncio
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.web import turns
from monitor.web.turns import BURST, Turns


class Loop:
    """An event loop whose time a test moves; the work of a turn takes what the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worked = 0.0
        self.due: list[tuple[float, Any]] = []

    def time(self) -> float:
        """As the loop's."""
        return self.now

    def call_later(self, delay: float, call: Any) -> object:
        """Remember a call."""
        self.due.append((self.now + delay, call))
        return object()

    def run(self) -> None:
        """Make all calls, each when it is due."""
        while self.due:
            when, call = min(self.due, key=lambda one: one[0])
            self.due.remove((when, call))
            self.now = max(self.now, when)
            call()


class Worker:
    """Takes so many turns of so long."""

    def __init__(
        self, loop: Loop, log: list["Worker"], count: int, seconds: float, peer: str = "somebody"
    ) -> None:
        self.loop, self.log, self.left, self.seconds, self.peer = loop, log, count, seconds, peer

    def take(self) -> bool:
        """Work."""
        self.log.append(self)
        self.left -= 1
        self.loop.worked += self.seconds
        self.loop.now += self.seconds
        return self.left > 0


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A loop with its clock of processor time."""
    made = Loop()
    monkeypatch.setattr(turns, "thread_time", lambda: made.worked)
    return made


def test_who_has_little_to_do_never_waits(loop: Loop) -> None:
    """A hundred turns of a tenth of a millisecond, one each 10 ms: all at once."""
    share = Turns(loop, 0.2)  # type: ignore[arg-type] # all that is used of a loop
    for _ in range(100):
        assert not share.ask(Worker(loop, [], 1, 1e-4))
        loop.now += 0.01


@pytest.mark.parametrize("count", [1, 10, 200])
def test_all_together_take_their_share(loop: Loop, count: int) -> None:
    """However many there are, work takes a fifth of the time, but for the burst; and all of it is done."""
    share = Turns(loop, 0.2)  # type: ignore[arg-type] # all that is used of a loop
    for _ in range(count):
        share.ask(Worker(loop, [], 4_000 // count, 0.001))
    loop.run()
    assert loop.worked == pytest.approx(4.0)
    assert loop.now >= loop.worked / 0.2 - BURST - 0.01


def test_turns_go_round(loop: Loop) -> None:
    """Who asks while others have much to do waits for one turn of each, not for all they have to do."""
    log: list[Worker] = []
    share = Turns(loop, 0.2)  # type: ignore[arg-type] # all that is used of a loop
    greedy = [Worker(loop, log, 1000, 0.001) for _ in range(20)]
    for one in greedy:
        share.ask(one)
    while len(log) < 500:
        when, call = loop.due.pop()
        loop.now = when
        call()
    small = Worker(loop, log, 1, 0.0001)
    assert share.ask(small)
    loop.run()
    assert log.index(small) <= 500 + len(greedy)


def test_peers_have_their_turns_one_after_another(loop: Loop) -> None:
    """One connection of a peer waits for one turn of each other peer, however many connections those have."""
    log: list[Worker] = []
    share = Turns(loop, 0.2)  # type: ignore[arg-type] # all that is used of a loop
    for number in range(60):
        share.ask(Worker(loop, log, 1000, 0.001, f"greedy {number % 3}"))
    while len(log) < 500:
        when, call = loop.due.pop()
        loop.now = when
        call()
    one = Worker(loop, log, 5, 0.001, "modest")
    assert share.ask(one)
    loop.run()
    turns_of_one = [number for number, worker in enumerate(log) if worker is one]
    assert turns_of_one[-1] <= 500 + 5 * 4


def test_work_between_turns_counts(loop: Loop) -> None:
    """What the thread does besides is paid for before the next turn, unless it has long been."""
    share = Turns(loop, 0.2)  # type: ignore[arg-type] # all that is used of a loop
    assert not share.ask(Worker(loop, [], 1, 0.0))
    loop.worked += 0.1
    loop.now += 0.1
    late = Worker(loop, [], 1, 0.0)
    assert share.ask(late)
    loop.run()
    assert loop.now >= 0.5 - BURST
    loop.worked += 0.1
    loop.now += 0.5
    assert not share.ask(Worker(loop, [], 1, 0.0))


def test_who_leaves_has_no_turn(loop: Loop) -> None:
    """A connection that is lost is not asked to go on, and the others have their turns."""
    log: list[Worker] = []
    share = Turns(loop, 0.2)  # type: ignore[arg-type] # all that is used of a loop
    first, second, third = (Worker(loop, log, 100, 0.001) for _ in range(3))
    for one in (first, second, third):
        share.ask(one)
    before = log.count(second)
    share.leave(second)
    loop.run()
    assert (log.count(first), log.count(second), log.count(third)) == (100, before, 100)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_a_turn_that_fails_holds_nobody_up(failing: list[bool]) -> None:
    """After a fault in the work of one, the next one in line has its turn."""
    loop = Loop()
    served: list[int] = []
    share = Turns(loop, 0.2)  # type: ignore[arg-type] # all that is used of a loop
    share._paid = 1.0  # so that all stand in line

    class One:
        peer = "somebody"

        def __init__(self, number: int) -> None:
            self.number = number

        def take(self) -> bool:
            served.append(self.number)
            if failing[self.number]:
                raise RuntimeError
            return False

    for number in range(len(failing)):
        share.ask(One(number))
    while loop.due:
        _, call = loop.due.pop()
        loop.now += 1.0
        try:
            call()
        except RuntimeError:
            continue
    assert served == list(range(len(failing)))


def test_a_real_loop_is_slowed_down_to_the_share() -> None:
    """On asyncio's own loop: what wants to work without end has worked for its share of the time."""

    async def run() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        share = Turns(loop, 0.2)
        worked = 0.0

        class Endless:
            peer = "somebody"

            def take(self) -> bool:
                nonlocal worked
                began = thread_time()
                sum(range(20_000))
                worked += thread_time() - began
                return True

        endless = Endless()
        began = loop.time()
        share.ask(endless)
        await asyncio.sleep(0.5)
        share.leave(endless)
        return worked, loop.time() - began

    worked, passed = asyncio.run(run())
    assert 0 < worked <= 0.2 * (passed + BURST) + 0.05
