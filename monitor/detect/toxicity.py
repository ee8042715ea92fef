"""Abusive text in the prompt and in the response, scored apart.

Tier 0 is a linear model on every window of every text; it passes on what it cannot rule out. Tier 1 is the
bundled encoder, on those windows. Tier 2, where a checkpoint is configured, is Detoxify, on the traces of
which tier 1 is unsure. A random share of the other traces reaches each tier too (`monitor.detect.cascade`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from monitor import models
from monitor.config import Profile
from monitor.detect import detoxify
from monitor.detect.cascade import EXPLORATION_RATE, Cascade
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Status, TierStatus, skipped
from monitor.models import encoder
from monitor.models.encoder import Encoder
from monitor.models.linear import Calibration, NgramClassifier, all_normalised, windows
from monitor.trace import Trace

NAME = "toxicity"
REVISION = 4
WINDOW = 400  # characters; both bundled models are calibrated on the worst window of this size
EVIDENCE_FROM = 0.5
MAX_EVIDENCE = 64
_LINEAR = ("toxicity.npy", "toxicity.json")
_SETTINGS = "toxicity-encoder.json"
_ENCODER = (encoder.BASE, encoder.TOKENIZER, encoder.graph(NAME), _SETTINGS)
_OPTION = "detectors.toxicity.options"

Place: TypeAlias = tuple[str, int, int]
"""A window: its text, and its offsets there."""


class Bundled(NamedTuple):
    """The bundled models: windows that tier 0 scores at `gate` or above go to the encoder.

    Where the encoder reads a window, its logit and `blend` times tier 0's raw score are calibrated together.
    """

    linear: NgramClassifier
    gate: float
    encoder: Encoder
    blend: float
    calibration: Calibration

    @classmethod
    def load(cls) -> "Bundled":
        """Load them. Raises ConfigError when a file is missing or altered."""
        settings = json.loads(models.verified(_SETTINGS).read_text(encoding="utf-8"))
        return cls(
            NgramClassifier.load(NAME),
            settings["gate"],
            Encoder.load(NAME),
            settings["blend"],
            Calibration(settings["slope"], settings["offset"]),
        )

    def first(self, places: Sequence[Place]) -> dict[Place, tuple[float, float]]:
        """Return tier 0's raw score and probability of each window."""
        scores = self.linear.scores([text[a:b] for text, a, b in places])
        probabilities = self.linear.calibration.probability(scores)
        return dict(zip(places, zip(scores.tolist(), probabilities.tolist(), strict=True), strict=True))

    def second(self, places: Mapping[Place, float]) -> dict[Place, float]:
        """Return the probability by both tiers of each window, given with tier 0's raw score."""
        texts = all_normalised([text[a:b] for text, a, b in places])
        logits = self.encoder.logits(texts)[:, 0].astype(np.float64)
        both = logits + self.blend * np.fromiter(places.values(), np.float64, len(places))
        return dict(zip(places, self.calibration.probability(both).tolist(), strict=True))


def build(
    *,
    checkpoint: str = "",
    config: str = "",
    sha256: str = "",
    model_type: str = "original",
    low: float = 0.1,
    high: float = 0.9,
    audit: float = EXPLORATION_RATE,
    profile: Profile = "default",
) -> "Toxicity":
    """Build the detector.

    `checkpoint`, `config`, `sha256` and `model_type` are as in `DetoxifyModel`; with them there is a tier 2,
    for tier-1 scores in [`low`, `high`]. `audit` is the share of the other traces that reaches a higher
    tier. Raises ConfigError naming the option and the remedy.
    """
    if not 0.0 <= low <= high <= 1.0:
        raise ConfigError(
            f"{_OPTION}.low: low {low}, high {high} are not 0 <= low <= high <= 1; give e.g. 0.1 and 0.9"
        )
    second = Cascade(NAME, 1, exploration_rate=audit, profile=profile)
    third = None
    version = models.version(REVISION, *_LINEAR, *_ENCODER)
    if _configured(checkpoint, config, sha256) and profile != "offline":
        model = detoxify.DetoxifyModel(
            checkpoint=checkpoint, config=config, sha256=sha256, model_type=model_type
        )
        third = Third(
            model, Cascade(NAME, 2, exploration_rate=audit, profile=profile, after=second), low, high
        )
        version += f".{sha256[:12].lower()}"
    return Toxicity(Bundled.load(), second, third, version, everything=profile == "full")


