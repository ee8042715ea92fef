"""Every metric riskmon exports, in one table.

The names below are what call sites write (`metrics.inc("records_consumed", …)`), so mypy rejects a
misspelt one; `Family.exported` is what Prometheus sees. Conventions: https://prometheus.io/docs/practices/naming/
(prefix, base units, `_total` for counters, `_ratio` in [0, 1], `_info`, `_timestamp_seconds`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from monitor.events import Right
from monitor.findings import Action, Severity, Status
from monitor.ports import DECISIONS, Completion, Incident, Stage
from monitor.telemetry.rates import TERMS
from monitor.trace import Missing

PREFIX = "riskmon_"
OTHER = "other"
"""The value of a guarded label once its set is full."""

CounterName: TypeAlias = Literal[
    "records_consumed",
    "records_recorded",
    "records_dead_lettered",
    "records_skipped",
    "records_released",
    "traces_judged",
    "release_traces",
    "verdicts",
    "assessments",
    "assessments_unscored",
    "flags",
    "flag_actions",
    "pii_entities",
    "incidents",
    "worker_restarts",
    "tier_decisions",
    "risk_terms",
    "rule_errors",
    "kafka_renewals",
    "reloads",
    "deliveries",
    "delivery_failures",
    "receiver_requests",
    "evaluation_events",
    "label_overflow",
    "telemetry_errors",
    "traces_assembled",
    "trace_parts_missing",
    "spans_late",
    "exchanges_repeated",
    "traces_foreign",
]
GaugeName: TypeAlias = Literal[
    "build_info",
    "start_timestamp_seconds",
    "heartbeat_timestamp_seconds",
    "last_recorded_timestamp_seconds",
    "lag_records",
    "lag_seconds",
    "partition_stuck",
    "kafka_connected",
    "kafka_denied",
    "kafka_topic_id_known",
    "kafka_member",
    "kafka_member_answered_timestamp_seconds",
    "kafka_group_visible",
    "partitions_unread",
    "ledger_writable",
    "queue_traces",
    "pool_workers",
    "pool_workers_ready",
    "pool_batches_in_flight",
    "pool_batch_size_traces",
    "tier_present",
    "effort_ratio",
    "risk_ratio",
    "risk_low_ratio",
    "risk_high_ratio",
    "risk_budget_ratio",
    "service_budget_ratio",
    "drift_statistic_ratio",
    "rules_info",
    "rules_last_reload_successful",
    "rules_last_reload_success_timestamp_seconds",
    "config_last_reload_successful",
    "config_last_reload_success_timestamp_seconds",
    "outbox_pending",
    "outbox_oldest_seconds",
    "ledger_rows",
    "audit_last_verification_successful",
    "audit_verified_timestamp_seconds",
    "audit_verification_duration_seconds",
    "audit_verified_entries",
    "audit_problems",
    "audit_gaps",
    "assembly_waiting_traces",
    "assembly_waiting_bytes",
    "spool_records",
    "spool_bytes",
]
HistogramName: TypeAlias = Literal[
    "detector_duration_seconds", "score_ratio", "end_to_end_latency_seconds", "ledger_transaction_seconds"
]
MetricName: TypeAlias = CounterName | GaugeName | HistogramName


class Kind(StrEnum):
    """Prometheus metric types in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Bound(StrEnum):
    """What keeps the number of a label's values finite."""

    CLOSED = "fixed in code"
    CONFIG = "set by the operator"
    GUARDED = "the first `telemetry.max_label_values`, then `other`"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and what bounds it. `key` names its set in `telemetry.allow` and in `known` of `Metrics`."""

    name: str
    bound: Bound
    values: tuple[str, ...] = ()
    key: str = ""

    @property
    def domain(self) -> str:
        """Key of the label's value set: several labels of one name may have different sets."""
        return self.key or self.name


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its type, unit (empty: none), labels in order, help, and for histograms its bounds.

    `cap` is the number of label sets after which new ones have their guarded labels set to `other`, because
    a product of bounded labels is not small. Caps are for `telemetry.max_series` at its default.
    """

    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()
    cap: int = 200

    def exported(self, name: str) -> str:
        """Name as Prometheus stores it; a histogram's series carry further suffixes."""
        return f"{PREFIX}{name}_total" if self.kind is Kind.COUNTER else f"{PREFIX}{name}"


def _closed(name: str, values: Iterable[str]) -> Label:
    return Label(name, Bound.CLOSED, tuple(values))


ENVIRONMENTS = ("production", "staging", "internal", "sandbox", "unknown")
DIRECTIONS = ("prompt", "context", "tool", "response", "leaked")
CODES = ("200", "400", "401", "404", "405", "413", "415", "429", "500", "503")  # what the receiver answers
EXPORTS = ("exported", "failed", "dropped")
OUTCOMES = ("delivered", "failed", "rejected")
VERDICTS = ("flagged", "clean", "unscored")
SKIPS = ("metrics", "profiles", "tombstone")
OBJECTIVES = ("freshness", "loss", "unscored")
LEDGER_TABLES = ("flags", "feedback", "dead_letters")

