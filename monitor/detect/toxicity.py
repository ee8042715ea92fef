"""Abusive text in the prompt and in the response, scored apart.

Tier 0 is the bundled linear model on every trace. Tier 1, if a checkpoint is configured, is Detoxify on the
traces of whose score tier 0 is unsure, plus a random share of the rest with a recorded probability.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from monitor import models
from monitor.clock import Clock, SystemClock
from monitor.detect import detoxify
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Status, TierStatus
from monitor.models.linear import Linear, windows
from monitor.trace import Trace

NAME = "toxicity"
REVISION = 2
WINDOW = 400  # characters; the model is calibrated on the worst window of this size
EVIDENCE_FROM = 0.5
MAX_EVIDENCE = 64
_WEIGHTS = ("toxicity.npy", "toxicity.json")
_OPTION = "detectors.toxicity.options"


class Band(NamedTuple):
    """Which traces tier 1 looks at: scores of tier 0 in [low, high], and a random `sample` of the others."""

    low: float
    high: float
    sample: float


def build(
    *,
    checkpoint: str = "",
    config: str = "",
    sha256: str = "",
    model_type: str = "original",
    always: bool = False,
    low: float = 0.1,
    high: float = 0.9,
    sample: float = 0.02,
    clock: Clock | None = None,
) -> "Toxicity":
    """Build the detector; the last five options are about tier 1, which needs the first three.

    `checkpoint` is a Detoxify checkpoint file, `config` the folder with its Hugging Face config and
    tokenizer, `sha256` the checkpoint's digest. Tier 1 sees tier-0 scores in [`low`, `high`] (all with
    `always`) and a random `sample` of the others. Raises ConfigError naming the option and the remedy.
    """
    if not 0.0 <= low <= high <= 1.0:
        raise ConfigError(
            f"{_OPTION}.low: low {low}, high {high} are not 0 <= low <= high <= 1; give e.g. 0.1 and 0.9"
        )
    if not 0.0 <= sample <= 1.0:
        raise ConfigError(f"{_OPTION}.sample: {sample} is not in [0, 1]; give a share such as 0.02")
    tier1 = None
    if _configured(checkpoint, config, sha256):
        tier1 = detoxify.DetoxifyModel(
            checkpoint=checkpoint, config=config, sha256=sha256, model_type=model_type
        )
    band = Band(0.0, 1.0, 1.0) if always else Band(low, high, sample)
    version = models.version(REVISION, *_WEIGHTS) + (f".{sha256[:12].lower()}" if tier1 else "")
    return Toxicity(Linear.load(NAME), tier1, band, version, clock or SystemClock())


def tiers(*, checkpoint: str = "", config: str = "", sha256: str = "", **_: Any) -> list[TierStatus]:
    """Return whether the bundled model and Detoxify can run here. Raises ConfigError as `build` does."""
    for name in _WEIGHTS:
        models.verified(name)
    configured = _configured(checkpoint, config, sha256)
    if configured:
        detoxify.check(checkpoint=checkpoint, config=config, sha256=sha256)
    return [
        TierStatus(
            detector=NAME, tier=0, name="linear", present=True, version=models.version(REVISION, *_WEIGHTS)
        ),
        TierStatus(
            detector=NAME,
            tier=1,
            name="detoxify",
            present=configured,
            version=sha256[:12].lower() if configured else "",
            cost=""
            if configured
            else "abuse without abusive words is missed, harmless profanity flagged; give a Detoxify"
            f" checkpoint by {_OPTION}.checkpoint, config and sha256",
        ),
    ]


def _configured(checkpoint: str, config: str, sha256: str) -> bool:
    given = {"checkpoint": checkpoint, "config": config, "sha256": sha256}
    missing = [name for name, value in given.items() if not value]
    if missing and len(missing) < len(given):
        raise ConfigError(
            f"{_OPTION}.{missing[0]}: empty; tier 1 needs checkpoint, config and sha256 together"
        )
    return not missing


class Worst(NamedTuple):
    """A text's score: that of its worst window, and the windows that reach `EVIDENCE_FROM`."""

    score: float
    windows: tuple[tuple[int, int, float], ...]


