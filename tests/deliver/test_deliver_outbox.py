"""The dispatcher: what becomes of every row of the outbox, whatever receivers and ledger do."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outboxes import FakeObserver, FakeOutbox
from patience import PATIENCE, eventually, unhindered
from structlog.testing import capture_logs

from monitor.clock import Clock, Deadline, ManualClock, SystemClock
from monitor.deliver.outbox import BASE_SECONDS, IDLE_SECONDS, LEASE_MARGIN, Dispatcher, Lane, next_try
from monitor.deliver.results import REFUSALS, Delivered, Outcome, Reason, Rejected, Result, Retry, Sender
from monitor.records import Leased

CAP = 60.0


@dataclass
class FakeSender:
    """Answers for a row what `answer` says, given the row."""

    answer: Callable[[Leased], Result] = lambda _: Delivered()
    batch: int = 4
    timeout: float = 10.0
    sent: list[Leased] = field(default_factory=list)
    closed: int = 0

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """See Sender."""
        assert 0 < len(batch) <= self.batch
        self.sent += batch
        return [self.answer(row) for row in batch]

    def close(self) -> None:
        """See Sender."""
        self.closed += 1


def lane(outbox: FakeOutbox, sender: Sender, clock: Clock, observer: FakeObserver | None = None) -> Lane:
    """A lane to destination d with seeded chance."""
    return Lane("d", sender, outbox, clock, observer or FakeObserver(), CAP, random.Random(7))


def run_dry(lanes: Sequence[Lane], outbox: FakeOutbox, clock: ManualClock) -> None:
    """Turn each lane when its pause is over, letting time pass in between, until no row waits."""
    due = [clock.now()] * len(lanes)
    for _ in range(5000):
        if not outbox.states()["waiting"]:
            return
        first = due.index(min(due))
        clock.advance(due[first] - clock.now())
        pause = lanes[first].turn()
        due[first] = clock.now() + (IDLE_SECONDS if pause is None else pause)
    raise AssertionError(f"rows still wait: {outbox.states()}")


results = st.one_of(
    st.just(Delivered()),
    st.builds(Retry, st.sampled_from(Reason), st.floats(0, 2 * CAP)),
    st.builds(Rejected, st.sampled_from(Reason)),
)


@given(
    scripts=st.lists(st.lists(results, max_size=4), min_size=1, max_size=12),
    busy=st.lists(st.booleans(), max_size=40),
    daemons=st.integers(1, 3),
)
def test_every_row_ends_and_none_is_sent_again_without_cause(
    scripts: list[list[Result]], busy: list[bool], daemons: int
) -> None:
    """Each row ends delivered or rejected, sent once per retry and once more, however busy the ledger is."""
    clock, outbox, observer = ManualClock(), FakeOutbox(), FakeObserver()
    outbox.add("d", len(scripts))
    outbox.busy = iter(busy)
    left = [[*script, Delivered()] for script in scripts]
    expected = [
        next(i for i, result in enumerate(script) if not isinstance(result, Retry)) + 1 for script in left
    ]
    ends = [script[n - 1] for script, n in zip(left, expected, strict=True)]
    sender = FakeSender(lambda row: left[row.id].pop(0))
    run_dry([lane(outbox, sender, clock, observer) for _ in range(daemons)], outbox, clock)

    assert [Counter(row.id for row in sender.sent)[i] for i in range(len(left))] == expected
    assert outbox.states()["delivered"] == sum(isinstance(end, Delivered) for end in ends)
    assert observer.counts["d delivered"] == outbox.states()["delivered"]
    for row, end in zip(outbox.rows.values(), ends, strict=True):
        assert row.state == ("rejected" if isinstance(end, Rejected) else "delivered")
        assert row.reason == (end.reason if isinstance(end, Rejected) else "")
    told = Counter(key.split()[1] for key, n in observer.counts.items() for _ in range(n))
    assert told["failed"] == sum(expected) - len(expected)


@given(st.integers(0, 10_000), st.floats(0.001, 10), st.floats(0.001, 1000), st.integers())
def test_back_off_is_bounded(attempts: int, base: float, cap: float, seed: int) -> None:
    """The next try is never in the past, never later than the cap, and early tries come soon."""
    wait = next_try(attempts, 100.0, base, cap, random.Random(seed)) - 100.0
    assert -1e-9 <= wait <= min(cap, base * 2.0 ** min(attempts, 1000)) + 1e-9


def test_back_off_grows_and_is_spread() -> None:
    """Waits double on average until the cap, and no two daemons wait alike."""
    rng = random.Random(3)
    means = [
        sum(next_try(n, 0.0, BASE_SECONDS, CAP, rng) for _ in range(4000)) / 4000 for n in (0, 1, 2, 3, 20)
    ]
    assert means == pytest.approx([0.25, 0.5, 1.0, 2.0, 30.0], rel=0.1)


@given(st.lists(st.floats(0, 100 * CAP), min_size=1, max_size=4))
def test_a_receiver_may_ask_for_patience_within_bounds(after: list[float]) -> None:
    """A row waits at least as long as the receiver asked for, but never longer than the cap."""
    clock, outbox = ManualClock(), FakeOutbox()
    outbox.add("d", 1)
    asked = iter(after)

    def answer(_: Leased) -> Result:
        wait = next(asked, None)
        return Delivered() if wait is None else Retry(Reason.THROTTLED, wait)

    run_dry([lane(outbox, FakeSender(answer), clock)], outbox, clock)
    for wait, delay in zip(after, outbox.delays, strict=True):
        assert min(wait, CAP) - 1e-3 <= delay <= CAP + 1e-3


def test_a_crash_between_sending_and_recording_repeats_under_the_same_key() -> None:
    """What was sent but not recorded is sent again, by whoever is there, when the lease has ended."""
    clock, outbox = ManualClock(), FakeOutbox()
    outbox.add("d", 1)
    seen: list[str] = []

    def crash(row: Leased) -> Result:
        seen.append(row.key)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lane(outbox, FakeSender(crash), clock).turn()
    heir = FakeSender()
    survivor = lane(outbox, heir, clock)
    clock.advance(heir.timeout + LEASE_MARGIN - 0.1)
    assert survivor.turn() is None
    clock.advance(0.2)
    survivor.turn()
    assert [row.key for row in heir.sent] == seen == ["key-0"]
    assert outbox.states() == {"delivered": 1}


def test_a_dead_destination_is_not_hammered() -> None:
    """While every send fails, the lane waits longer and longer between sends, however many rows wait."""
    clock, outbox = ManualClock(), FakeOutbox()
    outbox.add("d", 1_000)
    sender = FakeSender(lambda _: Retry(Reason.CONNECT))
    one = lane(outbox, sender, clock)
    end = clock.now() + 600.0
    sends = 0
    while clock.now() < end:
        pause = one.turn()
        sends += pause is not None
        clock.advance(IDLE_SECONDS if pause is None else pause)
    assert sends < 80  # 600 s / (60 s cap / 2 on average) = 20, and as many while the wait grows
    sender.answer = lambda _: Delivered()
    run_dry([one], outbox, clock)
    assert clock.now() - end < 2 * CAP


@pytest.mark.parametrize("broken", [lambda _: 1 / 0, lambda _: []])
def test_a_senders_bug_costs_no_row(broken: Callable[[Sequence[Leased]], Outcome]) -> None:
    """A sender that raises, or answers for too few rows, is told without a word of a body, and retried."""
    clock, outbox, observer = ManualClock(), FakeOutbox(), FakeObserver()
    outbox.add("d", 2)

    class Broken(FakeSender):
        def send(self, batch: Sequence[Leased]) -> Outcome:
            return broken(batch)

    with capture_logs() as logs:
        lane(outbox, Broken(), clock, observer).turn()
    assert outbox.states() == {"waiting": 2}
    assert observer.counts == {"d failed internal": 2}
    assert [entry["event"] for entry in logs] == ["delivery_bug"]
    assert set(logs[0]) == {"event", "log_level", "destination", "error", "rows"}


def test_a_hanging_destination_delays_no_other_and_stop_is_in_time() -> None:
    """Others deliver while one hangs; stop waits for it until the deadline and names it; nothing is lost."""
    clock, outbox, observer = SystemClock(), FakeOutbox(), FakeObserver()
    release, entered = threading.Event(), threading.Event()

    def hang(_: Leased) -> Result:
        entered.set()
        release.wait()
        return Delivered()

    hanging, quick = FakeSender(hang), FakeSender()
    outbox.add("slow", 1)
    dispatcher = Dispatcher(outbox, {"quick": quick, "slow": hanging}, clock, observer)

    class WhenOthersEnded(Deadline):
        """Passes when all that does not hang has ended, however long that takes."""

        def remaining(self) -> float:
            return super().remaining() if dispatcher._threads["quick"].is_alive() else 0.0

    dispatcher.start()
    try:
        assert entered.wait(PATIENCE)
        for _ in range(5):
            outbox.add("quick", 10)
            dispatcher.wake()
        eventually(lambda: outbox.states()["delivered"] == 50, "the others' deliveries")
        with unhindered():
            assert dispatcher.stop(WhenOthersEnded(clock, PATIENCE)) == ("slow",)
        assert quick.closed == 1
    finally:
        release.set()
    eventually(lambda: hanging.closed == 1, "the end of the hanging lane")
    # Its outcome came after the deadline, so the outbox was left alone: it will repeat, not vanish.
    assert outbox.states() == {"delivered": 50, "waiting": 1}
    assert not any(observer.counts[f"{name} restarted"] for name in ("quick", "slow"))


def test_stop_finishes_what_is_under_way_and_releases_the_rest() -> None:
    """A send under way at stop is recorded; rows leased but not sent are free again at once."""
    clock, outbox = ManualClock(), FakeOutbox()
    outbox.add("d", 1)
    sender = FakeSender()
    one = lane(outbox, sender, clock)
    one.stop(Deadline(clock, 5.0))
    assert one.turn() is None
    assert (sender.sent, outbox.rows[0].lease_ends, outbox.rows[0].reason) == ([], 0.0, "stopped")
    assert outbox.lease("d", 1, clock.now() + 1, clock.now())


def test_stop_records_the_last_outcome_though_the_ledger_is_busy() -> None:
    """An outcome the ledger could not take at once is recorded before the lane ends."""
    clock, outbox = ManualClock(), FakeOutbox()
    outbox.add("d", 1)
    sender = FakeSender()
    one = lane(outbox, sender, clock)
    outbox.busy = iter([False, True, True, True])
    one.turn()
    assert outbox.states() == {"waiting": 1}
    one.stop(Deadline(clock, 5.0))
    one.finish()
    assert outbox.states() == {"delivered": 1}
    assert sender.closed == 1


def test_wake_is_heeded_and_waiting_rows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows written while a lane is idle leave at once; telemetry learns what waits, orphans are named."""
    clock, outbox, observer = SystemClock(), FakeOutbox(), FakeObserver()
    outbox.add("removed-from-config", 3)
    monkeypatch.setattr("monitor.deliver.outbox.IDLE_SECONDS", 3600.0)
    with capture_logs() as logs:
        dispatcher = Dispatcher(outbox, {"d": FakeSender()}, clock, observer)
        dispatcher.start()
        eventually(lambda: observer.waiting, "a count of what waits")
        outbox.add("d", 1)
        dispatcher.wake()
        eventually(lambda: outbox.states()["delivered"] == 1, "the delivery")
        assert dispatcher.stop(Deadline(clock, PATIENCE)) == ()
    assert observer.waiting == {"removed-from-config": (3, 1.0)}
    assert [(e["event"], e["destination"], e["rows"]) for e in logs] == [
        ("delivery_destination_unknown", "removed-from-config", 3)
    ]


