"""An engine among the parts that a test gives it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from checkout import DATA

from monitor.assembly import DEFAULT_BOUNDS, Assembler
from monitor.clock import Clock
from monitor.config import DeliverConfig
from monitor.engine import Engine, Settings
from monitor.engine.ports import LedgerPort
from monitor.engine.work import Part
from monitor.errors import BadTrace, Skipped
from monitor.findings import Assessment, Status
from monitor.outcome.effects import Policy
from monitor.ports import Detectors, Monitor, Observer, Source
from monitor.rules import RuleBook
from monitor.trace import Record, Span, Trace

EVERY_TRACE = DATA / "every_trace.yaml"
"""A rule that flags each trace."""


def decode(record: Record) -> Sequence[Trace]:
    """How many traces the value says, filler aside; `x` cannot be decoded, `-` holds metrics."""
    assert record.value is not None
    if record.value == b"x":
        raise BadTrace("invalid_json", "made up")
    if record.value == b"-":
        raise Skipped("metrics")
    return [Trace(id=f"{record.offset}/{n}", time=1.0, response="r") for n in range(int(record.value))]


def assess(trace: Trace) -> tuple[Assessment, ...]:
    """Every trace is scored, and may be redacted."""
    del trace
    return tuple(
        Assessment(detector=name, version="1", status=Status.SCORED, score=score)
        for name, score in (("toxicity", 1.0), ("pii", 0.0))
    )


def decode_time(record: Record) -> Sequence[Trace]:
    """One trace a record, named by its its time; `x` cannot be decoded."""
    if record.value == b"x":
        raise BadTrace("invalid_json", "made up")
    return [Trace(id=str(record.time), time=record.time, response="r")]


def build_engine(
    source: Source,
    detectors: Detectors,
    ledger: LedgerPort,
    clock: Clock,
    *,
    decode: Callable[[Record], Sequence[Trace | Span]],
    observer: Observer | None = None,
    rules: Path = EVERY_TRACE,
    monitors: Mapping[str, Monitor] | None = None,
    assembler: Assembler[Part] | None = None,
    owner: str = "d0",
    **settings: Any,
) -> Engine:
    """An engine that samples nothing and keeps ten characters of a text."""
    return Engine(
        source=source,
        decode=decode,
        detectors=detectors,
        rules=RuleBook([rules], clock),
        monitors=monitors or {},
        ledger=ledger,
        policy=Policy(deliver=DeliverConfig(), sample_ratio=0.0),
        observer=observer or Observer(),
        clock=clock,
        settings=Settings(owner=owner, excerpt_chars=10, **settings),
        assembler=Assembler(DEFAULT_BOUNDS) if assembler is None else assembler,
    )
