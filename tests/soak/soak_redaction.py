"""Hostile texts in flagged traces: what redaction costs the engine, in the daemon's own loop and workers."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from typing_extensions import override

from monitor.clock import SystemClock
from monitor.config import load
from monitor.daemon.session import session
from monitor.findings import Judgement
from monitor.privacy.redact import WITHHELD
from monitor.sources.memory import MemoryLog, MemorySource
from monitor.testing import RecordingObserver

TURN_SECONDS = 1.0
LEAK = "Her SSN is 078-05-1120."
TOKEN = "AA11" + "B" * 37 + " "
SHAPES: Mapping[str, str] = {
    "iban_like": TOKEN,
    "digits": "1 ",
    "addresses": "a@",
    "credentials": "://a:",
    "keys": "-----BEGIN PRIVATE KEY-----",
    "invisible": "\u200b1",
    "brackets": "[({",
    "one_letter": "a",
}


class _Turns(RecordingObserver):
    """Notes the longest time between two turns of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = SystemClock()
        self._at = self._clock.monotonic()
        self.longest = 0.0

    @override
    def turned(self) -> None:
        """Measure."""
        now = self._clock.monotonic()
        self.longest, self._at = max(self.longest, now - self._at), now


def records(size: int) -> Iterator[bytes]:
    """Yield one leaking trace with each shape as a prompt of so many bytes, and one with it as the answer."""
    for (name, piece), in_prompt in itertools.product(SHAPES.items(), (True, False)):
        text = (piece * (size // len(piece.encode()) + 1))[:size]
        trace = {
            "id": f"{name}-{'prompt' if in_prompt else 'response'}",
            "app": "soak",
            "messages": [{"role": "user", "content": text if in_prompt else "Who is she?"}],
            "response": LEAK if in_prompt else f"{LEAK} {text}",
        }
        yield msgspec.json.encode(trace)


def redaction(share: float, folder: Path) -> Mapping[str, object]:
    """Judge hostile traces of 1 MiB each: no turn of the loop takes a second, and each is kept redacted."""
    size = int(2**20 * share)
    config = load(None, {"RISKMON_DATA_DIR": str(folder)})
    clock, observer = SystemClock(), _Turns()
    log = MemoryLog({("soak", 0): list(records(size))})
    began = clock.monotonic()
    with session(config, MemorySource(log, clock), clock, observer) as running:
        observer.turned()
        observer.longest = 0.0
        totals = running.engine.run()
    judged: list[Judgement] = observer.judgements
    kept = [each.redaction for each in judged if each.flags]
    figures = {
        "bytes": size,
        "traces": totals.traces,
        "flagged": len(kept),
        "longest_turn_seconds": round(observer.longest, 3),
        "seconds": round(clock.monotonic() - began, 1),
    }
    assert totals.traces == len(kept) == 2 * len(SHAPES), figures
    assert observer.longest < TURN_SECONDS, figures
    assert all(texts and "078-05-1120" not in texts.response for texts in kept), figures
    figures["withheld"] = sum(texts is not None and texts.response == WITHHELD for texts in kept)
    return figures
