"""Hallucination: statements of a response that its sources do not support.

With context documents or tool results, the response and each sentence of it are checked against them and the
conversation, and the score is the calibrated probability that the response is unsupported. Without, there is
nothing to check against: the score then comes from signs of invention (samples that disagree, unsure tokens,
references, packages and quotes that the prompt does not hold) and is not a probability.

Tier 1 is a cross-encoder that the user brings; where tier 0 is unsure it reads the response by sentence.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from monitor import models
from monitor.config import Profile
from monitor.detect.cascade import EXPLORATION_RATE, Cascade
from monitor.errors import ConfigError
from monitor.findings import NO_TEXT, Assessment, Evidence, Status, TierStatus
from monitor.models import embedding
from monitor.models.cross_encoder import CrossEncoder, Kind
from monitor.models.groundedness import TREES, Groundedness, GroundednessScore
from monitor.models.grounding_features import Case, ResponseClaim
from monitor.text import wording
from monitor.trace import RETURNS, Trace

NAME = "hallucination"
UNSUPPORTED = 0.5  # a sentence at least this likely to be unsupported becomes evidence
MAX_EVIDENCE = 32  # per trace, worst first: it is for people to read
UNSURE_SCORES = (0.2, 0.9)  # between these a response goes on to the cross-encoder
WITHOUT_READER = (
    "reversed and regrouped facts are often missed; set detectors.hallucination.options.cross_encoder"
)
INVENTED = {"url": 0.6, "doi": 0.7, "citation": 0.6, "package": 0.3, "quote": 0.4}
"""Scores of references that the prompt does not hold, by kind. Judged, not measured."""
STATED_WITHIN = 300  # characters: a refusal further on is about a detail
UNSURE = 0.5  # mean token probability below this becomes evidence

_PLAIN = str.maketrans('_"', "  ")

Scored = tuple[float, list[Evidence], dict[str, float]]


class Reader(NamedTuple):
    """Tier 1: the user's cross-encoder, and the cascade that chooses its traces."""

    model: CrossEncoder
    cascade: Cascade

    def judge(self, sources: Sequence[str], response: str, judged: GroundednessScore) -> GroundednessScore:
        """Judge the claims again: the mean log odds of both tiers; the worst claim decides."""
        context = "\n".join(sources)
        supports = self.model.support(
            [(response[c.span.start : c.span.end], context) for c, _ in judged.claims]
        )
        claims = [
            (claim, _joined(score, 1.0 - support))
            for (claim, score), support in zip(judged.claims, supports, strict=True)
        ]
        return GroundednessScore(max((score for _, score in claims), default=judged.score), claims)


def _joined(first: float, second: float) -> float:
    # The mean of the log odds lets a sure tier outweigh an unsure one; clipping keeps 0 and 1 finite.
    odds = [np.log(p / (1.0 - p)) for p in np.clip((first, second), 1e-6, 1.0 - 1e-6)]
    return float(1.0 / (1.0 + np.exp(-np.mean(odds))))


