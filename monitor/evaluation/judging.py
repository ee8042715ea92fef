"""Our detector on labelled rows: built, given batches and ruled upon as in the daemon."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from monitor.clock import Clock
from monitor.config import Config
from monitor.detect import specs
from monitor.detect.inline import InlineDetectors
from monitor.errors import ConfigError
from monitor.evaluation.labelled import Judged, Row, one_type
from monitor.evaluation.measures import Entity
from monitor.findings import Assessment, Status
from monitor.rules import Rule, RuleSet
from monitor.trace import Origin

RULE: Final[Mapping[str, str]] = {
    "hallucination": "UnsupportedAnswer",
    "toxicity": "ToxicResponse",
    "injection": "PromptInjection",
}
"""The shipped rule that flags a row of a kind, and with that its threshold. Of personal data, whatever the
detector reports counts: the rules ask for kinds of data that alert, and leave names and places alone."""
BATCH: Final = 64


class Answers(NamedTuple):
    """Our detector's answers to rows: as scores and flags, as they are, and the shipped rules each raises."""

    judged: Judged
    assessments: Sequence[Assessment]
    raised: Sequence[tuple[str, ...]]


class Judge:
    """Our detector of one kind and the shipped rules, built once for all files."""

    def __init__(self, kind: str, config: Config, clock: Clock) -> None:
        """Raise ConfigError when the configuration turns the detector off, or it cannot be built."""
        spec = next((spec for spec in specs(config) if spec.name == kind), None)
        if spec is None:
            raise ConfigError(f"detectors.{kind}.enabled: false, so there is nothing to evaluate; enable it")
        self._kind = kind
        self._detectors = InlineDetectors([spec.build()], batch_size=BATCH, clock=clock)
        self._rules = RuleSet.load()
        self._clock = clock
        self.settings = {
            "profile": config.profile,
            "rule": RULE.get(kind),
            "threshold": threshold(kind, self._rules.rules),
        }

    def __call__(
        self, rows: Sequence[Row], types: Sequence[str] = (), advance: Callable[[int], None] = lambda _: None
    ) -> Answers:
        """Judge rows in batches and call `advance` with the size of each; for `types` see `of_types`."""
        assessments: list[Assessment] = []
        began, cpu = self._clock.monotonic(), time.process_time()
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            self._detectors.submit(start, [row.trace for row in batch])
            for verdicts in self._detectors.collect(0.0):
                assessments += [assessment for (assessment,) in verdicts.assessments]
            advance(len(batch))
        seconds, cpu = self._clock.monotonic() - began, time.process_time() - cpu
        raised = [self._raised(row, assessment) for row, assessment in zip(rows, assessments, strict=True)]
        by_row = [_entities(assessment) for assessment in assessments]
        if self._kind == "pii":
            # The score counts direct identifiers only. Labels make no such difference: all evidence counts.
            scores = [_highest(assessment) for assessment in assessments]
            flagged = [bool(entities) for entities in by_row]
        else:
            scores = [assessment.score or 0.0 for assessment in assessments]
            flagged = [RULE[self._kind] in rules for rules in raised]
        judged = Judged(np.array(scores), np.array(flagged), by_row, seconds, cpu)
        return Answers(of_types(judged, types), assessments, raised)

    def _raised(self, row: Row, assessment: Assessment) -> tuple[str, ...]:
        origin = Origin("eval", 0, 0, 0)  # only flag ids depend on it, and they are not shown
        return tuple(flag.rule for flag in self._rules.decide(origin, row.trace, [assessment]).flags)


def threshold(kind: str, rules: Sequence[Rule]) -> float | None:
    """Return the least number with which the rule of a kind compares; None when there is none."""
    reads = next((rule.expression.reads for rule in rules if rule.name == RULE.get(kind)), None)
    numbers = {n for read, of in reads.compared.items() if read[0] == kind for n in of} if reads else set()
    return min(numbers, default=None)


def _entities(assessment: Assessment) -> tuple[Entity, ...]:
    if assessment.status is not Status.SCORED:
        return ()
    return tuple(Entity(e.start, e.end, e.kind) for e in assessment.evidence)


def _highest(assessment: Assessment) -> float:
    scored = assessment.status is Status.SCORED
    return max((e.score for e in assessment.evidence), default=0.0) if scored else 0.0


def of_types(judged: Judged, types: Sequence[str]) -> Judged:
    """Return answers with only the entities of these types (none: all); a text without any scores 0."""
    if not types:
        return judged
    chosen = [tuple(e for e in entities if one_type(e.kind) in types) for entities in judged.entities]
    some = np.array([bool(entities) for entities in chosen])
    return judged._replace(entities=chosen, flagged=some, scores=np.where(some, judged.scores, 0.0))
