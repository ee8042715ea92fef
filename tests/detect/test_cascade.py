"""Who is looked at: known probabilities, kept promises, and an escalation rate that follows the load."""

import itertools
from collections.abc import Sequence

import pytest
import tiered_detectors
from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import ManualClock, SystemClock
from monitor.config import PoolConfig
from monitor.detect import Spec
from monitor.detect.cascade import EXPLORATION_RATE, Cascade, Tally
from monitor.detect.inline import InlineDetectors
from monitor.detect.pool import Pool
from monitor.engine.load_shedding import INTERVAL_SECONDS, TARGET_SECONDS, LoadShedding
from monitor.errors import ConfigError
from monitor.ports import Detectors
from monitor.trace import Trace

IDS = [f"t-{number}" for number in range(20_000)]


@pytest.mark.parametrize("escalation_rate", [0.0, 0.005, 0.3, 1.0])
@pytest.mark.parametrize("unsure", [True, False])
def test_the_share_looked_at_is_the_probability_reported(escalation_rate: float, unsure: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Unsure traces escalate at the escalation rate, at least the exploration rate; others at the latter."""
    cascade = Cascade("d", 1)
    cascade.escalation_rate = escalation_rate
    answers = [cascade.escalate(one, unsure=unsure) for one in IDS]
    expected = max(EXPLORATION_RATE, escalation_rate) if unsure else EXPLORATION_RATE
    assert {answer for answer in answers if answer} == {expected}
    looked = sum(answer > 0 for answer in answers)
    spread = 4 * (len(IDS) * expected * (1 - expected)) ** 0.5
    assert abs(looked - len(IDS) * expected) <= spread


def test_a_trace_is_treated_alike_again_and_apart_by_detectors() -> None:
    """The draw is a function of detector and trace: a repeat changes nothing, and detectors differ."""
    one, again, other = Cascade("a", 1), Cascade("a", 1), Cascade("b", 1)
    drawn = [bool(one.escalate(i, unsure=False)) for i in IDS]
    assert drawn == [bool(again.escalate(i, unsure=False)) for i in IDS]
    assert drawn != [bool(other.escalate(i, unsure=False)) for i in IDS]


def test_the_full_profile_looks_at_everything_whatever_the_load() -> None:
    """In profile `full` every tier looks at every trace for certain."""
    cascade = Cascade("d", 1, profile="full")
    cascade.escalation_rate = 0.0
    assert {cascade.escalate(i, unsure=unsure) for i in IDS[:100] for unsure in (True, False)} == {1.0}


@given(
    escalation_rates=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    unsure=st.tuples(st.booleans(), st.booleans()),
    number=st.integers(0, 10**9),
)
def test_nested_tiers_share_one_draw(
    escalation_rates: tuple[float, float], unsure: tuple[bool, bool], number: int
) -> None:
    """A tier after another looks only where that one did, with the lower of both probabilities overall."""
    first = Cascade("d", 1)
    second = Cascade("d", 2, after=first)
    first.escalation_rate, second.escalation_rate = escalation_rates
    mine = max(EXPLORATION_RATE, escalation_rates[1]) if unsure[1] else EXPLORATION_RATE
    reached = first.escalate(f"t-{number}", unsure=unsure[0])
    answer = second.escalate(f"t-{number}", unsure=unsure[1], reached=reached)
    assert answer in {0.0, min(reached, mine)}
    if reached and mine >= reached:
        assert answer == reached


def test_nested_audits_are_as_frequent_as_single_ones() -> None:
    """Tier 2 audits one trace in a hundred, not one in ten thousand, where both cheaper tiers are sure."""
    first = Cascade("d", 1)
    second = Cascade("d", 2, after=first)
    looks = [second.escalate(i, unsure=False, reached=first.escalate(i, unsure=False)) for i in IDS]
    assert 150 < sum(look > 0 for look in looks) < 250
    assert set(looks) == {0.0, EXPLORATION_RATE}


@pytest.mark.parametrize("audit", [0.0, -0.1, 1.01, float("nan")])
def test_without_an_audit_there_are_no_rates(audit: float) -> None:
    """An audit that is no positive share is refused, by name and with the remedy."""
    with pytest.raises(ConfigError, match=r"detectors\.d\.options\.audit"):
        Cascade("d", 1, exploration_rate=audit)


def test_reached_belongs_to_nested_tiers_only() -> None:
    """Forgetting `reached`, or giving it to a tier that follows none, is an error and no wrong rate."""
    first = Cascade("d", 1)
    with pytest.raises(TypeError, match="reached"):
        first.escalate("t", unsure=True, reached=1.0)
    with pytest.raises(TypeError, match="reached"):
        Cascade("d", 2, after=first).escalate("t", unsure=True)


def test_a_tally_says_what_was_done_since_the_last() -> None:
    """Every trace asked about is looked at, left out or spared; asking again starts at nothing."""
    first = Cascade("d", 1)
    second = Cascade("d", 2, after=first)
    first.escalation_rate = 0.25
    for number, one in enumerate(IDS):
        second.escalate(one, unsure=True, reached=first.escalate(one, unsure=number % 2 == 0))
    tier, escalated, suppressed, passed = first.tally()
    assert tier == 1
    assert escalated + suppressed + passed == len(IDS)
    assert 7000 < suppressed < 8000
    assert passed > 9800
    assert second.tally() == Tally(2, escalated, 0, 0)
    assert first.tally() == Tally(1, 0, 0, 0)


def _pool(specs: Sequence[Spec]) -> Detectors:
    return Pool(specs, PoolConfig(workers=2), SystemClock())


def _inline(specs: Sequence[Spec]) -> Detectors:
    return InlineDetectors([one.build() for one in specs])


@pytest.mark.parametrize("make", [_pool, _inline], ids=["pool", "inline"])
def test_the_escalation_rate_of_a_batch_reaches_the_detectors_and_is_counted(make: object) -> None:
    """A batch has its own escalation rate; the decisions of tiers are counted by detector and tier."""
    assert callable(make)
    detectors: Detectors = make([tiered_detectors.spec("toxicity", unsure=1.0)])
    detectors.start()
    numbers = itertools.count()
    try:
        for ticket, escalation_rate in enumerate((1.0, 0.0, 1.0)):
            batch = [Trace(id=f"t-{next(numbers)}", time=0.0, response="") for _ in range(50)]
            detectors.submit(ticket, batch, escalation_rate)
            (verdicts,) = detectors.collect(10.0)
            tiers = [row[0].tier for row in verdicts.assessments]
            assert (sum(tiers) == 50) if escalation_rate else (sum(tiers) < 10)
        decisions = detectors.stats().decisions
        assert sum(decisions.values()) == 150
        assert decisions["toxicity", 1, "left_out"] > 40
        assert decisions["toxicity", 1, "looked"] >= 100
    finally:
        detectors.close()


def _load(shedding: LoadShedding, clock: ManualClock, seconds: float, waits: Sequence[float]) -> None:
    """Observe these waits in turn, every tenth of a second, for so long."""
    for _, wait in zip(range(int(seconds * 10)), itertools.cycle(waits), strict=False):
        clock.advance(0.1)
        shedding.observe(wait)


def test_the_escalation_rate_falls_within_seconds_and_recovers_slowly() -> None:
    """A standing queue costs nine tenths of the rate in 4 s; when it is gone, half a minute restores it."""
    clock = ManualClock()
    shedding = LoadShedding(clock)
    _load(shedding, clock, 4.0, [2 * TARGET_SECONDS])
    assert shedding.escalation_rate < 0.1
    _load(shedding, clock, 5.0, [0.0])
    assert 0.1 < shedding.escalation_rate < 0.4
    _load(shedding, clock, 30.0, [0.0])
    assert shedding.escalation_rate == 1.0


def test_a_burst_that_is_worked_off_costs_nothing() -> None:
    """Long waits do not count while the queue gets empty within every interval."""
    clock = ManualClock()
    shedding = LoadShedding(clock)
    _load(shedding, clock, 20.0, [1.0, 2.0, 0.0])
    assert shedding.escalation_rate == 1.0


def test_the_escalation_rate_waits_while_the_queue_shrinks() -> None:
    """Once waits get shorter by themselves, nothing more is given up, however long they still are."""
    clock = ManualClock()
    shedding = LoadShedding(clock)
    _load(shedding, clock, 2.0, [10.0])
    before = shedding.escalation_rate
    for wait in (8.0, 6.0, 4.5, 3.5, 2.5, 1.5, 1.0, 0.7, 0.5, 0.4):
        _load(shedding, clock, 0.5, [wait])
    assert shedding.escalation_rate == before
    _load(shedding, clock, 1.0, [0.4])
    assert shedding.escalation_rate < before


def test_between_room_and_overload_the_escalation_rate_stays() -> None:
    """Waits between half the target and the target change nothing."""
    clock = ManualClock()
    shedding = LoadShedding(clock)
    _load(shedding, clock, 2.0, [1.0])
    before = shedding.escalation_rate
    _load(shedding, clock, 20.0, [0.8 * TARGET_SECONDS])
    assert shedding.escalation_rate == before


def test_silence_is_no_evidence() -> None:
    """An hour without a look at the queue raises the escalation rate by no more than two intervals would."""
    clock = ManualClock()
    shedding = LoadShedding(clock)
    _load(shedding, clock, 3.0, [1.0])
    before = shedding.escalation_rate
    clock.advance(3600.0)
    assert shedding.observe(0.0) <= before + 2 * INTERVAL_SECONDS / 30 + 1e-9


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e6))))
def test_the_escalation_rate_is_a_share(load: list[tuple[float, float]]) -> None:
    """Whatever is observed, the escalation rate stays in [0, 1]."""
    clock = ManualClock()
    shedding = LoadShedding(clock)
    for seconds, wait in load:
        clock.advance(seconds)
        assert 0.0 <= shedding.observe(wait) <= 1.0