def tiers(*, checkpoint: str = "", config: str = "", sha256: str = "", **_: Any) -> list[TierStatus]:
    """Return whether the bundled models and Detoxify can run here. Raises ConfigError as `build` does."""
    statuses = []
    for tier, (name, files) in enumerate((("linear", _LINEAR), ("encoder", _ENCODER))):
        for file in files:
            models.verified(file)
        version = models.version(REVISION, *files)
        statuses.append(TierStatus(detector=NAME, tier=tier, name=name, present=True, version=version))
    configured = _configured(checkpoint, config, sha256)
    if configured:
        detoxify.check(checkpoint=checkpoint, config=config, sha256=sha256)
    third = TierStatus(
        detector=NAME,
        tier=2,
        name="detoxify",
        present=configured,
        version=sha256[:12].lower() if configured else "",
        cost=""
        if configured
        else "no second opinion where the bundled encoder is unsure, and no labels such as threat; give a"
        f" Detoxify checkpoint by {_OPTION}.checkpoint, config and sha256",
    )
    return [*statuses, third]


def _configured(checkpoint: str, config: str, sha256: str) -> bool:
    options = {"checkpoint": checkpoint, "sha256": sha256}
    if not checkpoint.endswith(detoxify.SUFFIX):
        options["config"] = config
    missing = [name for name, value in options.items() if not value]
    if missing and any((checkpoint, config, sha256)):
        raise ConfigError(
            f"{_OPTION}.{missing[0]}: empty; tier 2 needs checkpoint and sha256, and config unless the"
            f" checkpoint is a {detoxify.SUFFIX} file"
        )
    return not missing


class Third(NamedTuple):
    """Tier 2: the model, its cascade, and the band of tier-1 scores it re-checks."""

    model: "detoxify.DetoxifyModel"
    cascade: Cascade
    low: float
    high: float


class _Judged(NamedTuple):
    """A trace after the bundled tiers: scored windows by field, tier 0's score, tier 1's probability."""

    windows: Mapping[str, Sequence[tuple[Place, float]]]
    tier0: float
    probability: float


