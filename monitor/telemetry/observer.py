"""The engine's observer: turns what the engine and the deliverers report into metrics, logs and spans.

Work is per batch, not per trace: counts are gathered with C-level counters, and each series is touched
once per batch.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import Concatenate, ParamSpec, TypeAlias

from monitor.clock import Clock
from monitor.config import BudgetsConfig
from monitor.events import Denial, GroupLook, Lag, Membership, TopicPartition
from monitor.findings import Assessment, Evidence, Judgement, Status, TierStatus
from monitor.ports import AssemblyStats, Incident, Observer, PoolStats, Stage
from monitor.spool import Usage
from monitor.telemetry.catalogue.detectors import VERDICTS
from monitor.telemetry.catalogue.engine import OBJECTIVES
from monitor.telemetry.catalogue.ledger import LEDGER_TABLES
from monitor.telemetry.metrics import LabelSet, Metrics
from monitor.telemetry.ports import Evaluations, Log, Spans
from monitor.telemetry.rates import TERMS, THRESHOLD, Window, sums_of

_P = ParamSpec("_P")

RATES_SECONDS = 5.0  # between refreshes of the rates of the last hour; scrapes are 15 s apart
PII = "pii"
DRIFT = "drift"

_Traffic: TypeAlias = tuple[str, str, str]
_traffic = attrgetter("trace.app", "trace.environment", "trace.model")
_release = attrgetter("trace.app", "trace.model", "trace.model_version", "trace.prompt_version")
_assessments = attrgetter("assessments")
_seconds = attrgetter("seconds")
_SCORED = Status.SCORED  # a member of an enumeration is looked up slowly
_score = attrgetter("score")
_evidence = attrgetter("evidence")


def _best_effort(
    method: "Callable[Concatenate[TelemetryObserver, _P], None]",
) -> "Callable[Concatenate[TelemetryObserver, _P], None]":
    """Count a fault of telemetry and log its kind: judging must not stop because observing did."""

    @wraps(method)
    def guarded(self: "TelemetryObserver", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the Observer contract: calls never raise
            self.faulted(method.__name__, error)

    return guarded


class TelemetryObserver(Observer):
    """Turns what the engine and the deliverers report into metrics, log lines and spans.

    Thread-safe: the engine's thread and a delivery thread may call at the same time.
    """

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
        self._budgets = budgets or BudgetsConfig()
        self._thresholds = risk_thresholds
        self._risks: Window[LabelSet] = Window(clock)
        self._rates_at = 0.0
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._spans = spans
        self._evaluations = evaluations
        self._stuck: dict[TopicPartition, int | None] = {}
        self._unread: Sequence[Lag] = ()
        self._faulty: set[str] = set()
        metrics.set("start_timestamp_seconds", clock.now())
        metrics.set("last_recorded_timestamp_seconds", 0.0)
        for objective in OBJECTIVES:
            metrics.set("service_budget_ratio", getattr(self._budgets, objective), objective=objective)

    @_best_effort
    def turned(self) -> None:
        """The loop has turned once."""
        self._metrics.set("heartbeat_timestamp_seconds", self._clock.now())

    @_best_effort
    def consumed(self, topic: str, records: int) -> None:
        """Records were taken from the source for the first time since the partition was claimed."""
        self._metrics.inc("records_consumed", records, topic=topic)

    @_best_effort
    def dead_lettered(self, topic: str, reason: str, records: int) -> None:
        """Dead letters are durable in the ledger."""
        self._metrics.inc("records_dead_lettered", records, topic=topic, reason=reason)
        self._metrics.set("last_recorded_timestamp_seconds", self._clock.now())

    @_best_effort
    def recorded(self, topic: str, records: int) -> None:
        """Records whose traces are all judged are durable in the ledger."""
        self._metrics.inc("records_recorded", records, topic=topic)
        self._metrics.set("last_recorded_timestamp_seconds", self._clock.now())

    @_best_effort
    def skipped(self, topic: str, reason: str, records: int) -> None:
        """Of the recorded, these held nothing to judge."""
        self._metrics.inc("records_skipped", records, topic=topic, reason=reason)

    @_best_effort
    def released(self, topic: str, records: int) -> None:
        """Consumed records were given up unrecorded: their partition was revoked or is owned by another."""
        self._metrics.inc("records_released", records, topic=topic)

    @_best_effort
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """A transaction's judgements are durable; `started`/`ended` are Unix seconds of its detect stage."""
        if not judgements:
            return
        now = self._clock.now()
        traffic: list[_Traffic] = [*map(_traffic, judgements)]
        self._metrics.add("traces_judged", Counter(traffic))
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

    @_best_effort
    def lag(self, lags: Sequence[Lag]) -> None:
        """Lag of every assigned partition. One that is read again, or given away, is stuck no more.

        Partitions that nobody reads count as well, see `group`.
        """
        told = {(lag.topic, str(lag.partition)): lag for lag in (*self._unread, *lags)}
        self._metrics.replace("lag_records", {key: lag.records for key, lag in told.items()})
        self._metrics.replace("lag_seconds", {key: lag.seconds for key, lag in told.items()})
        waiting = {(lag.topic, lag.partition): lag.records for lag in lags}
        # Nothing is delivered from a stuck partition, so what waits there can only grow until it is read.
        self._stuck = {
            where: waiting[where]
            for where, before in self._stuck.items()
            if where in waiting and (before is None or waiting[where] >= before)
        }
        self._metrics.replace(
            "partition_stuck",
            {
                (topic, str(partition)): float((topic, partition) in self._stuck)
                for topic, partition in waiting
            },
        )

    @_best_effort
    def broker(self, *, connected: bool) -> None:
        """Whether any broker of Kafka is connected; told by a source that reads from one."""
        self._metrics.set("kafka_connected", float(connected))

    @_best_effort
    def denied(self, denial: Denial, *, begins: bool) -> None:
        """Kafka was found to deny a right, or no longer to deny it; told by a source that reads from it."""
        self._metrics.set("kafka_denied", float(begins), topic=denial.topic or "*", right=denial.right)

    @_best_effort
    def named(self, topic: str, *, known: bool) -> None:
        """Whether Kafka gives a topic an id; told by a source that reads from it."""
        self._metrics.set("kafka_topic_id_known", float(known), topic=topic)

    @_best_effort
    def member(self, membership: Membership) -> None:
        """What a source knows of its membership in a consumer group."""
        self._metrics.set("kafka_member", float(membership.live))
        self._metrics.set("kafka_member_answered_timestamp_seconds", membership.answered)
        self._metrics.total("kafka_renewals", membership.renewals)

    @_best_effort
    def group(self, look: GroupLook | None) -> None:
        """Which partitions nobody in the group reads; None when Kafka refuses to say."""
        self._metrics.set("kafka_group_visible", float(look is not None))
        self._metrics.replace(
            "partitions_unread", {(topic,): count for topic, count in look.unread.items()} if look else {}
        )
        self._unread = look.lags if look else ()

    @_best_effort
    def ledger(self, *, writable: bool) -> None:
        """Whether the ledger took what was last written to it."""
        self._metrics.set("ledger_writable", float(writable))

    @_best_effort
    def waiting(self, stage: Stage, traces: int) -> None:
        """How many traces wait in a stage."""
        self._metrics.set("queue_traces", traces, stage=stage)

    @_best_effort
    def assembly(self, stats: AssemblyStats) -> None:
        """State of what joins spans into traces."""
        for completion, traces in stats.completions.items():
            self._metrics.total("traces_assembled", traces, completion=completion)
        for part, times in stats.missing.items():
            self._metrics.total("trace_parts_missing", times, part=part)
        self._metrics.total("spans_late", stats.late)
        self._metrics.total("exchanges_repeated", stats.repeated)
        self._metrics.total("traces_foreign", stats.foreign)
        self._metrics.set("assembly_waiting_traces", stats.waiting_traces)
        self._metrics.set("assembly_waiting_bytes", stats.waiting_bytes)

    @_best_effort
    def effort(self, ratio: float) -> None:
        """How much the dearer tiers may do."""
        self._metrics.set("effort_ratio", ratio)

    @_best_effort
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

    def _rates(self) -> None:
        """Refresh the rates of the last hour."""
        rates = self._risks.rates()
        self._metrics.replace("risk_ratio", {key: rate.ratio for key, rate in rates.items()})
        self._metrics.replace("risk_low_ratio", {key: rate.low for key, rate in rates.items()})
        self._metrics.replace("risk_high_ratio", {key: rate.high for key, rate in rates.items()})

    @_best_effort
    def incident(self, incident: Incident, topic: str = "", partition: int = -1) -> None:
        """Something to count, and to log when it is about a partition."""
        self._metrics.inc("incidents", incident=incident)
        if not topic:
            return
        if incident is Incident.STUCK:
            self._stuck[topic, partition] = None
            self._metrics.set("partition_stuck", 1.0, topic=topic, partition=str(partition))
            self._log.error("partition incident", incident=incident, topic=topic, partition=partition)
        else:
            self._log.warning("partition incident", incident=incident, topic=topic, partition=partition)

    @_best_effort
    def rules_loaded(self, version: str, *, ok: bool) -> None:
        """Rules were (re)loaded, or failed to and the last good set stays."""
        self._metrics.set("rules_last_reload_successful", float(ok))
        if ok:
            self._metrics.replace("rules_info", {(version,): 1.0})
            self._metrics.set("rules_last_reload_success_timestamp_seconds", self._clock.now())
            self._log.info("rules loaded", version=version)
        else:
            self._log.error("rules not loaded, the last good set stays", version=version)

    @_best_effort
    def config_loaded(self, *, ok: bool) -> None:
        """The configuration was (re)loaded, or failed to and the last good one stays."""
        self._metrics.set("config_last_reload_successful", float(ok))
        if ok:
            self._metrics.set("config_last_reload_success_timestamp_seconds", self._clock.now())

    @_best_effort
    def reloaded(self, *, ok: bool) -> None:
        """A reload that was asked for has been done, or failed."""
        self._metrics.inc("reloads", outcome="succeeded" if ok else "failed")

    @_best_effort
    def rule_failed(self, rule: str, evaluations: int = 1) -> None:
        """A rule could not be evaluated."""
        self._metrics.inc("rule_errors", evaluations, rule=rule)

    @_best_effort
    def transaction(self, seconds: float) -> None:
        """One ledger transaction took this long, commit included."""
        self._metrics.observe("ledger_transaction_seconds", (seconds,))

    @_best_effort
    def tiers(self, tiers: Iterable[TierStatus]) -> None:
        """Which tiers of the detectors can run here."""
        self._metrics.replace(
            "tier_present",
            {(tier.detector, str(tier.tier), tier.name): float(tier.present) for tier in tiers},
        )

    @_best_effort
    def delivered(self, destination: str, messages: int) -> None:
        """A destination took messages."""
        self._metrics.inc("deliveries", messages, destination=destination, outcome="delivered")

    @_best_effort
    def failed(self, destination: str, reason: str, messages: int) -> None:
        """A delivery failed and will be tried again."""
        self._metrics.inc("deliveries", messages, destination=destination, outcome="failed")
        self._metrics.inc("delivery_failures", messages, destination=destination, reason=reason)

    @_best_effort
    def rejected(self, destination: str, reason: str, messages: int) -> None:
        """A destination refused messages for good."""
        self._metrics.inc("deliveries", messages, destination=destination, outcome="rejected")
        self._metrics.inc("delivery_failures", messages, destination=destination, reason=reason)
        self._log.error("delivery rejected", destination=destination, reason=reason, messages=messages)

    @_best_effort
    def pending(self, outbox: Mapping[str, tuple[int, float]]) -> None:
        """What waits per destination: (messages, age of the oldest in seconds)."""
        self._metrics.replace("outbox_pending", {(name,): rows for name, (rows, _) in outbox.items()})
        self._metrics.replace("outbox_oldest_seconds", {(name,): age for name, (_, age) in outbox.items()})

    @_best_effort
    def answered(self, status: int) -> None:
        """The receiver answered a request."""
        self._metrics.inc("receiver_requests", code=str(status))

    @_best_effort
    def spooled(self, usage: Mapping[str, Usage]) -> None:
        """What waits in the spool."""
        self._metrics.replace("spool_records", {(t,): u.end - u.begin for t, u in usage.items()})
        self._metrics.replace("spool_bytes", {(t,): u.bytes for t, u in usage.items()})

    @_best_effort
    def kept(self, rows: Mapping[str, int]) -> None:
        """Rows that the ledger keeps, by table."""
        for table in LEDGER_TABLES:
            self._metrics.set("ledger_rows", rows[table], table=table)

    @_best_effort
    def gaps(self, gaps: int) -> None:
        """Ranges of offsets that are on record as never judged."""
        self._metrics.set("audit_gaps", gaps)

    @_best_effort
    def verified(self, entries: int, problems: int, gaps: int, seconds: float) -> None:
        """The audit chain was verified: what was found, and how long that took."""
        self._metrics.set("audit_last_verification_successful", float(problems == 0))
        self._metrics.set("audit_verified_timestamp_seconds", self._clock.now())
        self._metrics.set("audit_verification_duration_seconds", seconds)
        self._metrics.set("audit_verified_entries", entries)
        self._metrics.set("audit_problems", problems)
        self._metrics.set("audit_gaps", gaps)
        if problems:
            self._log.error("audit not verified", problems=problems, gaps=gaps)

    def faulted(self, where: str, error: Exception) -> None:
        """Count an observation that was lost, and log each place and kind once."""
        self._metrics.inc("telemetry_errors")
        kind = type(error).__name__
        if f"{where} {kind}" not in self._faulty:
            self._faulty.add(f"{where} {kind}")
            self._log.error("telemetry fault", where=where, error=kind)

    def _column(self, column: Sequence[Assessment], traffic: Sequence[_Traffic]) -> None:
        """One detector's answers for a batch, in the order of the traces."""
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
            found = chain.from_iterable(map(_evidence, column))
            self._metrics.add("pii_entities", Counter((_direction(e), e.kind) for e in found))
        elif detector == DRIFT:
            latest = {
                (app, model): assessment.score
                for (app, _, model), assessment in zip(traffic, column, strict=True)
                if assessment.score is not None
            }
            for (app, model), score in latest.items():
                self._metrics.set("drift_statistic_ratio", score, app=app, model=model)

    def _verdicts(self, labels: LabelSet, column: Sequence[Assessment], raised: Sequence[bool]) -> None:
        """What became of some traces at one detector, beside the budget they have."""
        flagged = sum(raised)
        unscored = sum(
            assessment.score is None and not flag for assessment, flag in zip(column, raised, strict=True)
        )
        *kept, _ = self._metrics.admitted("verdicts", (*labels, VERDICTS[0]))
        detector, app, environment = kept
        amounts = (flagged, len(column) - flagged - unscored, unscored)
        # All of them, zeros too: the first flag must be an increase, which Prometheus sees, not a birth.
        self._metrics.add(
            "verdicts", {(*kept, verdict): n for verdict, n in zip(VERDICTS, amounts, strict=True)}
        )
        budget = self._budgets.flagged_ratio(detector, app, environment)
        if budget is not None:
            self._metrics.set(
                "risk_budget_ratio", budget, detector=detector, app=app, environment=environment
            )

    def _risk(self, labels: LabelSet, column: Sequence[Assessment]) -> None:
        """Some answers of one detector, of one kind of traffic."""
        sums = sums_of(column, self._thresholds.get(labels[0], THRESHOLD))
        *kept, _ = self._metrics.admitted("risk_terms", (*labels, TERMS[0]))
        labels = tuple(kept)
        self._metrics.add(
            "risk_terms", {(*labels, term): value for term, value in zip(TERMS, sums, strict=True)}
        )
        self._risks.add(labels, sums)

    def _latency(self, judgements: Sequence[Judgement], now: float) -> None:
        # From the end: an answer or a run of a minute is no minute late. A producer's clock may run ahead of
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
    """A release as one label value, e.g. `2025-08-07, prompt 4`."""
    return (
        ", ".join(filter(None, (model_version, prompt_version and f"prompt {prompt_version}"))) or "unknown"
    )


def _direction(evidence: Evidence) -> str:
    """Where personal data stood, as a value of the label `direction`."""
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
