"""Prompt injection and jailbreaks, in what the user wrote and in documents and tool results.

Tier 0 looks in every trace for named signals: an order to ignore earlier instructions, a forged turn of the
conversation, an attempt to get at the system prompt, a persona without limits.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monitor import models
from monitor.clock import Clock, SystemClock
from monitor.findings import Assessment, Evidence, Status, TierStatus
from monitor.models.injection import signals, views
from monitor.trace import Trace

NAME = "injection"
REVISION = 1
MAX_EVIDENCE = 64
_ONE_SIGNAL, _SEVERAL = 0.85, 0.97


class Field(NamedTuple):
    """A text to judge. `side` is `prompt` for what the user wrote, else `indirect`."""

    name: str
    text: str
    side: str


class Found(NamedTuple):
    """A suspicious window of a text."""

    start: int
    end: int
    kind: str
    score: float


def build(*, clock: Clock | None = None) -> "Injection":
    """Build the detector."""
    return Injection(models.version(REVISION), clock or SystemClock())


def tiers() -> list[TierStatus]:
    """Return which tiers can run here: the bundled one always can."""
    return [TierStatus(detector=NAME, tier=0, name="signals", present=True, version=models.version(REVISION))]


class Injection:
    """Scores user messages (`values.prompt`), and documents and tool results (`values.indirect`).

    The trace's score is the higher one. System messages are the application's own and are not scored.
    """

    name = NAME

    def __init__(self, version: str, clock: Clock) -> None:
        self._clock = clock
        self.version = version

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; equal texts of the batch are scored once."""
        started = self._clock.monotonic()
        found = {text: _search(text) for text in {f.text for trace in traces for f in fields(trace)}}
        share = (self._clock.monotonic() - started) / max(1, len(traces))
        return [self._assessment(trace, found, share) for trace in traces]

    def _assessment(self, trace: Trace, found: Mapping[str, Sequence[Found]], seconds: float) -> Assessment:
        values = {"prompt": 0.0, "indirect": 0.0}
        evidence = []
        for field in fields(trace):
            for start, end, kind, score in found[field.text]:
                values[field.side] = max(values[field.side], score)
                evidence.append(Evidence(field.name, start, end, kind, score))
        evidence.sort(key=lambda e: -e.score)
        score = max(values.values())
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.SCORED,
            score=score,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            values={**values, "tier0": score},
            seconds=seconds,
        )


def fields(trace: Trace) -> list[Field]:
    """Return the texts of a trace through which an attack can come, with their paths."""
    found = [
        Field(f"messages.{n}", m.content, "prompt" if m.role == "user" else "indirect")
        for n, m in enumerate(trace.messages)
        if m.role in {"user", "tool"}
    ]
    found += [Field(f"context.{n}", d.content, "indirect") for n, d in enumerate(trace.context)]
    found += [Field(f"tool_calls.{n}.result", c.result, "indirect") for n, c in enumerate(trace.tool_calls)]
    return [field for field in found if field.text]


def _search(text: str) -> list[Found]:
    found = []
    for view in views(text):
        kinds = signals(view.text)
        score = _SEVERAL if len(kinds) > 1 else _ONE_SIGNAL
        found += [Found(view.start, view.end, kind, score) for kind in kinds]
    return found