class Hallucination:
    """Scores responses. Tier 0 is bundled and offline; `reader` is the optional tier 1."""

    name = NAME

    def __init__(self, model: Groundedness, reader: Reader | None = None) -> None:
        self.version = f"{model.version}.{reader.model.version}" if reader else model.version
        self.cascades: tuple[Cascade, ...] = (reader.cascade,) if reader else ()
        self._model = model
        self._reader = reader

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; the whole response is scored, however long."""
        return [self._one(trace) for trace in traces]

    def _one(self, trace: Trace) -> Assessment:
        sources = _sources(trace)
        scored: Scored | None = None
        escalated = 0.0  # the probability with which tier 1 read the response, 0 where it did not
        reason = ""
        if not trace.response.strip():
            reason = NO_TEXT
        elif sources:
            scored, escalated = self._grounded(trace, sources)
        else:
            scored = self._ungrounded(trace)
            reason = "" if scored else "no_context"
        stated = _stated(trace.response)
        if scored is None:
            return Assessment(
                detector=NAME,
                version=self.version,
                status=Status.SKIPPED,
                reason=reason,
                values=stated,
            )
        score, evidence, values = scored
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.SCORED,
            score=min(1.0, max(0.0, score)),
            calibrated=bool(sources) and not escalated,
            tier=int(escalated > 0.0),
            probability=escalated or 1.0,
            evidence=tuple(sorted(evidence, key=lambda e: -e.score)[:MAX_EVIDENCE]),
            values=values | stated,
        )

    def _grounded(self, trace: Trace, sources: Sequence[str]) -> tuple[Scored, float]:
        """Return the score by the sources, and the probability with which tier 1 read the response."""
        [judged] = self._model.assess([Case(trace.response, sources, _conversation(trace))])
        escalated = 0.0
        tier0: dict[str, float] = {}
        if self._reader and judged.claims:
            unsure = UNSURE_SCORES[0] <= judged.score < UNSURE_SCORES[1]
            escalated = self._reader.cascade.escalate(trace.id, unsure=unsure)
            if escalated:
                tier0 = {"tier0": judged.score}
                judged = self._reader.judge(sources, trace.response, judged)
        risk, claims = judged
        scores = [score for _, score in claims]
        evidence: list[Evidence] = []
        for claim, score in claims:
            if score >= UNSUPPORTED:
                evidence.append(_span(claim.span, "unsupported_sentence", score))
                evidence += [_span(span, "unsupported_number", score) for span in claim.new_numbers]
                evidence += [_span(span, "unsupported_entity", score) for span in claim.new_names]
        worst = max(scores, default=0.0)
        values = {
            "claims": float(len(scores)),
            "unsupported_sentences": float(sum(score >= UNSUPPORTED for score in scores)),
            "worst_sentence": worst,
            "coverage": 1.0 - float(np.mean([_new_words(claim) for claim, _ in claims])) if claims else 1.0,
        }
        return (risk, evidence, values | tier0), escalated

    def _ungrounded(self, trace: Trace) -> Scored | None:
        parts = [
            part for part in (self._inconsistent(trace), _unsure(trace), _invented(trace)) if part is not None
        ]
        if not parts:
            return None
        risk = 1.0 - float(np.prod([1.0 - score for score, _, _ in parts]))
        evidence = [item for _, items, _ in parts for item in items]
        return risk, evidence, {name: value for _, _, values in parts for name, value in values.items()}

    def _inconsistent(self, trace: Trace) -> Scored | None:
        """Score how far other samples of the prompt fail to support the response (after SelfCheckGPT)."""
        others = [other for other in trace.alternatives if other.strip()]
        if not others:
            return None
        asked = _conversation(trace)
        answers = self._model.assess([Case(trace.response, [other], asked) for other in others])
        claims = [claim for claim, _ in answers[0].claims]
        if not claims:
            return 0.0, [], {"inconsistency": 0.0}
        # A courtesy may be checkable against one sample and not another: match claims by span, not by place.
        by_span = [{(c.span.start, c.span.end): score for c, score in answer.claims} for answer in answers]
        means = [
            float(np.mean([scores.get((c.span.start, c.span.end), 0.0) for scores in by_span]))
            for c in claims
        ]
        evidence = [
            _span(claim.span, "inconsistent_samples", mean)
            for claim, mean in zip(claims, means, strict=True)
            if mean >= UNSUPPORTED
        ]
        risk = float(np.mean(means))
        return risk, evidence, {"inconsistency": risk}


def _stated(response: str) -> dict[str, float]:
    """Return 1.0 under `refusal` or `stated_cutoff` where the response declines, or names a cut-off."""
    opening = response[:STATED_WITHIN]
    statements = {"refusal": wording.declines(opening), "stated_cutoff": wording.states_cutoff(response)}
    return {name: 1.0 for name, stated in statements.items() if stated}


def _sources(trace: Trace) -> list[str]:
    sources = [document.content for document in trace.context]
    sources += [message.content for message in trace.messages if message.role == "tool"]
    # A terse result ("up", "ok") supports little without what the tool was asked.
    returned = [step for step in trace.steps if step.kind in RETURNS]
    sources += [
        f"{step.name} {step.input} {step.output}".translate(_PLAIN) for step in returned if step.output
    ]
    outputs = {step.output for step in returned}
    sources += [call.result for call in trace.tool_calls if call.result not in outputs]
    return [source for source in sources if source.strip()]


def _conversation(trace: Trace) -> str:
    return "\n".join(message.content for message in trace.messages)


def _new_words(claim: ResponseClaim) -> float:
    return float(claim.features[0])


def _span(span: Any, kind: str, score: float) -> Evidence:
    return Evidence(field="response", start=span.start, end=span.end, kind=kind, score=score)


def _unsure(trace: Trace) -> Scored | None:
    """Score the token log probabilities: one minus their geometric mean probability."""
    if not trace.logprobs:
        return None
    values = np.minimum(np.asarray(trace.logprobs, dtype=np.float64), 0.0)
    mean = float(np.mean(np.maximum(values, -100.0)))  # some servers send -inf
    sure = float(np.exp(mean))
    whole = Evidence(
        field="response", start=0, end=len(trace.response), kind="low_confidence", score=1.0 - sure
    )
    return 1.0 - sure, [whole] if sure < UNSURE else [], {"mean_logprob": mean}


def _invented(trace: Trace) -> Scored | None:
    """Score references of the response that the prompt does not hold. None when it makes no reference."""
    references = list(wording.references(trace.response))
    if not references:
        return None
    known = wording.normal_form(_conversation(trace))
    invented = [reference for reference in references if reference.target not in known]
    evidence = [_span(r, f"fabricated_{r.kind}", INVENTED[r.kind]) for r in invented]
    doubt = float(np.prod([1.0 - INVENTED[reference.kind] for reference in invented]))
    return 1.0 - doubt, evidence, {"unknown_references": float(len(invented))}


def build(
    *,
    cross_encoder: str = "",
    cross_encoder_sha256: str = "",
    cross_encoder_tokenizer: str = "",
    cross_encoder_kind: Kind = "auto",
    cross_encoder_supported: int | None = None,
    cross_encoder_template: str = "",
    cross_encoder_max_tokens: int = 512,
    audit: float = EXPLORATION_RATE,
    profile: Profile = "default",
) -> Hallucination:
    """Build the detector.

    `cross_encoder` is the path of an ONNX file and `cross_encoder_sha256` its digest; the other options of
    that name are those of `CrossEncoder.load`. `audit` is the share of traces that it reads although tier 0
    is sure. Profile `offline` leaves it out. Raises ConfigError for what cannot be used.
    """
    reader = None
    if cross_encoder and profile != "offline":
        model = CrossEncoder.load(
            cross_encoder,
            sha256=cross_encoder_sha256,
            tokenizer=cross_encoder_tokenizer,
            kind=cross_encoder_kind,
            supported=cross_encoder_supported,
            template=cross_encoder_template,
            max_tokens=cross_encoder_max_tokens,
        )
        reader = Reader(model, Cascade(NAME, 1, exploration_rate=audit, profile=profile))
    return Hallucination(Groundedness.load(), reader)


def tiers(**options: Any) -> list[TierStatus]:
    """Report whether weights and cross-encoder can run. Raises ConfigError as `build` does."""
    names = (TREES, embedding.TABLE, embedding.SCALES, embedding.TOKENIZER)
    try:
        for name in names:
            models.verified(name)
        version, cost = models.version(2, *names), ""
    except ConfigError as error:
        return [
            TierStatus(
                detector=NAME,
                tier=0,
                name="groundedness",
                present=False,
                cost=f"unsupported answers are not found: {error}",
            )
        ]
    reader = build(**options).cascades
    return [
        TierStatus(detector=NAME, tier=0, name="groundedness", present=True, version=version, cost=cost),
        TierStatus(
            detector=NAME,
            tier=1,
            name="cross_encoder",
            present=bool(reader),
            version=options.get("cross_encoder_sha256", "")[:12] if reader else "",
            cost="" if reader else WITHOUT_READER,
        ),
    ]
