"""Times that cannot be are replaced by the arrival of their record, and counted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_wire import request, span_of, talk

from monitor.clock import ManualClock
from monitor.config import IngestConfig
from monitor.ingest import decoder_for
from monitor.ingest.times import AHEAD, EARLIEST, LONGEST, with_plausible_times
from monitor.trace import Record, Span, Trace

NOW = 1_795_000_000.0
GOOD = NOW - 100.0


class Rig:
    """The decoder of one format as the engine has it, with what it reports."""

    def __init__(self, form: Any) -> None:
        self.replaced: list[tuple[str, int]] = []
        decode = decoder_for(IngestConfig(format=form), str)
        self.decode = with_plausible_times(decode, ManualClock(NOW), self._report)

    def _report(self, topic: str, items: int) -> None:
        self.replaced.append((topic, items))

    def one(self, value: Any, arrived: float = GOOD) -> Trace | Span:
        """What a record holds that arrived then."""
        (item,) = self.decode(Record("t", 0, 0, arrived, None, json.dumps(value).encode()))
        return item


def native(time: float, **more: Any) -> dict[str, Any]:
    """A native trace of a time."""
    return {"response": "Hello.", "time": time} | more


WRONG = [0.0, 1.0, EARLIEST - 1, GOOD + AHEAD + 1, 2**31 + 2**30 - 0.5, 7_000_000_000.0]


@pytest.mark.parametrize("time", WRONG)
def test_a_time_that_cannot_be_is_that_of_the_arrival(time: float) -> None:
    """A trace from 1970 or from the future is taken to have ended when its record arrived, and is counted."""
    rig = Rig("native")
    trace = rig.one(native(time, latency=2.0))
    assert isinstance(trace, Trace)
    assert (trace.complete(), trace.latency) == (GOOD, 2.0)
    assert rig.replaced == [("t", 1)]


@pytest.mark.parametrize("time", [EARLIEST, GOOD - 86_400 * 365, GOOD, GOOD + AHEAD - 3])
def test_a_time_that_can_be_stays(time: float) -> None:
    """Old traces and clocks a little ahead are believed."""
    rig = Rig("native")
    trace = rig.one(native(time, latency=2.0))
    assert isinstance(trace, Trace)
    assert (trace.time, trace.latency) == (time, 2.0)
    assert rig.replaced == []


@pytest.mark.parametrize("latency", [1e12, LONGEST + 1, AHEAD + 300])
def test_a_latency_that_cannot_be_is_left_out(latency: float) -> None:
    """A trace that would end in the future, as of milliseconds taken for seconds, has no latency."""
    rig = Rig("native")
    trace = rig.one(native(GOOD, latency=latency))
    assert isinstance(trace, Trace)
    assert (trace.time, trace.latency) == (GOOD, None)
    assert rig.replaced == [("t", 1)]


@pytest.mark.parametrize("arrived", [0.0, -0.001, EARLIEST - 1, NOW + AHEAD + 1])
def test_without_a_time_of_the_record_the_clock_counts(arrived: float) -> None:
    """Where the record's time cannot be either, it arrived now."""
    rig = Rig("native")
    trace = rig.one(native(0.0), arrived)
    assert isinstance(trace, Trace)
    assert trace.time == NOW
    assert rig.one(native(GOOD), arrived).time == GOOD  # type: ignore[union-attr] # a trace as above


SECONDS = st.one_of(st.sampled_from([*WRONG, GOOD, NOW]), st.floats(0, 7_258_118_399))


@given(SECONDS, SECONDS, st.one_of(st.just(GOOD), st.floats(-1, 1e10)))
def test_times_of_spans_are_in_order_and_plausible(start: float, end: float, arrived: float) -> None:
    """Whatever a span says of its times, it began after 2015, then ended, and not in the future."""
    rig = Rig("otlp_json")
    values = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **talk("Hi?", "Hello.")}
    times = {"startTimeUnixNano": str(int(start * 1e9)), "endTimeUnixNano": str(int(end * 1e9))}
    span = rig.one(request(span_of(values, **times)), arrived)
    assert isinstance(span, Span)
    assert span.exchange is not None
    assert EARLIEST <= span.step.start <= span.end <= NOW + 2 * AHEAD
    assert span.end - span.step.start <= LONGEST
    assert span.step.seconds == pytest.approx(span.end - span.step.start, abs=1e-3)
    assert span.exchange.time == span.step.start
    assert span.exchange.complete() == pytest.approx(span.end, abs=1e-3)
    if EARLIEST <= start <= end <= GOOD and end - start < LONGEST - 1 and arrived == GOOD:
        assert (span.step.start, span.end) == pytest.approx((start, end), abs=1e-3)
        assert rig.replaced == []
