"""Traces that are cheap to send and were dear to judge, as OTLP/JSON; and an engine that reads them."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from engines import assess, build_engine
from otlp_wire import START, request, span_of

from monitor.assembly import DEFAULT_BOUNDS, Assembler
from monitor.config import IngestConfig
from monitor.engine import Engine
from monitor.engine.work import Part
from monitor.errors import Busy
from monitor.ingest import decoder_for
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.testing import ManualClock, MemoryLog, MemorySource, RecordingObserver, ScriptedDetectors

PARTITION: Final = ("t", 0)
_SPANS: Final = 2_000  # in one record: it has less than 2 MiB


def agents(count: int, trace: int = 1) -> list[bytes]:
    """One trace of a root, so many agents with an answer of their own below it, and one chat."""
    spans = [
        _span(number, 1, {"gen_ai.operation.name": "invoke_agent", **_texts(f"agent {number}")})
        for number in range(2, count + 2)
    ]
    chat = _span(count + 2, 1, {"gen_ai.operation.name": "chat", **_texts("the model's answer")})
    return _records([_span(1, 0, {}), *spans, chat], trace)


def tools_and_chats(count: int, trace: int = 1) -> list[bytes]:
    """One trace of a root, so many tools with their results, and as many chats after them."""
    tools = [
        _span(
            number,
            1,
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": f"tool-{number}",
                "gen_ai.tool.call.result": f"result {number}",
            },
        )
        for number in range(2, count + 2)
    ]
    chats = [
        _span(number, 1, {"gen_ai.operation.name": "chat", **_texts(f"answer {number}")})
        for number in range(count + 2, 2 * count + 2)
    ]
    return _records([_span(1, 0, {}), *tools, *chats], trace)


def _texts(answer: str) -> dict[str, str]:
    def message(role: str, text: str) -> str:
        return msgspec.json.encode([{"role": role, "parts": [{"type": "text", "content": text}]}]).decode()

    return {
        "gen_ai.input.messages": message("user", f"ask for {answer}"),
        "gen_ai.output.messages": message("assistant", answer),
    }


def _span(number: int, parent: int, values: dict[str, Any]) -> dict[str, Any]:
    begin = START + number * 10**6
    return span_of(
        values,
        spanId=f"{number:016x}",
        parentSpanId=f"{parent:016x}" if parent else "",
        startTimeUnixNano=str(begin),
        endTimeUnixNano=str(begin + 10**5 if parent else START + 10**12),
    )


def _records(spans: Sequence[dict[str, Any]], trace: int) -> list[bytes]:
    for span in spans:
        span["traceId"] = f"{trace:032x}"
    return [
        msgspec.json.encode(request(*spans[first : first + _SPANS])) for first in range(0, len(spans), _SPANS)
    ]


class Judged(ScriptedDetectors):
    """Detectors that find nothing, at once, and remember how much they were given to read."""

    def __init__(self) -> None:
        super().__init__(assess, batch_size=64, capacity=4)
        self.sources = 0
        self.held = False

    def submit(
        self, ticket: int, traces: Sequence[Any], escalation_rate: float = 1.0, *, large: bool = False
    ) -> None:
        """Count the sources; hold traces where told so."""
        if self.held:
            raise Busy("held")
        super().submit(ticket, traces, escalation_rate, large=large)
        self.sources += sum(len(trace.context) + len(trace.tool_calls) for trace in traces)


class Bench:
    """An engine with those detectors and a ledger in memory, which reads one record a poll."""

    def __init__(self, records: Sequence[bytes], *, max_spans: int = 5_000, **settings: Any) -> None:
        self.clock = ManualClock()
        self.observer = RecordingObserver()
        self.detectors = Judged()
        self.assembler: Assembler[Part] = Assembler(DEFAULT_BOUNDS._replace(max_spans=max_spans))
        self.log = MemoryLog({PARTITION: records})
        self.records = len(records)
        self.ledger = Ledger.open("sqlite://", Vault(bytes(32)), self.clock, "d0")
        self.engine: Engine = build_engine(
            MemorySource(self.log, self.clock, finite=False),
            self.detectors,
            self.ledger,
            self.clock,
            decode=decoder_for(IngestConfig(format="otlp_json"), lambda user: user),
            observer=self.observer,
            assembler=self.assembler,
            max_poll_records=1,
            **settings,
        )

    def turns(self) -> Iterator[float]:
        """Turn until all is recorded; yield the processor seconds of each turn."""
        while self.engine.totals.recorded < self.records:
            began = time.process_time()
            self.engine.turn()
            yield time.process_time() - began
            self.detectors.finish_all()
            self.clock.advance(0.05)
