"""Traces that an adversary would send, and the traffic of others that must not suffer from them."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hostile_traces import agents
from typing_extensions import override

from monitor.clock import SystemClock
from monitor.config import Config
from monitor.daemon.session import session
from monitor.findings import Judgement
from monitor.ports import Observer
from monitor.testing import MemoryLog, MemorySource

CANARY: Final = "kanarienvogel"
LEAK: Final = "Her card is 4111 1111 1111 1111."
SHAPES: Final[Mapping[str, str]] = {
    "letters": "a",
    "digits": "1",
    "digits apart": "1 ",
    "spaces": " ",
    "signs": "-._/ ",
    "invisible": "\u200b1",
    "marks": "a\u0301",
    "brackets": "[({",
    "quotes": "\"'",
    "accounts": "AA11" + "B" * 37 + " ",
    "addresses": "a@",
    "credentials": "://a:",
    "keys": "-----BEGIN PRIVATE KEY-----",
    "names": "Mr. Smith ",
    "markup": "<b ",
    "lines": "a\n",
    "ideographs": "\u65e5\u672c",
}
"""What long texts are made of."""


def runs(shape: str, size: int) -> Iterator[dict[str, Any]]:
    """Yield leaking traces with a text of one shape as prompt, answer, document, and a tool's result."""
    piece = SHAPES[shape]
    text = (piece * (size // len(piece) + 1))[:size]
    asked = {"role": "user", "content": "Who is she?"}
    yield {"messages": [{"role": "user", "content": text}], "response": LEAK}
    yield {"messages": [asked], "response": f"{LEAK} {text}"}
    yield {"messages": [asked], "response": LEAK, "context": [{"content": text}]}
    yield {"messages": [asked], "response": LEAK, "tool_calls": [{"name": "t", "result": text}]}


def documents(count: int) -> dict[str, Any]:
    """A trace with many small documents."""
    return {
        "response": LEAK,
        "context": [{"content": f"Item {number} costs 3 euros."} for number in range(count)],
    }


def canaries() -> dict[str, Any]:
    """A trace whose every identifier is a telephone number and a key."""
    names = ("id", "app", "environment", "model", "conversation", "agent", "trace_id", "span_id", "user")
    return {"response": LEAK} | dict.fromkeys(names, f"+49 151 23456789 sk-{CANARY}12345678")


def hostile(share: float) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the records of each attack by its name, at a share of its full size."""
    for shape in SHAPES:
        yield (
            shape,
            [_native(f"{shape}-{n}", trace) for n, trace in enumerate(runs(shape, int(64 * 1024 * share)))],
        )
    yield "documents", [_native("documents", documents(int(50_000 * share)))]
    yield "canaries", [_native("canaries", canaries())]
    yield "spans", agents(int(100_000 * share))


def _native(name: str, trace: Mapping[str, Any]) -> bytes:
    return json.dumps({"id": name, "app": "adversary", "time": time.time(), **trace}).encode()


def other(number: int) -> bytes:
    """An ordinary trace of another application."""
    return json.dumps({
        "id": f"other-{number}",
        "time": time.time(),
        "app": "other",
        "messages": [{"role": "user", "content": f"When does order {number} arrive?"}],
        "response": "It was sent yesterday and arrives on Tuesday before noon.",
    }).encode()  # fmt: skip


class Watch(Observer):
    """How long each trace of the other application waited, and how long the loop took for a turn."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.judged_traces = 0
        self.longest_turn = 0.0
        self._turned = time.thread_time()

    @override
    def turned(self) -> None:
        now = time.thread_time()
        self.longest_turn, self._turned = max(self.longest_turn, now - self._turned), now

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        self.judged_traces += len(judgements)
        self.waits += [time.time() - each.trace.time for each in judgements if each.trace.app == "other"]


def beside(records: Sequence[bytes], seconds: float, rate: float, config: Config) -> tuple[Watch, int]:
    """Judge records while another application sends at a rate, until both are done; return the peak memory.

    Memory is the proportional set size of this process and its workers, in MiB.
    """
    clock, watch = SystemClock(), Watch()
    log = MemoryLog({("attack", 0): list(records), ("traffic", 0): []})
    source = MemorySource(log, clock, finite=False)
    peak, sent, looked = 0, 0, 0.0
    with session(config, source, clock, watch, load_shedding=True) as (engine, _):
        watch.turned()
        watch.longest_turn = 0.0
        began = clock.monotonic()
        while True:
            passed = clock.monotonic() - began
            over = passed >= seconds
            if over and engine.totals.recorded + engine.totals.dead_lettered >= len(records) + sent:
                return watch, peak
            if not over and sent < passed * rate:
                log.append(("traffic", 0), [other(sent)])
                sent += 1
            engine.turn()
            if passed - looked > 0.5:
                looked = passed
                peak = max(peak, memory(os.getpid()))


def memory(root: int) -> int:
    """Return the proportional set size of a process and all below it, in MiB."""
    tree = [root]
    for process in tree:
        children = Path(f"/proc/{process}/task/{process}/children")
        tree += map(int, children.read_text("ascii").split()) if children.exists() else ()
    kib = 0
    for process in tree:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:  # it has ended meanwhile
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib // 1024
