"""Reports about detectors: judged batches, risk rates, the worker pool and its tiers.

Work is per batch, not per trace: counts are gathered with C-level counters, and each series is touched
once per batch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import TypeAlias

from monitor.clock import Clock
from monitor.config import BudgetsConfig
from monitor.findings import DRIFT, PII, Assessment, Evidence, Judgement, Status, TierStatus
from monitor.ports import PoolStats
from monitor.telemetry.catalogue.detectors import VERDICTS
from monitor.telemetry.catalogue.engine import OBJECTIVES, READABILITY
from monitor.telemetry.metrics import LabelSet, Metrics
from monitor.telemetry.observer.reporter import Reporter, best_effort
from monitor.telemetry.ports import Evaluations, Log, Spans
from monitor.telemetry.rates import TERMS, THRESHOLD, RateWindow, sums_of

RATES_SECONDS = 5.0  # between refreshes of the rates of the last hour; scrapes are 15 s apart

_Traffic: TypeAlias = tuple[str, str, str]
_traffic = attrgetter("trace.app", "trace.environment", "trace.model")
_release = attrgetter("trace.app", "trace.model", "trace.model_version", "trace.prompt_version")
_assessments = attrgetter("assessments")
_unread = attrgetter("trace.unread")
_seconds = attrgetter("seconds")
_SCORED = Status.SCORED  # a member of an enumeration is looked up slowly
_score = attrgetter("score")
_evidence = attrgetter("evidence")


class DetectorReports(Reporter):
    """Reports of the engine about judged traces and the detectors."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        log: Log,
        spans: Spans | None = None,
        evaluations: Evaluations | None = None,
        *,
        risk_thresholds: Mapping[str, float] = MappingProxyType({}),
        budgets: BudgetsConfig | None = None,
    ) -> None:
        super().__init__(metrics, clock, log)
        self._budgets = budgets or BudgetsConfig()
        self._thresholds = risk_thresholds
        self._risks: RateWindow[LabelSet] = RateWindow(clock)
        self._rates_at = 0.0
        self._spans = spans
        self._evaluations = evaluations
        for objective in OBJECTIVES:
            metrics.set("service_budget_ratio", getattr(self._budgets, objective), objective=objective)

    @best_effort
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """A transaction's judgements are durable; `started`/`ended` are Unix seconds of its detect stage."""
        if not judgements:
            return
        now = self._clock.now()
        traffic: list[_Traffic] = [*map(_traffic, judgements)]
        self._metrics.add("traces_judged", Counter(traffic))
        self._readability(judgements, traffic)
        releases = Counter(map(_release, judgements))
        self._metrics.add(
            "release_traces", {(app, model, _joined(*of)): n for (app, model, *of), n in releases.items()}
        )
        flagged = [{name for flag in judgement.flags for name in flag.detectors} for judgement in judgements]
        groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for place, (app, environment, _) in enumerate(traffic):
            groups[app, environment].append(place)
        for column in zip(*map(_assessments, judgements), strict=True):
            self._column(column, traffic)
            for (app, environment), places in groups.items():
                raised = [column[0].detector in flagged[place] for place in places]
                self._verdicts(
                    (column[0].detector, app, environment), [column[place] for place in places], raised
                )
            if column[0].detector == DRIFT:
                continue  # its score is about the traffic, not about the trace
            for (app, environment), places in groups.items():
                self._risk((column[0].detector, app, environment), [column[place] for place in places])
        self._latency(judgements, now)
        self._flags(judgements, now)
        if self._evaluations is not None:
            self._evaluations.offer(judgements, ended)
        if self._spans is not None:
            self._spans.batch(judgements, started, ended)

    @best_effort
    def redaction_failed(self, reason: str) -> None:
        """The texts of a flagged trace could not be redacted, so none of them is kept."""
        self._metrics.inc("redactions_failed", reason=reason)
        self._log.error("redaction_failed", reason=reason)

    @best_effort
    def pool(self, stats: PoolStats) -> None:
        """State of the detector pool."""
        self._metrics.set("pool_workers", stats.workers)
        self._metrics.set("pool_workers_ready", stats.ready)
        self._metrics.set("pool_batches_in_flight", stats.in_flight)
        self._metrics.set("pool_batch_size_traces", stats.batch_size)
        for cause, restarts in stats.restarts.items():
            self._metrics.total("worker_restarts", restarts, cause=cause)
        for (detector, tier, decision), traces in stats.decisions.items():
            self._metrics.total(
                "tier_decisions", traces, detector=detector, tier=str(tier), decision=decision
            )
        if self._clock.monotonic() >= self._rates_at:
            self._rates_at = self._clock.monotonic() + RATES_SECONDS
            self._rates()

    @best_effort
    def escalation_rate(self, rate: float) -> None:
        """Report the share of unsure traces that higher tiers may take."""
        self._metrics.set("effort_ratio", rate)

    @best_effort
    def tiers(self, tiers: Iterable[TierStatus]) -> None:
        """Report which tiers of the detectors can run here."""
        self._metrics.replace(
            "tier_present",
            {(tier.detector, str(tier.tier), tier.name): float(tier.present) for tier in tiers},
        )

    def _rates(self) -> None:
        """Refresh the rates of the last hour."""
        rates = self._risks.rates()
        self._metrics.replace("risk_ratio", {key: rate.ratio for key, rate in rates.items()})
        self._metrics.replace("risk_low_ratio", {key: rate.low for key, rate in rates.items()})
        self._metrics.replace("risk_high_ratio", {key: rate.high for key, rate in rates.items()})

    def _readability(self, judgements: Sequence[Judgement], traffic: Sequence[_Traffic]) -> None:
        """Count readable and blind traces, sides that were not read, and calls that failed."""
        seen = Counter((app, environment) for app, environment, _ in traffic)
        blind: Counter[tuple[str, str]] = Counter()
        unread: Counter[tuple[str, ...]] = Counter()
        emitters: Counter[tuple[str, ...]] = Counter()
        for judgement in filter(_unread, judgements):
            trace = judgement.trace
            unread.update((each.reason, each.side) for each in trace.unread)
            if trace.blind():
                blind[trace.app, trace.environment] += 1
                emitters[trace.emitter or "unknown",] += 1
        # Both of them, zeros too: Prometheus must see the first blind trace as an increase.
        for (app, environment), traces in seen.items():
            *admitted, _ = self._metrics.admitted("traces_readability", (app, environment, READABILITY[0]))
            amounts = (traces - blind[app, environment], blind[app, environment])
            self._metrics.add(
                "traces_readability",
                {(*admitted, name): amount for name, amount in zip(READABILITY, amounts, strict=True)},
            )
        if unread:
            self._metrics.add("traces_unreadable", unread)
            self._metrics.add("traces_blind", emitters)
        failed = Counter((j.trace.app, j.trace.error) for j in judgements if j.trace.error)
        if failed:
            self._metrics.add("traces_failed", failed)

    def _column(self, column: Sequence[Assessment], traffic: Sequence[_Traffic]) -> None:
        """Count one detector's answers for a batch, in the order of the traces."""
        detector = column[0].detector
        self._metrics.observe("detector_duration_seconds", [*map(_seconds, column)], (detector,))
        unscored = [assessment for assessment in column if assessment.status is not _SCORED]
        statuses = Counter((detector, assessment.status.value) for assessment in unscored)
        statuses[detector, _SCORED.value] = len(column) - len(unscored)
        self._metrics.add("assessments", statuses)
        self._metrics.add(
            "assessments_unscored", Counter((detector, a.reason or a.status.value) for a in unscored)
        )
        scores: defaultdict[str, list[float]] = defaultdict(list)
        for (_, environment, _), score in zip(traffic, map(_score, column), strict=True):
            if score is not None:
                scores[environment].append(score)
        for environment, values in scores.items():
            self._metrics.observe("score_ratio", values, (detector, environment))
        if detector == PII:
            entities = chain.from_iterable(map(_evidence, column))
            self._metrics.add("pii_entities", Counter((_direction(e), e.kind) for e in entities))
        elif detector == DRIFT:
            latest = {
                (app, model): assessment.score
                for (app, _, model), assessment in zip(traffic, column, strict=True)
                if assessment.score is not None
            }
            for (app, model), score in latest.items():
                self._metrics.set("drift_statistic_ratio", score, app=app, model=model)

    def _verdicts(self, labels: LabelSet, column: Sequence[Assessment], raised: Sequence[bool]) -> None:
        """Count flagged, clean and unscored traces at one detector, and set the budget for them."""
        flagged = sum(raised)
        unscored = sum(
            assessment.score is None and not flag for assessment, flag in zip(column, raised, strict=True)
        )
        *admitted, _ = self._metrics.admitted("verdicts", (*labels, VERDICTS[0]))
        detector, app, environment = admitted
        amounts = (flagged, len(column) - flagged - unscored, unscored)
        # All of them, zeros too: Prometheus must see the first flag as an increase, not as a new series.
        self._metrics.add(
            "verdicts", {(*admitted, verdict): n for verdict, n in zip(VERDICTS, amounts, strict=True)}
        )
        budget = self._budgets.flagged_ratio(detector, app, environment)
        if budget is not None:
            self._metrics.set(
                "risk_budget_ratio", budget, detector=detector, app=app, environment=environment
            )

    def _risk(self, labels: LabelSet, column: Sequence[Assessment]) -> None:
        """Add the answers of one detector, for one kind of traffic, to its risk rate."""
        sums = sums_of(column, self._thresholds.get(labels[0], THRESHOLD))
        *admitted, _ = self._metrics.admitted("risk_terms", (*labels, TERMS[0]))
        labels = tuple(admitted)
        self._metrics.add(
            "risk_terms", {(*labels, term): value for term, value in zip(TERMS, sums, strict=True)}
        )
        self._risks.add(labels, sums)

    def _latency(self, judgements: Sequence[Judgement], now: float) -> None:
        # From the end: a trace that lasts a minute is not a minute late. A producer's clock may run ahead of
        # ours; a negative age would only corrupt the sum.
        ages = [max(0.0, now - judgement.trace.complete()) for judgement in judgements]
        self._metrics.observe("end_to_end_latency_seconds", ages)
        slowest = ages.index(max(ages))
        self._metrics.observe_exemplar(
            "end_to_end_latency_seconds", ages[slowest], judgements[slowest].trace.trace_id, now
        )

    def _flags(self, judgements: Sequence[Judgement], now: float) -> None:
        raised: Counter[tuple[str, ...]] = Counter()
        actions: Counter[tuple[str, ...]] = Counter()
        example: dict[tuple[str, ...], str] = {}
        for judgement in judgements:
            for flag in judgement.flags:
                labels: tuple[str, ...] = (flag.rule, flag.severity.value, *_traffic(judgement))
                raised[labels] += 1
                actions.update((action.value, flag.severity.value) for action in flag.actions)
                example[labels] = judgement.trace.trace_id
        self._metrics.add("flags", raised)
        self._metrics.add("flag_actions", actions)
        for labels, trace_id in example.items():
            self._metrics.exemplar("flags", labels, trace_id, now)


def _joined(model_version: str, prompt_version: str) -> str:
    """Join a release to one label value, e.g. `2025-08-07, prompt 4`."""
    return (
        ", ".join(filter(None, (model_version, prompt_version and f"prompt {prompt_version}"))) or "unknown"
    )


def _direction(evidence: Evidence) -> str:
    """Return where personal data was found, as a value of the label `direction`."""
    if evidence.leaked:
        return "leaked"
    match evidence.field.partition(".")[0]:
        case "response" | "alternatives":
            return "response"
        case "context":
            return "context"
        case "tool_calls" | "steps":
            return "tool"
        case _:
            return "prompt"
