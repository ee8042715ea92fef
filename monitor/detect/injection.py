"""Prompt injection and jailbreaks, in what the user wrote and in documents and tool results.

Tier 0 is the bundled linear model over n-grams and named signals, on every trace. Tier 1 is the shared
encoder with an adapter, on those of a trace's worst windows that tier 0 is unsure of, and of a random share
of the other traces.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor import models
from monitor.config import Profile
from monitor.detect.cascade import EXPLORATION_RATE, Cascade
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Status, TierStatus, skipped
from monitor.models import encoder
from monitor.models.encoder import Encoder
from monitor.models.injection import (
    SETTINGS,
    SIDES,
    TABLE,
    InjectionClassifier,
    Side,
    TextView,
    all_signals,
    all_views,
)
from monitor.trace import Trace

NAME = "injection"
REVISION = 3
LOW, HIGH = 0.2, 0.995
LOW_INDIRECT = 0.6  # a trace has many windows of documents, of which few are attacks
EVIDENCE_FROM = 0.5
MAX_EVIDENCE = 64
MAX_READ = 2  # windows of a trace that tier 1 reads: its worst by tier 0
_WEIGHTS = (TABLE, SETTINGS)
_ENCODER = (encoder.BASE, encoder.TOKENIZER, encoder.graph(NAME))


class InputText(NamedTuple):
    """A text that may carry an attack, its path in the trace, and its side."""

    path: str
    text: str
    side: Side


class JudgedWindow(NamedTuple):
    """A part of a text, its signals, the linear model's logit, and the probability after the tiers so far."""

    view: TextView
    kinds: Sequence[str]
    side: int
    logit: float
    probability: float


Key: TypeAlias = tuple[str, Side]  # texts are judged once per batch and side
Logit: TypeAlias = npt.NDArray[np.float32]  # the encoder's, one per side


def build(
    *,
    low: float = LOW,
    high: float = HIGH,
    low_indirect: float = LOW_INDIRECT,
    audit: float = EXPLORATION_RATE,
    profile: Profile = "default",
) -> "Injection":
    """Build the detector. Tier 1 sees tier-0 scores in [`low`, `high`] and a share `audit` of the rest.

    For documents and tool results the band begins at the higher one of `low` and `low_indirect`.
    Raises ConfigError for an option out of range or unusable weights, naming the remedy.
    """
    if not 0.0 <= low <= high <= 1.0:
        raise ConfigError(
            f"detectors.{NAME}.options.low: low {low}, high {high} are not 0 <= low <= high <= 1;"
            f" give e.g. {LOW} and {HIGH}"
        )
    if not 0.0 <= low_indirect <= 1.0:
        raise ConfigError(
            f"detectors.{NAME}.options.low_indirect: {low_indirect} is not in [0, 1];"
            f" give e.g. {LOW_INDIRECT}"
        )
    bands = {"prompt": (low, high), "indirect": (max(low, low_indirect), high)}
    cascade = Cascade(NAME, 1, exploration_rate=audit, profile=profile)
    version = models.version(REVISION, *_WEIGHTS, *_ENCODER)
    everything = profile == "full"
    return Injection(
        InjectionClassifier.load(), Encoder.load(NAME), cascade, bands, version, everything=everything
    )


def tiers(**_: object) -> list[TierStatus]:
    """Return which tiers can run here. Raises ConfigError when bundled weights are missing or altered."""
    for name in (*_WEIGHTS, *_ENCODER):
        models.verified(name)
    return [
        TierStatus(detector=NAME, tier=n, name=name, present=True, version=models.version(REVISION, *weights))
        for n, name, weights in ((0, "linear", _WEIGHTS), (1, "encoder", _ENCODER))
    ]


