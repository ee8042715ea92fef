"""Soak case: the dearest traces known, at full size, beside the traffic of another application."""

import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from hostile_traces import Bench, agents, tools_and_chats
from typing_extensions import override

from monitor.clock import SystemClock
from monitor.config import Config
from monitor.daemon.session import session
from monitor.findings import Judgement
from monitor.ledger.queries import verify
from monitor.ports import Observer
from monitor.testing import MemoryLog, MemorySource

AGENTS: Final = 30_000
EACH: Final = 4_900  # tools, and chats
LONGEST_TURN: Final = 1.0  # processor seconds
OTHERS: Final = 10.0  # traces a second of an application beside
LONGEST_WAIT: Final = 20.0  # seconds of one of these, on two cores that do nothing else


def assembly(share: float, _: Path) -> Mapping[str, object]:
    """A trace of 30,000 agents, and one of 4,900 tools and chats: no turn of the loop takes a second.

    Beside each, with the default detectors, another application's traces are judged soon.
    """
    found = {}
    for trace, size in ((agents, AGENTS), (tools_and_chats, EACH)):
        count = int(size * share)
        found[trace.__name__] = {**_judged(trace, count), **_beside(trace(count))}
    return found


def _judged(trace: Callable[[int], Sequence[bytes]], count: int) -> Mapping[str, object]:
    """Judge one trace, and a quarter of it for comparison."""
    seconds = []
    for size in (count // 4, count):
        records = trace(size)
        bench = Bench(records)
        began = time.process_time()
        turns = list(bench.turns())
        seconds.append(time.process_time() - began)
        assert max(turns) < LONGEST_TURN, max(turns)
        assert bench.engine.totals.traces >= size
        assert verify(bench.ledger).ok
    assert seconds[1] < 8 * seconds[0], seconds
    return {
        "exchanges": bench.engine.totals.traces,
        "sources": bench.detectors.sources,
        "bytes": sum(map(len, records)),
        "longest_turn_seconds": round(max(turns), 3),
        "seconds": round(seconds[1], 2),
        "seconds_of_a_quarter": round(seconds[0], 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


class _Waits(Observer):
    """How long after its time each trace of the other application was judged."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        self.seconds += [time.time() - each.trace.time for each in judgements if each.trace.app == "other"]


def _beside(records: Sequence[bytes]) -> Mapping[str, object]:
    """Judge a trace with the default detectors while another application sends, until all are judged."""
    config = Config.model_validate({"ingest": {"formats": {"traces": "otlp_json"}}, "instance": "soak"})
    clock, waits = SystemClock(), _Waits()
    log = MemoryLog({("traces", 0): list(records), ("chats", 0): []})
    turns, sent, came = [], 0, 0
    with session(config, MemorySource(log, clock, finite=False), clock, waits, load_shedding=True) as (
        engine,
        _,
    ):
        began = time.monotonic()
        while engine.totals.recorded < len(records) + sent:
            passed = time.monotonic() - began
            if engine.totals.recorded - len(waits.seconds) < len(records) and sent < passed * OTHERS:
                log.append(("chats", 0), [_chat(sent)])
                sent += 1
            at = time.process_time()
            engine.turn()
            turns.append(time.process_time() - at)
        took = time.monotonic() - began
        came = engine.totals.traces - sent
    wait = sorted(waits.seconds)
    assert len(wait) == sent
    assert max(wait) < LONGEST_WAIT, max(wait)
    return {
        "beside_seconds": round(took, 1),
        "beside_exchanges": came,
        "beside_longest_turn_seconds": round(max(turns), 3),
        "others": sent,
        "others_p50_seconds": round(wait[len(wait) // 2], 2),
        "others_p99_seconds": round(wait[int(0.99 * len(wait))], 2),
    }


def _chat(number: int) -> bytes:
    """A trace that leaks a card's number."""
    return json.dumps(
        {
            "id": f"other-{number}",
            "time": time.time(),
            "app": "other",
            "messages": [{"role": "user", "content": "What is my card?"}],
            "response": "It is 4111 1111 1111 1111.",
        }
    ).encode()
