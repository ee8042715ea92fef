"""Drift, worker side: the feature vector of a trace. The test keeps state and lives in `monitor.drift`."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from monitor import models
from monitor.drift.monitor import DriftMonitor
from monitor.drift.statistics import SCALARS
from monitor.errors import ConfigError
from monitor.findings import Assessment, Status, TierStatus, skipped
from monitor.models import embedding
from monitor.models.embedding import Embedding, normalised
from monitor.text import wording
from monitor.trace import Side, Trace

NAME = "drift"
DIMENSIONS = 128  # leading principal components of the embedding; the rest cost time and change little
_LIMIT = 15.99  # signals live in [0, 16)


class Drift:
    """Turns traces into feature vectors."""

    name = NAME

    def __init__(self, model: Embedding) -> None:
        self.version = model.version
        self._model = model

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order, with its vector: 128 of embedding, then `SCALARS`.

        It embeds the question, else the prompt, else the response; a trace without any is skipped, as the
        lengths of texts that were not read say nothing. The score is 0: the engine's drift monitor sets it.
        """
        subjects = {n: subject for n, trace in enumerate(traces) if (subject := _subject(trace)).strip()}
        scored = iter(self._scored([traces[n] for n in subjects], list(subjects.values())))
        return [next(scored) if n in subjects else skipped(NAME, self.version) for n in range(len(traces))]

    def _scored(self, traces: Sequence[Trace], subjects: Sequence[str]) -> list[Assessment]:
        if not traces:
            return []
        prompts = normalised(self._model.encode(list(subjects))[:, :DIMENSIONS])
        scalars = [_scalars(trace) for trace in traces]
        vectors = np.hstack((prompts, np.asarray(scalars, dtype=np.float32).reshape(-1, len(SCALARS))))
        return [
            Assessment(
                detector=NAME,
                version=self.version,
                status=Status.SCORED,
                score=0.0,
                values={
                    name: value for name, value in zip(SCALARS, row, strict=True) if not math.isnan(value)
                },
                vector=vector.astype("<f4").tobytes(),
            )
            for row, vector in zip(scalars, vectors, strict=True)
        ]


def _subject(trace: Trace) -> str:
    return next((t for t in (trace.question(), trace.prompt()) if t.strip()), trace.response)


def _scalars(trace: Trace) -> tuple[float, ...]:
    tokens = trace.usage.output_tokens if trace.usage else None
    unread = {each.side for each in trace.blind()}
    blind = Side.RESPONSE in unread
    return (
        math.nan if Side.PROMPT in unread else _log(sum(len(message.content) for message in trace.messages)),
        math.nan if blind else _log(len(trace.response)),
        math.nan if blind else _LIMIT if wording.declines(trace.response) else 0.0,
        math.nan if trace.latency is None else _log(1000 * trace.latency),
        math.nan if tokens is None else _log(tokens),
    )


def _log(value: float) -> float:
    return min(_LIMIT, math.log1p(max(0.0, value)))


def build(**options: Any) -> Drift:
    """Build the worker's half. Options are those of `DriftMonitor`, which the engine builds.

    Raises ConfigError for an unknown or unusable option, or for unusable weights.
    """
    _check(options)
    return Drift(Embedding.load())


def tiers(**options: Any) -> list[TierStatus]:
    """Report whether the bundled embedding is there and unaltered. Raises ConfigError for a bad option."""
    _check(options)
    names = (embedding.TABLE, embedding.SCALES, embedding.TOKENIZER)
    try:
        for name in names:
            models.verified(name)
        version, cost = models.version(1, *names), ""
    except ConfigError as error:
        version, cost = "", f"drift is not watched: {error}"
    return [TierStatus(detector=NAME, tier=0, name="embedding", present=not cost, version=version, cost=cost)]


def _check(options: dict[str, Any]) -> None:
    known = set(inspect.signature(DriftMonitor).parameters)
    for name in sorted(set(options) - known):
        raise ConfigError(
            f"detectors.{NAME}.options.{name}: no such option; use one of {', '.join(sorted(known))}"
        )
    DriftMonitor(**options)
