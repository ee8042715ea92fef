"""Times that cannot be: what a sender's clock says is believed only from 2015 on, and not in the future.

A time of 0 or one in another unit would spend the budget of freshness, spoil sums of latency for good, and
put a trace where no retention and no drift window looks.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from msgspec.structs import replace

from monitor.clock import Clock
from monitor.trace import Record, Span, Trace

EARLIEST: Final = 1_420_070_400.0  # 2015-01-01T00:00:00Z
AHEAD: Final = 600.0  # seconds by which a sender's clock may be ahead of the broker's
LONGEST: Final = 30 * 86_400.0  # seconds of one exchange or step


Decode: TypeAlias = Callable[[Record], Sequence[Trace | Span]]


def with_plausible_times(decode: Decode, clock: Clock, on_replaced: Callable[[str, int], None]) -> Decode:
    """Return a decoder that replaces times that cannot be. It raises what `decode` raises.

    A trace or span that began before 2015, or ends more than ten minutes after its record arrived, is taken
    to have ended when that arrived; a duration of over 30 days is left out. The record's own time counts if
    it is plausible, else the clock's. `on_replaced` is told topic and number of traces and spans. A clock
    from before 2015 can tell nothing: then all is left as it is.
    """
    now = 0.0

    def checked(record: Record) -> Sequence[Trace | Span]:
        nonlocal now
        items = decode(record)
        arrival = record.time
        if not EARLIEST <= arrival <= now + AHEAD:  # an older reading of the clock does
            now = clock.now()
            if now < EARLIEST:
                return items
            if not EARLIEST <= arrival <= now + AHEAD:
                arrival = now
        latest = arrival + AHEAD
        wrong = 0
        for item in items:
            if isinstance(item, Trace):
                begin = item.time
                end = begin + item.latency if item.latency else begin
            else:
                begin, end = item.step.start, item.end
            if not EARLIEST <= begin <= end <= latest or end - begin > LONGEST:
                wrong += 1
        if not wrong:
            return items
        on_replaced(record.topic, wrong)
        return tuple(_plausible(item, arrival, latest) for item in items)

    return checked


def _plausible(item: Trace | Span, arrival: float, latest: float) -> Trace | Span:
    if isinstance(item, Trace):
        latency = item.latency if item.latency is not None and 0.0 <= item.latency <= LONGEST else None
        if not EARLIEST <= item.time <= latest:
            return replace(item, time=arrival - (latency or 0.0), latency=latency)
        return replace(item, latency=latency if item.time + (latency or 0.0) <= latest else None)
    begin, end = item.step.start, item.end
    if not EARLIEST <= end <= latest:
        end = begin if EARLIEST <= begin <= latest else arrival
    if not max(EARLIEST, end - LONGEST) <= begin <= end:
        begin = end
    exchange = item.exchange and replace(item.exchange, time=begin, latency=end - begin or None)
    return replace(
        item, step=replace(item.step, start=begin, seconds=end - begin), end=end, exchange=exchange
    )