class Injection:
    """Scores user messages (`values["prompt"]`), and documents and tool results (`values["indirect"]`).

    The trace's score is the higher one, that of its worst window; a side without text has none, and a trace
    without both is skipped. System messages are the application's own
    and are not scored; assistant messages were the response of a trace of their own.
    """

    name = NAME

    def __init__(
        self,
        linear: InjectionClassifier,
        tier1: Encoder,
        cascade: Cascade,
        bands: Mapping[str, tuple[float, float]],
        version: str,
        *,
        everything: bool,
    ) -> None:
        self._linear = linear
        self._tier1 = tier1
        self._cascade = cascade
        self._bands = [bands[side] for side in SIDES]
        self._everything = everything
        self.cascades = (cascade,)
        self.version = version

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; equal texts of the batch are scored once."""
        every = [fields(trace) for trace in traces]
        windows = self._first(dict.fromkeys((f.text, f.side) for inputs in every for f in inputs))
        read: dict[str, Logit] = {}
        return [
            self._judged(trace, inputs, windows, read) for trace, inputs in zip(traces, every, strict=True)
        ]

    def _first(self, keys: Iterable[Key]) -> dict[Key, list[JudgedWindow]]:
        """Return the windows of each text, judged by tier 0."""
        keys = list(keys)
        every = all_views([text for text, _ in keys])
        parts = [(key, view) for key, text_views in zip(keys, every, strict=True) for view in text_views]
        texts, sides = [view.text for _, view in parts], [SIDES.index(side) for (_, side), _ in parts]
        kinds = all_signals(texts)
        logits = self._linear.logits(texts, kinds, sides)
        scores = self._linear.first(logits, sides).tolist()
        windows: dict[Key, list[JudgedWindow]] = {}
        for (key, view), *rest in zip(parts, kinds, sides, logits.tolist(), scores, strict=True):
            windows.setdefault(key, []).append(JudgedWindow(view, *rest))
        return windows

    def _judged(
        self,
        trace: Trace,
        inputs: Sequence[InputText],
        windows: Mapping[Key, Sequence[JudgedWindow]],
        read: dict[str, Logit],
    ) -> Assessment:
        judged = [(field, window) for field in inputs for window in windows.get((field.text, field.side), ())]
        if not judged:
            return skipped(NAME, self.version)
        judged.sort(key=lambda pair: -pair[1].probability)
        tier0 = judged[0][1].probability
        worst = judged[:MAX_READ]
        unsure = [self._unsure(window) for _, window in worst]
        escalated = self._cascade.escalate(trace.id, unsure=any(unsure))
        if escalated:
            everything = not any(unsure) or self._everything
            judged[:MAX_READ] = [
                (field, self._second(window, read) if everything or asked else window)
                for (field, window), asked in zip(worst, unsure, strict=True)
            ]
            judged.sort(key=lambda pair: -pair[1].probability)
        values: dict[str, float] = {
            side: max(scores)
            for side in SIDES
            if (scores := [window.probability for field, window in judged if field.side == side])
        }
        evidence = [
            Evidence(field.path, window.view.start, window.view.end, kind, window.probability)
            for field, window in judged
            if window.probability >= EVIDENCE_FROM
            for kind in _kinds(window)
        ]
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.SCORED,
            score=max(values.values()),
            calibrated=True,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            tier=1 if escalated else 0,
            probability=escalated or 1.0,
            values={**values, "tier0": tier0},
        )

    def _unsure(self, window: JudgedWindow) -> bool:
        low, high = self._bands[window.side]
        return low <= window.probability <= high

    def _second(self, window: JudgedWindow, read: dict[str, Logit]) -> JudgedWindow:
        """Return a window judged by both tiers; `read` remembers what the encoder said of a text."""
        text = window.view.text
        if text not in read:
            read[text] = self._tier1.logits([text])[0]
        linear, encoder = np.array([window.logit]), read[text][[window.side]].astype(np.float64)
        return window._replace(probability=float(self._linear.second(linear, encoder, [window.side])[0]))


def fields(trace: Trace) -> list[InputText]:
    """Return the texts of a trace through which an attack can come."""
    texts = [
        InputText(f"messages.{n}", m.content, "prompt" if m.role == "user" else "indirect")
        for n, m in enumerate(trace.messages)
        if m.role in {"user", "tool"}
    ]
    texts += [InputText(path, source, "indirect") for path, source in trace.shown()]
    return [field for field in texts if field.text.strip()]


def _kinds(window: JudgedWindow) -> list[str]:
    """Return what to call a suspicious window: its signals, else what is known of it."""
    kinds = [*(["obfuscated"] if window.view.disguised else []), *window.kinds]
    return kinds or ["indirect" if SIDES[window.side] == "indirect" else "other"]
