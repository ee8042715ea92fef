"""Places: bounded, shared fairly by peers, and nobody who waits for us loses one."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.web.places import Places, Use

MOST = 8
MOST_OF_ONE = 7


class One:
    """A connection of a pace."""

    def __init__(self, peer: str, speed: float = 0.0) -> None:
        self.peer, self.speed, self.open, self.use = peer, speed, True, Use.IDLE

    def abort(self) -> None:
        """Close."""
        self.open = False

    def pace(self, now: float) -> float:
        """As set."""
        return self.speed + 0 * now


def loser(here: list[One], new: One) -> One | None:
    """A plain model: who of those in order of their last change is closed for a new one."""
    held = Counter(one.peer for one in [*here, new])
    if held[new.peer] <= MOST_OF_ONE and len(here) < MOST:
        return None
    most = held[new.peer] if held[new.peer] > MOST_OF_ONE else max(held.values())
    theirs = [one for one in here if held[one.peer] == most]
    idle = [one for one in theirs if one.use is Use.IDLE]
    slow = [one for one in theirs if one.use is Use.AMID and one.speed < math.inf]
    others = [one for one in here if one.use is Use.IDLE and held[new.peer] <= MOST_OF_ONE]
    return next(iter([*idle, *sorted(slow, key=lambda one: one.speed), *others, new]))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, None, *Use]),
            st.integers(0, 9),
            st.sampled_from([-2.0, 0.0, 1.0, math.inf]),
            st.sampled_from("aaabc"),
        ),
        min_size=30,
        max_size=80,
    )
)
def test_the_peer_with_most_places_loses_first(steps: list[tuple[Use | None, int, float, str]]) -> None:
    """Its longest idle goes first, then its slowest; nobody else loses one amid a body."""
    places: Places[One] = Places(MOST, lambda: 0.0)
    here: list[One] = []  # in the order in which they became what they are
    for use, which, speed, peer in steps:
        if use is not None:
            if here:
                one = here[which % len(here)]
                places.use(one, use)
                if one.use is not use:
                    one.use = use
                    here.remove(one)
                    here.append(one)
            continue
        new = One(peer, speed)
        closed = loser(here, new)
        places.enter(new)
        here = [one for one in [*here, new] if one is not closed]
        assert closed is None or not closed.open
        assert all(one.open for one in here)
        assert set(places) == set(here)
    for one in here:
        places.leave(one)
        places.use(one, Use.AMID)  # after its end, to no effect
        places.leave(one)
    assert len(places) == 0


@given(st.lists(st.sampled_from([*Use]), min_size=20, max_size=60), st.sampled_from([-2.0, 1.0, math.inf]))
def test_no_flood_of_one_peer_takes_the_place_of_another(uses: list[Use], speed: float) -> None:
    """Whatever one peer's connections do, another one gets a place at once, and keeps it."""
    places: Places[One] = Places(MOST, lambda: 0.0)
    modest = One("modest")
    for number, use in enumerate(uses):
        if number == len(uses) // 2:
            places.enter(modest)
        new = One("greedy", speed)
        places.enter(new)
        places.use(new, use)
    assert modest.open


@pytest.mark.parametrize("use", [Use.AMID, Use.OURS])
def test_who_waits_for_us_keeps_the_place(use: Use) -> None:
    """Where all connections of a peer wait for a turn or an answer, its next one is closed."""
    places: Places[One] = Places(MOST, lambda: 0.0)
    waiting = [One("a", math.inf) for _ in range(MOST_OF_ONE)]
    for one in waiting:
        places.enter(one)
        places.use(one, use)
    late = One("a")
    places.enter(late)
    assert not late.open
    assert all(one.open for one in waiting)