@pytest.mark.parametrize("step", ["lease", "delivered", "backlog"])
def test_a_lane_that_a_bug_ends_begins_anew_and_says_so_meanwhile(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody planned for is logged, counted and shown as not running; once it passes all arrives."""
    monkeypatch.setattr("monitor.deliver.outbox.PENDING_SECONDS", 0.02)
    broken = threading.Event()
    broken.set()

    class Broken(FakeOutbox):
        def __getattribute__(self, name: str) -> Any:
            attribute = super().__getattribute__(name)

            def step_or_bug(*args: Any, **options: Any) -> Any:
                if broken.is_set():
                    raise LookupError
                return attribute(*args, **options)

            return step_or_bug if name == step else attribute

    clock, outbox, observer = SystemClock(), Broken(), FakeObserver()
    outbox.add("d", 3)
    outbox.add("other", 3)
    senders = {"d": FakeSender(), "other": FakeSender()}
    with capture_logs() as logs:
        dispatcher = Dispatcher(outbox, senders, clock, observer, max_backoff=0.05)
        dispatcher.start()
        wanted = "delivery_count_failed" if step == "backlog" else "delivery_lane_ended"
        eventually(lambda: sum(entry["event"] == wanted for entry in logs) > 3, "several tries")
        eventually(lambda: not dispatcher.running, "the word of it")
        broken.clear()
        for row in outbox.rows.values():
            row.lease_ends = 0.0  # it would take its seconds
        eventually(lambda: outbox.states() == {"delivered": 6}, "the deliveries")
        eventually(lambda: dispatcher.running, "lanes that run")
        assert dispatcher.stop(Deadline(clock, PATIENCE)) == ()
    assert {entry["error"] for entry in logs} == {"LookupError"}
    if step != "backlog":
        assert observer.counts["d restarted"] > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_whose_thread_has_died_is_not_running() -> None:
    """Whatever ends a thread (here what no handler catches), the owner is told that a lane is gone."""

    class Gone(FakeOutbox):
        def lease(self, *_: object, **__: object) -> list[Leased]:
            raise SystemExit

    clock = SystemClock()
    dispatcher = Dispatcher(Gone(), {"d": FakeSender()}, clock, FakeObserver())
    dispatcher.start()
    eventually(lambda: not dispatcher.running, "the end of the lane")
    dispatcher.stop(Deadline(clock, PATIENCE))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("reason", sorted(REFUSALS))
def test_rows_refused_for_ever_keep_no_other_back(batch: int, reason: Reason) -> None:
    """Behind hundreds of rows that a destination never takes, those that it takes arrive in two minutes."""
    clock, outbox = ManualClock(), FakeOutbox()
    outbox.add("d", 400)
    sender = FakeSender(lambda row: Retry(reason) if row.id < 400 else Delivered(), batch)
    one = lane(outbox, sender, clock)

    def turn_for(seconds: float) -> None:
        end = clock.now() + seconds
        while clock.now() < end:
            pause = one.turn()
            clock.advance(IDLE_SECONDS if pause is None else pause)

    turn_for(30.0)
    outbox.add("d", 14)
    for row in list(outbox.rows.values())[400:]:
        row.due = clock.now()  # as the ledger writes them
    turn_for(2 * CAP)
    assert outbox.states() == {"delivered": 14, "waiting": 400}


def test_a_row_that_breaks_its_sender_keeps_no_neighbour_back() -> None:
    """A batch that one row's body spoils is halved until that row is alone: it waits, the others arrive."""
    clock, outbox, observer = ManualClock(), FakeOutbox(), FakeObserver()
    outbox.add("d", 64)

    def answer(row: Leased) -> Result:
        if row.id in {9, 40}:
            raise KeyError(row.key)
        return Delivered()

    with capture_logs() as logs:
        lane(outbox, FakeSender(answer, batch=64), clock, observer).turn()
    assert outbox.states() == {"delivered": 62, "waiting": 2}
    assert observer.counts["d failed internal"] == 2
    assert [(entry["event"], entry["error"], entry["rows"]) for entry in logs] == [
        ("delivery_bug", "KeyError", 2)
    ]


def test_stop_without_start_is_harmless() -> None:
    """A dispatcher that never started stops at once, twice if need be."""
    clock = SystemClock()
    dispatcher = Dispatcher(FakeOutbox(), {"d": FakeSender()}, clock, FakeObserver())
    assert dispatcher.stop(Deadline(clock, 5.0)) == dispatcher.stop(Deadline(clock, 5.0)) == ()
