"""The search for the trace that makes a detector fail, and the breaker that ends it, without processes."""

import random
import string
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from monitor.clock import ManualClock
from monitor.detect import invocation
from monitor.detect.bisection import BatchRange, Bisection, split
from monitor.detect.breaker import FIRST_COOL_DOWN, LONGEST_COOL_DOWN, SUSPECT, Admission, Breaker
from monitor.findings import Status

REASONS = (invocation.TIMEOUT, invocation.CRASH, invocation.BAD_RESULT, "exception:ValueError")


class Search:
    """A batch of `size` traces, of which the guilty make every attempt fail that holds them."""

    def __init__(self, size: int, guilty: Mapping[int, str], budget: float = 1e9) -> None:
        self.guilty = guilty
        self.breaker = Breaker(ManualClock())
        self.bisection = Bisection(budget)
        self.attempts = 0
        self.failures = 0
        self.innocent: list[int] = []
        self.condemned: list[int] = []
        self.abandoned: list[int] = []
        self._attempt(BatchRange(0, size))
        while not self.breaker.refuses and (part := self.bisection.take(far=self.breaker.suspicious)):
            self._attempt(part)
        for part in self.bisection.abandon():
            self.abandoned += range(*part)

    def _attempt(self, part: BatchRange) -> None:
        self.attempts += 1
        reason = next((self.guilty[i] for i in range(*part) if i in self.guilty), "")
        self.failures += bool(reason)
        if not reason:
            self.innocent += range(*part)
            self.breaker.succeeded()
        elif self.bisection.failed(part, reason, 1.0):
            self.condemned += range(*part)
            self.breaker.failed(Status.ERROR)
        if self.bisection.exhausted:
            self.breaker.trip()


@given(
    st.integers(1, 300).flatmap(
        lambda n: st.tuples(
            st.just(n), st.dictionaries(st.integers(0, n - 1), st.sampled_from(REASONS), max_size=n)
        )
    )
)
def test_only_the_guilty_are_condemned_and_none_is_forgotten(case: tuple[int, dict[int, str]]) -> None:
    """Every trace ends judged, condemned or abandoned, once; no innocent trace is ever condemned."""
    size, guilty = case
    search = Search(size, guilty)
    assert sorted(search.innocent + search.condemned + search.abandoned) == list(range(size))
    assert set(search.condemned) <= set(guilty)
    assert not set(search.innocent) & set(guilty)
    assert not search.abandoned or len(search.condemned) > SUSPECT


@given(st.integers(8, 256), st.sampled_from(REASONS), st.integers(1, 3), st.randoms(use_true_random=False))
def test_a_few_bad_traces_condemn_nothing_else(size: int, reason: str, bad: int, rng: random.Random) -> None:
    """Up to SUSPECT bad traces of a batch, even side by side, are all that is condemned."""
    start = rng.randrange(size - bad)
    guilty = dict.fromkeys(range(start, start + bad), reason)
    search = Search(size, guilty)
    assert sorted(search.condemned) == sorted(guilty)
    assert not search.abandoned


def test_one_time_out_is_met_once_more_and_one_exception_log_n_times() -> None:
    """One bad trace of 256 costs one further time-out, two further crashes, or eight further exceptions."""
    failures = {reason: Search(256, {77: reason}).failures for reason in REASONS}
    assert failures == {
        invocation.TIMEOUT: 2,
        invocation.CRASH: 3,
        invocation.BAD_RESULT: 9,
        "exception:ValueError": 9,
    }


def test_a_detector_that_always_fails_is_given_up_quickly() -> None:
    """Failing on everything costs the batch, SUSPECT traces and the last word, not one attempt per trace."""
    search = Search(256, dict.fromkeys(range(256), invocation.TIMEOUT))
    assert search.attempts == 1 + SUSPECT + 1
    assert len(search.abandoned) == 256 - SUSPECT - 1
    assert search.condemned[-1] == 255


def test_a_repair_over_its_budget_gives_up() -> None:
    """Bad traces spread among good ones stop costing time once the budget is spent."""
    search = Search(256, dict.fromkeys(range(0, 256, 2), invocation.TIMEOUT), budget=8.0)
    assert len(search.condemned) == 8
    assert search.breaker.refuses


@given(st.integers(1, 50), st.sampled_from(REASONS))
def test_parts_of_a_split_hold_the_same_traces(size: int, reason: str) -> None:
    """Splitting a part loses no trace, repeats none and keeps their order."""
    parts = split(BatchRange(10, 10 + size), reason)
    assert [i for part in parts for i in range(*part)] == list(range(10, 10 + size))


def test_breaker_tries_again_after_a_cool_down_that_doubles() -> None:
    """Open, it lets one trial through per cool-down; each failure doubles the wait up to the longest."""
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(SUSPECT + 1):
        assert breaker.admit() is Admission.RUN
        breaker.failed(Status.TIMEOUT)
    wait = FIRST_COOL_DOWN
    for _ in range(10):
        clock.advance(wait - 0.01)
        assert breaker.admit() is Admission.SKIP
        clock.advance(0.02)
        assert breaker.admit() is Admission.TRIAL
        assert breaker.admit() is Admission.SKIP
        breaker.failed(Status.TIMEOUT)
        assert breaker.refuses
        wait = min(2 * wait, LONGEST_COOL_DOWN)
    clock.advance(LONGEST_COOL_DOWN)
    assert breaker.admit() is Admission.TRIAL
    breaker.succeeded()
    assert breaker.admit() is Admission.RUN


def test_success_in_between_keeps_the_breaker_closed() -> None:
    """Failures count only in a row."""
    breaker = Breaker(ManualClock())
    for _ in range(20):
        breaker.failed(Status.ERROR)
        breaker.failed(Status.ERROR)
        breaker.succeeded()
    assert breaker.admit() is Admission.RUN


@given(st.text(max_size=200))
def test_the_reason_of_an_exception_is_a_short_identifier(name: str) -> None:
    """Whatever a type is called, its reason is at most 64 characters of letters, digits and underscores."""
    error = type(name.replace("\0", ""), (Exception,), {})("canary")
    reason = invocation.exception_reason(error).removeprefix("exception:")
    assert len(reason) <= 48
    assert set(reason) <= set(string.ascii_letters + string.digits + "_")