class Toxicity:
    """Scores prompt (user and tool messages) and response; the trace's score is the higher one.

    `values` holds `prompt` and `response`, `tier0` (the trace's score by the linear model) and, where tier 1
    looked, each of its labels. The linear model's score is calibrated on its training mixture, not on your
    traffic, so `calibrated` is false.
    """

    name = NAME

    def __init__(
        self, model: Linear, tier1: "detoxify.DetoxifyModel | None", band: Band, version: str, clock: Clock
    ) -> None:
        self._model = model
        self._tier1 = tier1
        self._band = band
        self._clock = clock
        self.version = version

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; equal texts of the batch are scored once."""
        started = self._clock.monotonic()
        worst = self._worst(dict.fromkeys(text for trace in traces for _, text in _fields(trace)))
        share = (self._clock.monotonic() - started) / max(1, len(traces))
        first = [self._first(trace, worst, share) for trace in traces]
        return first if self._tier1 is None else self._second(traces, first, self._tier1)

    def _worst(self, texts: Mapping[str, None]) -> dict[str, Worst]:
        cuts = {text: windows(text, WINDOW) for text in texts}
        parts = [text[a:b] for text, cut in cuts.items() for a, b in cut]
        scores = iter(self._model.probabilities(parts).tolist())
        found = {}
        for text, cut in cuts.items():
            scored = [(a, b, next(scores)) for a, b in cut]
            found[text] = Worst(
                max(score for _, _, score in scored), tuple(w for w in scored if w[2] >= EVIDENCE_FROM)
            )
        return found

    def _first(self, trace: Trace, worst: Mapping[str, Worst], seconds: float) -> Assessment:
        prompt = max(
            (worst[text].score for field, text in _fields(trace) if field != "response"), default=0.0
        )
        response = worst[trace.response].score if trace.response else 0.0
        evidence = [
            Evidence(field, start, end, NAME, score)
            for field, text in _fields(trace)
            for start, end, score in worst[text].windows
        ]
        evidence.sort(key=lambda e: -e.score)
        score = max(prompt, response)
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.SCORED,
            score=score,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            values={"prompt": prompt, "response": response, "tier0": score},
            seconds=seconds,
        )

    def _second(
        self, traces: Sequence[Trace], first: Sequence[Assessment], tier1: "detoxify.DetoxifyModel"
    ) -> list[Assessment]:
        started = self._clock.monotonic()
        chance = [
            self._probability(trace, assessment) for trace, assessment in zip(traces, first, strict=True)
        ]
        texts = dict.fromkeys(
            text for trace, p in zip(traces, chance, strict=True) if p for _, text in _fields(trace)
        )
        labels = dict(zip(texts, tier1.score(list(texts)), strict=True))
        share = (self._clock.monotonic() - started) / max(1, sum(p is not None for p in chance))
        return [
            assessment if p is None else self._merged(trace, assessment, labels, p, share)
            for trace, assessment, p in zip(traces, first, chance, strict=True)
        ]

    def _probability(self, trace: Trace, assessment: Assessment) -> float | None:
        """Return with which probability tier 1 was to look at this trace, None when it is not going to."""
        if self._band.low <= (assessment.score or 0.0) <= self._band.high:
            return 1.0
        drawn = int.from_bytes(hashlib.sha256(f"{NAME}:{trace.id}".encode()).digest()[:8]) / 2**64
        return self._band.sample if drawn < self._band.sample else None

    def _merged(
        self,
        trace: Trace,
        first: Assessment,
        labels: Mapping[str, Mapping[str, float]],
        probability: float,
        seconds: float,
    ) -> Assessment:
        sides = {"prompt": 0.0, "response": 0.0}
        highest: dict[str, float] = {}
        evidence = []
        for field, text in _fields(trace):
            side = "response" if field == "response" else "prompt"
            sides[side] = max(sides[side], *labels[text].values())
            for label, score in labels[text].items():
                highest[label] = max(highest.get(label, 0.0), score)
                if score >= EVIDENCE_FROM:
                    evidence.append(Evidence(field, 0, len(text), label, score))
        evidence.sort(key=lambda e: -e.score)
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.SCORED,
            score=max(sides.values()),
            evidence=tuple((evidence + list(first.evidence))[:MAX_EVIDENCE]),
            tier=1,
            probability=probability,
            values={**highest, **sides, "tier0": first.values["tier0"]},
            seconds=first.seconds + seconds,
        )


def _fields(trace: Trace) -> list[tuple[str, str]]:
    # A system message is the application's own text, the same in every trace: no finding about this one.
    judged = ("user", "tool")
    fields = [(f"messages.{n}", m.content) for n, m in enumerate(trace.messages) if m.role in judged]
    return [(field, text) for field, text in [*fields, ("response", trace.response)] if text]
