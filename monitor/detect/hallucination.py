"""Hallucination: what a response says that its sources do not.

With context documents or tool results, each sentence of the response is checked against them and the
conversation, and the score is the calibrated probability that the worst sentence is unsupported. Without,
there is nothing to check against: the score then comes from signs of invention (samples that disagree, unsure
tokens, references that the prompt does not hold) and is not a probability.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from monitor import models, text
from monitor.clock import Clock, SystemClock
from monitor.errors import ConfigError
from monitor.findings import Assessment, Evidence, Status, TierStatus
from monitor.models import embedding
from monitor.models.groundedness import TREES, Case, Claim, Groundedness
from monitor.trace import Trace

NAME = "hallucination"
UNSUPPORTED = 0.5  # a sentence at least this likely to be unsupported becomes evidence
MAX_EVIDENCE = 32  # per trace, worst first: it is for people to read
INVENTED = {"url": 0.6, "doi": 0.7, "citation": 0.6}
"""How telling a reference is that the prompt does not hold. A judgement, not measured."""
UNSURE = 0.5  # mean token probability below this becomes evidence

Scored = tuple[float, list[Evidence], dict[str, float]]


class Hallucination:
    """Tier 0: bundled and offline."""

    name = NAME

    def __init__(self, model: Groundedness, clock: Clock) -> None:
        self.version = model.version
        self._model = model
        self._clock = clock

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order; the whole response is scored, however long."""
        return [self._one(trace) for trace in traces]

    def _one(self, trace: Trace) -> Assessment:
        started = self._clock.monotonic()
        sources = _sources(trace)
        scored: Scored | None = None
        reason = ""
        if not trace.response.strip():
            reason = "no_response"
        elif sources:
            scored = self._grounded(trace, sources)
        else:
            scored = self._ungrounded(trace)
            reason = "" if scored else "no_context"
        seconds = self._clock.monotonic() - started
        if scored is None:
            return Assessment(
                detector=NAME, version=self.version, status=Status.SKIPPED, reason=reason, seconds=seconds
            )
        score, evidence, values = scored
        return Assessment(
            detector=NAME,
            version=self.version,
            status=Status.SCORED,
            score=min(1.0, max(0.0, score)),
            calibrated=bool(sources),
            evidence=tuple(sorted(evidence, key=lambda e: -e.score)[:MAX_EVIDENCE]),
            values=values,
            seconds=seconds,
        )

    def _grounded(self, trace: Trace, sources: Sequence[str]) -> Scored:
        [claims] = self._model.assess([Case(trace.response, sources, _conversation(trace))])
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
        return worst, evidence, values

    def _ungrounded(self, trace: Trace) -> Scored | None:
        parts = [
            part for part in (self._inconsistent(trace), _unsure(trace), _invented(trace)) if part is not None
        ]
        if not parts:
            return None
        risk = 1.0 - float(np.prod([1.0 - score for score, _, _ in parts]))
        evidence = [item for _, found, _ in parts for item in found]
        return risk, evidence, {name: value for _, _, values in parts for name, value in values.items()}

    def _inconsistent(self, trace: Trace) -> Scored | None:
        """Score how far other samples of the prompt fail to support the response (after SelfCheckGPT)."""
        others = [other for other in trace.alternatives if other.strip()]
        if not others:
            return None
        asked = _conversation(trace)
        answers = self._model.assess([Case(trace.response, [other], asked) for other in others])
        claims = [claim for claim, _ in answers[0]]
        if not claims:
            return 0.0, [], {"inconsistency": 0.0}
        # Whether a courtesy is checkable depends on the sample, so claims are matched by span.
        by_span = [{(c.span.start, c.span.end): score for c, score in answer} for answer in answers]
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


def _sources(trace: Trace) -> list[str]:
    found = [document.content for document in trace.context]
    found += [call.result for call in trace.tool_calls]
    found += [message.content for message in trace.messages if message.role == "tool"]
    return [source for source in found if source.strip()]


def _conversation(trace: Trace) -> str:
    return "\n".join(message.content for message in trace.messages)


def _new_words(claim: Claim) -> float:
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
    references = list(text.references(trace.response))
    if not references:
        return None
    known = text.normal_form(_conversation(trace))
    invented = [reference for reference in references if reference.target not in known]
    evidence = [_span(r, f"fabricated_{r.kind}", INVENTED[r.kind]) for r in invented]
    doubt = float(np.prod([1.0 - INVENTED[reference.kind] for reference in invented]))
    return 1.0 - doubt, evidence, {"unknown_references": float(len(invented))}


def build(**options: Any) -> Hallucination:
    """Build the detector. It takes no options; raises ConfigError for one, or for unusable weights."""
    _reject(options)
    return Hallucination(Groundedness.load(), SystemClock())


def tiers(**options: Any) -> list[TierStatus]:
    """Report whether the bundled weights are there and unaltered. Raises ConfigError for an option."""
    _reject(options)
    names = (TREES, embedding.TABLE, embedding.SCALES, embedding.TOKENIZER)
    try:
        for name in names:
            models.verified(name)
        version, cost = models.version(1, *names), ""
    except ConfigError as error:
        version, cost = "", f"unsupported answers are not found: {error}"
    return [
        TierStatus(detector=NAME, tier=0, name="groundedness", present=not cost, version=version, cost=cost)
    ]


def _reject(options: dict[str, Any]) -> None:
    for name in options:
        raise ConfigError(f"detectors.{NAME}.options.{name}: no such option; remove it (there are none)")
