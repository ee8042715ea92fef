"""Times of traces in a running daemon."""

import json

from typing_extensions import override

from monitor.clock import SystemClock
from monitor.config import Config
from monitor.daemon.session import session
from monitor.testing import MemoryLog, MemorySource, RecordingObserver

TIMES = (0.0, 1.0, 1_420_070_399.0, 4_000_000_000.0)


class Replaced(RecordingObserver):
    """Counts times that were replaced, too."""

    def __init__(self) -> None:
        super().__init__()
        self.replaced = 0

    @override
    def times_replaced(self, topic: str, items: int) -> None:
        """Count them."""
        self.replaced += items


def test_no_time_that_cannot_be_is_judged() -> None:
    """Traces from 1970 or from the next century count from their arrival, so no latency is of years."""
    clock, observer = SystemClock(), Replaced()
    off = {name: {"enabled": False} for name in Config().enabled_detectors() if name != "agent"}
    config = Config.model_validate({"detectors": off, "pool": {"workers": 1}})
    values = [json.dumps({"response": "Hello.", "time": time}).encode() for time in TIMES]
    source = MemorySource(MemoryLog({("llm.traces", 0): values}), clock)
    with session(config, source, clock, observer) as (engine, _):
        engine.run()
    assert len(observer.judgements) == observer.replaced == len(TIMES)
    assert all(abs(clock.now() - judgement.trace.time) < 600.0 for judgement in observer.judgements)