_TOPIC = Label("topic", Bound.CONFIG)
_PARTITION = Label("partition", Bound.CONFIG)
_DETECTOR = Label("detector", Bound.CONFIG)
_RULE = Label("rule", Bound.CONFIG)
_DESTINATION = Label("destination", Bound.CONFIG)
_APP = Label("app", Bound.GUARDED)
_MODEL = Label("model", Bound.GUARDED)
_ENVIRONMENT = _closed("environment", ENVIRONMENTS)
_SEVERITY = _closed("severity", Severity)
_RISK = (_DETECTOR, _APP, _ENVIRONMENT)

FAMILIES: dict[MetricName, Family] = {
    # The accounting equation: consumed = recorded + dead-lettered + released, once nothing is in flight.
    "records_consumed": Family(
        Kind.COUNTER, "Records taken from the source, each once per claim of its partition.", (_TOPIC,)
    ),
    "records_recorded": Family(
        Kind.COUNTER, "Records whose traces are all judged and durable in the ledger.", (_TOPIC,)
    ),
    "records_dead_lettered": Family(
        Kind.COUNTER,
        "Records that could not be judged and are durable as dead letters.",
        (_TOPIC, Label("reason", Bound.GUARDED, key="dead_letter_reason")),
    ),
    "records_skipped": Family(
        Kind.COUNTER,
        "Of the recorded, those that held nothing to judge: other signals than traces, and deleted keys.",
        (_TOPIC, _closed("reason", SKIPS)),
    ),
    "records_released": Family(
        Kind.COUNTER,
        "Records given up unrecorded because another daemon owns their partition now and reads them again.",
        (_TOPIC,),
    ),
    "traces_judged": Family(
        Kind.COUNTER, "Traces judged and recorded.", (_APP, _ENVIRONMENT, _MODEL), cap=100
    ),
    "release_traces": Family(
        Kind.COUNTER,
        "Traces judged, by the version of the model and of the prompt that made them.",
        (_APP, _MODEL, Label("release", Bound.GUARDED)),
        cap=45,
    ),
    "verdicts": Family(
        Kind.COUNTER,
        "Traces at a detector: `flagged` by a rule that used it, `clean`, or `unscored`.",
        (*_RISK, _closed("verdict", VERDICTS)),
        cap=45 * len(VERDICTS),
    ),
    "traces_assembled": Family(
        Kind.COUNTER,
        "Traces made of spans, by why they were taken as complete.",
        (_closed("completion", Completion),),
    ),
    "trace_parts_missing": Family(
        Kind.COUNTER,
        "Traces made of spans that were judged without something that was known to exist.",
        (_closed("part", Missing),),
    ),
    "spans_late": Family(Kind.COUNTER, "Spans that came after their trace had been judged."),
    "exchanges_repeated": Family(
        Kind.COUNTER, "Calls of a model that arrived again after they had been judged; they are not again."
    ),
    "traces_foreign": Family(Kind.COUNTER, "Traces of spans without any of a language model."),
    "assembly_waiting_traces": Family(Kind.GAUGE, "Traces of which not all spans have arrived."),
    "assembly_waiting_bytes": Family(
        Kind.GAUGE, "Size of the traces of which not all spans have arrived.", (), "bytes"
    ),
    "assessments": Family(
        Kind.COUNTER,
        "Answers of detectors: one per trace and enabled detector.",
        (_DETECTOR, _closed("status", Status)),
    ),
    "assessments_unscored": Family(
        Kind.COUNTER,
        "Answers without a score, by reason.",
        (_DETECTOR, Label("reason", Bound.GUARDED, key="unscored_reason")),
        cap=100,
    ),
    "detector_duration_seconds": Family(
        Kind.HISTOGRAM,
        "Time a detector took per trace.",
        (_DETECTOR,),
        "seconds",
        (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0),
    ),
    "score_ratio": Family(
        Kind.HISTOGRAM,
        "Risk scores, 0 to 1.",
        (_DETECTOR, _ENVIRONMENT),
        "ratio",
        (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    ),
    "risk_terms": Family(
        Kind.COUNTER,
        "Sums that corrected risk rates and their intervals are computed from; of no meaning when added up.",
        (*_RISK, _closed("term", TERMS)),
        cap=45 * len(TERMS),
    ),
    "risk_ratio": Family(
        Kind.GAUGE,
        "Share of risky traces in the last hour, corrected for what dearer tiers did not look at.",
        _RISK,
        "ratio",
        cap=45,
    ),
    "risk_low_ratio": Family(
        Kind.GAUGE,
        "Lower limit of the 95 % interval of `risk_ratio`.",
        _RISK,
        "ratio",
        cap=45,
    ),
    "risk_high_ratio": Family(
        Kind.GAUGE,
        "Upper limit of the 95 % interval of `risk_ratio`.",
        _RISK,
        "ratio",
        cap=45,
    ),
    "risk_budget_ratio": Family(
        Kind.GAUGE,
        "Share of flagged traces that `budgets.flagged` allows, for the traffic that has been seen.",
        _RISK,
        "ratio",
        cap=45,
    ),
    "service_budget_ratio": Family(
        Kind.GAUGE,
        "Share of bad events that `budgets` allows each objective of the service.",
        (_closed("objective", OBJECTIVES),),
        "ratio",
    ),
    "flags": Family(
        Kind.COUNTER,
        "Flags raised by rules.",
        (_RULE, _SEVERITY, _APP, _ENVIRONMENT, _MODEL),
        cap=200,
    ),
    "flag_actions": Family(
        Kind.COUNTER, "What rules wanted done with flags.", (_closed("action", Action), _SEVERITY)
    ),
    "pii_entities": Family(
        Kind.COUNTER,
        "Personal data and secrets found. `leaked`: in the response, but in neither prompt nor context.",
        (_closed("direction", DIRECTIONS), Label("kind", Bound.GUARDED)),
    ),
    "drift_statistic_ratio": Family(
        Kind.GAUGE,
        "Latest drift score, 0 to 1, of this daemon's share of the traffic.",
        (_APP, _MODEL),
        "ratio",
        cap=100,
    ),
    "end_to_end_latency_seconds": Family(
        Kind.HISTOGRAM,
        "Time from the end of a trace, by its own clock, to its judgement being durable.",
        (),
        "seconds",
        (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
    ),
    "lag_records": Family(
        Kind.GAUGE,
        "Records of a partition not yet delivered, to anybody where nobody reads it.",
        (_TOPIC, _PARTITION),
        "records",
    ),
    "lag_seconds": Family(
        Kind.GAUGE,
        "Age of the last delivered record while records wait behind it, or of their being read by nobody.",
        (_TOPIC, _PARTITION),
        "seconds",
    ),
    "partition_stuck": Family(
        Kind.GAUGE, "1 while a partition is paused until an operator acts.", (_TOPIC, _PARTITION)
    ),
    "kafka_connected": Family(
        Kind.GAUGE, "1 while a broker is connected and answers, 0 while none does; absent without Kafka."
    ),
    "kafka_denied": Family(
        Kind.GAUGE,
        "1 while Kafka denies a right, 0 once it no longer does; `topic` is `*` where it is the group.",
        (Label("topic", Bound.CONFIG), _closed("right", Right)),
    ),
    "kafka_topic_id_known": Family(
        Kind.GAUGE,
        "1 where the topic has an id; 0 where one that is made anew is only told by its length and records.",
        (_TOPIC,),
    ),
    "kafka_member": Family(
        Kind.GAUGE, "1 while this daemon is a live member of its consumer group; absent without Kafka."
    ),
    "kafka_member_answered_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time the group last answered this member; 0 before.", (), "seconds"
    ),
    "kafka_renewals": Family(
        Kind.COUNTER, "Kafka clients built anew because theirs had dropped out of the group."
    ),
    "kafka_group_visible": Family(
        Kind.GAUGE,
        "1 while Kafka says which partitions the group reads, 0 while it refuses; absent without Kafka.",
    ),
    "partitions_unread": Family(
        Kind.GAUGE,
        "Partitions that no member of the group reads; absent while Kafka refuses to say.",
        (_TOPIC,),
    ),
    "ledger_writable": Family(
        Kind.GAUGE, "1 when the last attempt to write the ledger succeeded, 0 while it is tried again."
    ),
    "heartbeat_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the engine loop's last turn.", (), "seconds"
    ),
    "start_timestamp_seconds": Family(Kind.GAUGE, "Unix time this daemon started.", (), "seconds"),
    "last_recorded_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the last recorded batch; 0 before the first.", (), "seconds"
    ),
    "queue_traces": Family(Kind.GAUGE, "Traces waiting in a stage.", (_closed("stage", Stage),), "traces"),
    "pool_workers": Family(Kind.GAUGE, "Detector worker processes configured.", (), "workers"),
    "pool_workers_ready": Family(Kind.GAUGE, "Detector workers that have loaded their models."),
    "pool_batches_in_flight": Family(Kind.GAUGE, "Batches being judged."),
    "pool_batch_size_traces": Family(Kind.GAUGE, "Traces the next batch should hold.", (), "traces"),
    "worker_restarts": Family(
        Kind.COUNTER,
        "Detector workers replaced, by cause.",
        (Label("cause", Bound.GUARDED),),
    ),
    "tier_present": Family(
        Kind.GAUGE,
        "1 where a tier of a detector can run here, 0 where it is missing.",
        (_DETECTOR, Label("tier", Bound.CONFIG), Label("name", Bound.CONFIG)),
    ),
    "tier_decisions": Family(
        Kind.COUNTER,
        "Traces a dearer tier was asked about: `looked` at, `left_out` although unsure, or `spared` as sure.",
        (_DETECTOR, Label("tier", Bound.CONFIG), _closed("decision", DECISIONS)),
    ),
    "effort_ratio": Family(
        Kind.GAUGE,
        "Share of the traces a cheap tier is unsure of that dearer tiers look at; below 1 under overload.",
        (),
        "ratio",
    ),
    "incidents": Family(
        Kind.COUNTER, "Things that happened to the engine.", (_closed("incident", Incident),)
    ),
    "rules_info": Family(Kind.GAUGE, "Version of the rules in force.", (Label("version", Bound.CONFIG),)),
    "reloads": Family(
        Kind.COUNTER,
        "Reloads asked for by a signal or over HTTP, by outcome.",
        (Label("outcome", Bound.CLOSED, ("succeeded", "failed"), "reload_outcome"),),
    ),
    "rules_last_reload_successful": Family(
        Kind.GAUGE, "1 when the last load of the rules succeeded, 0 when the last good set stays in force."
    ),
    "rules_last_reload_success_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the last successful load of the rules.", (), "seconds"
    ),
    "config_last_reload_successful": Family(
        Kind.GAUGE, "1 when the last load of the configuration succeeded, 0 when the last good one stays."
    ),
    "config_last_reload_success_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the last successful load of the configuration.", (), "seconds"
    ),
    "rule_errors": Family(Kind.COUNTER, "Evaluations of a rule that failed.", (_RULE,)),
    "outbox_pending": Family(Kind.GAUGE, "Messages waiting for a destination.", (_DESTINATION,)),
    "outbox_oldest_seconds": Family(
        Kind.GAUGE, "Age of the oldest message waiting for a destination.", (_DESTINATION,), "seconds"
    ),
    "deliveries": Family(
        Kind.COUNTER,
        "Messages offered to a destination, by outcome; `failed` ones are tried again.",
        (_DESTINATION, _closed("outcome", OUTCOMES)),
    ),
    "delivery_failures": Family(
        Kind.COUNTER,
        "Messages that failed or were rejected, by reason.",
        (_DESTINATION, Label("reason", Bound.GUARDED, key="delivery_reason")),
    ),
    "evaluation_events": Family(
        Kind.COUNTER,
        "Evaluation events for the OTLP endpoint; `dropped`: the queue was full, `failed`: not taken.",
        (_closed("outcome", EXPORTS),),
    ),
    "receiver_requests": Family(
        Kind.COUNTER, "Requests the receiver answered, by status; 200: on disk.", (_closed("code", CODES),)
    ),
    "spool_records": Family(Kind.GAUGE, "Bodies received and not judged yet.", (_TOPIC,), "records"),
    "spool_bytes": Family(Kind.GAUGE, "Bytes of the bodies received and not judged yet.", (_TOPIC,), "bytes"),
    "ledger_rows": Family(
        Kind.GAUGE, "Rows that the ledger keeps, by table.", (_closed("table", LEDGER_TABLES),)
    ),
    "audit_last_verification_successful": Family(
        Kind.GAUGE, "1 when the last verification found nothing altered, skipped or judged twice, else 0."
    ),
    "audit_verified_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the last verification of the audit chain, whatever it found.", (), "seconds"
    ),
    "audit_verification_duration_seconds": Family(
        Kind.GAUGE, "Time the last verification of the audit chain took.", (), "seconds"
    ),
    "audit_verified_entries": Family(
        Kind.GAUGE, "Entries of the audit chain at its last verification.", (), "entries"
    ),
    "audit_problems": Family(Kind.GAUGE, "Places where the last verification found the record to be false."),
    "audit_gaps": Family(Kind.GAUGE, "Ranges of offsets that are on record as never judged."),
    "ledger_transaction_seconds": Family(
        Kind.HISTOGRAM,
        "Time of one ledger transaction, commit included.",
        (),
        "seconds",
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    ),
    "label_overflow": Family(
        Kind.COUNTER,
        "Label values replaced by `other`, by the label's set.",
        (Label("label", Bound.CONFIG),),
    ),
    "telemetry_errors": Family(Kind.COUNTER, "Observations lost to a fault of telemetry itself."),
    "build_info": Family(
        Kind.GAUGE,
        "1; the labels identify the build.",
        (Label("version", Bound.CONFIG), Label("python", Bound.CONFIG)),
    ),
}
