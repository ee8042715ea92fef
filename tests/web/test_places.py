"""Places: bounded, and nobody who waits for us loses one."""

import math

from hypothesis import given
from hypothesis import strategies as st

from monitor.web.places import Places, Use

MOST = 4


class One:
    """A connection of a pace."""

    def __init__(self, speed: float) -> None:
        self.speed, self.open, self.use = speed, True, Use.IDLE

    def abort(self) -> None:
        """Close."""
        self.open = False

    def pace(self, now: float) -> float:
        """As set."""
        return self.speed + 0 * now


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, *Use]), st.integers(0, 9), st.sampled_from([-2.0, 0.0, 1.0, math.inf])
        ),
        max_size=60,
    )
)
def test_the_longest_idle_goes_first_then_the_slowest(steps: list[tuple[Use | None, int, float]]) -> None:
    """Against a plain model: who is closed for a new one, and that all that were closed had their reason."""
    places: Places[One] = Places(MOST, lambda: 0.0)
    here: list[One] = []  # in the order in which they became what they are
    for use, which, speed in steps:
        if use is not None:
            if here:
                one = here[which % len(here)]
                places.use(one, use)
                if one.use is not use:
                    one.use = use
                    here.remove(one)
                    here.append(one)
            continue
        new = One(speed)
        if len(here) == MOST:
            idle = [one for one in here if one.use is Use.IDLE]
            amid = [one for one in here if one.use is Use.AMID]
            loser = idle[0] if idle else min(amid, key=lambda one: one.speed, default=new)
            if not idle and loser.speed == math.inf:
                loser = new
            places.enter(new)
            assert not loser.open
            here = [one for one in [*here, new] if one is not loser]
        else:
            places.enter(new)
            here.append(new)
        assert all(one.open for one in here)
        assert set(places) == set(here)
    for one in here:
        places.leave(one)
        places.use(one, Use.AMID)  # after its end, to no effect
    assert len(places) == 0