class Toxicity:
    """Scores prompt (user and tool messages) and response; the trace's score is the higher one.

    A window counts with the score of tier 0 or, where the encoder read it, of both; a text with its worst
    window. A trace without text is skipped. `values` holds `prompt` and `response` where that side has text,
    `tier0` (the trace's score by the linear model) and, where tier 2 judged, each of its labels. Bundled
    scores are calibrated on unseen rows of the training sets, not on your traffic, so `calibrated` is false.
    """

    name = NAME

    def __init__(
        self, bundled: Bundled, second: Cascade, third: Third | None, version: str, *, everything: bool
    ) -> None:
        self._bundled = bundled
        self._second = second
        self._third = third
        self._everything = everything
        self.version = version
        self.cascades: tuple[Cascade, ...] = (second, third.cascade) if third else (second,)

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; equal texts of the batch are scored once."""
        assessments = [self._assessment(judged) for judged in self._judged(traces)]
        return assessments if self._third is None else self._with_third(traces, assessments, self._third)

    def _judged(self, traces: Sequence[Trace]) -> list[_Judged]:
        """Run both bundled tiers."""
        fields = [_fields(trace) for trace in traces]
        cuts = {
            text: [(text, a, b) for a, b in windows(text, WINDOW)]
            for text in dict.fromkeys(text for trace_fields in fields for _, text in trace_fields)
        }
        read = self._bundled.first([place for places in cuts.values() for place in places])
        first = {place: probability for place, (_, probability) in read.items()}
        asked: list[tuple[float, set[Place]]] = []
        for trace, trace_fields in zip(traces, fields, strict=True):
            places = {place for _, text in trace_fields for place in cuts[text]}
            unsure = {place for place in places if first[place] >= self._bundled.gate}
            probability = self._second.escalate(trace.id, unsure=bool(unsure)) if places else 0.0
            wanted = places if self._everything or not unsure else unsure
            asked.append((probability, wanted if probability else set()))
        second = self._bundled.second({p: read[p][0] for _, wanted in asked for p in wanted})
        judged = []
        for trace_fields, (probability, wanted) in zip(fields, asked, strict=True):
            scored = {
                field: [(p, second[p] if p in wanted else first[p]) for p in cuts[text]]
                for field, text in trace_fields
            }
            tier0 = max((first[p] for _, text in trace_fields for p in cuts[text]), default=0.0)
            judged.append(_Judged(scored, tier0, probability))
        return judged

    def _assessment(self, judged: _Judged) -> Assessment:
        if not judged.windows:
            return skipped(NAME, self.version)
        sides: dict[str, float] = {}
        for field, places in judged.windows.items():
            sides[_side(field)] = max(sides.get(_side(field), 0.0), *(score for _, score in places))
        evidence = [
            Evidence(field, start, end, NAME, score)
            for field, places in judged.windows.items()
            for (_, start, end), score in places
            if score >= EVIDENCE_FROM
        ]
        evidence.sort(key=lambda e: -e.score)
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.SCORED,
            score=max(sides.values()),
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            tier=1 if judged.probability else 0,
            probability=judged.probability or 1.0,
            values={**sides, "tier0": judged.tier0},
        )

    def _with_third(
        self, traces: Sequence[Trace], assessments: Sequence[Assessment], third: Third
    ) -> list[Assessment]:
        reached = [a.probability if a.tier == 1 else 0.0 for a in assessments]
        chance = [
            third.cascade.escalate(trace.id, unsure=third.low <= a.score <= third.high, reached=before)
            if a.score is not None
            else 0.0
            for trace, a, before in zip(traces, assessments, reached, strict=True)
        ]
        texts = list(
            dict.fromkeys(text for t, p in zip(traces, chance, strict=True) if p for _, text in _fields(t))
        )
        labels = dict(zip(texts, third.model.score(texts), strict=True))
        return [
            _merged(trace, a, labels, p) if p else a
            for trace, a, p in zip(traces, assessments, chance, strict=True)
        ]


def _merged(
    trace: Trace, before: Assessment, labels: Mapping[str, Mapping[str, float]], probability: float
) -> Assessment:
    """Return the assessment with tier 2's scores in the place of tier 1's."""
    sides: dict[str, float] = {}
    highest: dict[str, float] = {}
    evidence = []
    for field, text in _fields(trace):
        sides[_side(field)] = max(sides.get(_side(field), 0.0), *labels[text].values())
        for label, score in labels[text].items():
            highest[label] = max(highest.get(label, 0.0), score)
            if score >= EVIDENCE_FROM:
                evidence.append(Evidence(field, 0, len(text), label, score))
    evidence.sort(key=lambda e: -e.score)
    return Assessment(
        detector=NAME,
        version=before.version,
        status=Status.SCORED,
        score=max(sides.values()),
        evidence=tuple((evidence + list(before.evidence))[:MAX_EVIDENCE]),
        tier=2,
        probability=probability,
        values={
            **highest,
            **sides,
            "tier0": before.values["tier0"],
            "tier1": before.score or 0.0,
            "probability1": before.probability,
        },
    )


def _fields(trace: Trace) -> list[tuple[str, str]]:
    # A system message is the application's own text, the same in every trace: no finding about this one.
    judged = ("user", "tool")
    fields = [(f"messages.{n}", m.content) for n, m in enumerate(trace.messages) if m.role in judged]
    return [(field, text) for field, text in [*fields, ("response", trace.response)] if text.strip()]


def _side(field: str) -> str:
    return "response" if field == "response" else "prompt"
