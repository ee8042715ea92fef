"""Metrics of the engine: records and traces on their way, assembly of spans, latency, incidents."""

from typing import Literal, TypeAlias

from monitor.ports import Completion, Incident, Stage
from monitor.telemetry.catalogue.families import (
    APP,
    ENVIRONMENT,
    MODEL,
    TOPIC,
    Bound,
    Family,
    Kind,
    Label,
    closed,
)
from monitor.trace import Missing, Side, Unreadable

Counter: TypeAlias = Literal[
    "records_consumed",
    "records_recorded",
    "records_dead_lettered",
    "records_skipped",
    "records_released",
    "times_replaced",
    "traces_judged",
    "traces_readability",
    "traces_unreadable",
    "traces_blind",
    "traces_failed",
    "release_traces",
    "traces_assembled",
    "trace_parts_missing",
    "spans_late",
    "sources_late",
    "exchanges_repeated",
    "exchanges_revised",
    "exchanges_revised_delay_seconds",
    "traces_foreign",
    "spans_foreign",
    "incidents",
]
Gauge: TypeAlias = Literal[
    "assembly_waiting_traces",
    "assembly_waiting_bytes",
    "queue_traces",
    "heartbeat_timestamp_seconds",
    "start_timestamp_seconds",
    "last_recorded_timestamp_seconds",
    "service_budget_ratio",
]
Histogram: TypeAlias = Literal["end_to_end_latency_seconds"]

READABILITY = ("readable", "blind")
_SKIPS = ("metrics", "profiles", "tombstone")
OBJECTIVES = ("freshness", "loss", "unscored")

FAMILIES: dict[Counter | Gauge | Histogram, Family] = {
    # Once nothing is in flight: consumed = recorded + dead-lettered + released.
    "records_consumed": Family(
        Kind.COUNTER, "Records taken from the source, each once per claim of its partition.", (TOPIC,)
    ),
    "records_recorded": Family(
        Kind.COUNTER, "Records whose traces are all judged and durable in the ledger.", (TOPIC,)
    ),
    "records_dead_lettered": Family(
        Kind.COUNTER,
        "Records that could not be judged and are durable as dead letters.",
        (TOPIC, Label("reason", Bound.GUARDED, key="dead_letter_reason")),
    ),
    "records_skipped": Family(
        Kind.COUNTER,
        "Recorded records that held nothing to judge: signals other than traces, and deleted keys.",
        (TOPIC, closed("reason", _SKIPS)),
    ),
    "records_released": Family(
        Kind.COUNTER,
        "Records handed back unjudged: their partition was revoked, or the daemon stopped first.",
        (TOPIC,),
    ),
    "times_replaced": Family(
        Kind.COUNTER,
        "Traces and spans from before 2015 or from the future, which count from the arrival of their record.",
        (TOPIC,),
    ),
    "traces_judged": Family(Kind.COUNTER, "Traces judged and recorded.", (APP, ENVIRONMENT, MODEL), cap=100),
    # For each application: judged = readable + blind.
    "traces_readability": Family(
        Kind.COUNTER,
        "Traces judged: `readable` ones, and `blind` ones with a text that was there and no detector saw.",
        (APP, ENVIRONMENT, closed("readability", READABILITY)),
        cap=20 * len(READABILITY),
    ),
    "traces_unreadable": Family(
        Kind.COUNTER,
        "Traces judged with a side on which a text was not read; with `truncated` not to its end, with "
        "`left_out` not by this exchange.",
        (closed("reason", Unreadable), closed("side", Side)),
    ),
    "traces_blind": Family(
        Kind.COUNTER,
        "Blind traces by the instrumentation or gateway that sent them; `riskmon doctor` knows remedies.",
        (Label("emitter", Bound.GUARDED),),
        cap=20,
    ),
    "traces_failed": Family(
        Kind.COUNTER,
        "Traces judged of model calls that ended with an error, by its type.",
        (APP, Label("error", Bound.GUARDED)),
        cap=30,
    ),
    "release_traces": Family(
        Kind.COUNTER,
        "Traces judged, by the version of the model and of the prompt that made them.",
        (APP, MODEL, Label("release", Bound.GUARDED)),
        cap=45,
    ),
    "traces_assembled": Family(
        Kind.COUNTER,
        "Traces assembled from spans, by why they were taken as complete.",
        (closed("completion", Completion),),
    ),
    "trace_parts_missing": Family(
        Kind.COUNTER,
        "Parts known to exist that had not arrived when their trace, assembled from spans, was judged.",
        (closed("part", Missing),),
    ),
    "spans_late": Family(Kind.COUNTER, "Spans that came after their trace had been judged."),
    "sources_late": Family(
        Kind.COUNTER, "Late spans of retrievals and tools: answers were judged without what these returned."
    ),
    "exchanges_repeated": Family(
        Kind.COUNTER,
        "Model calls that arrived again after they had been judged, or without text from a second "
        "instrumentation; they are not judged twice.",
    ),
    "exchanges_revised": Family(
        Kind.COUNTER,
        "Model calls judged again because a text of theirs came after they had been judged without it.",
        (APP,),
    ),
    "exchanges_revised_delay_seconds": Family(
        Kind.COUNTER,
        "Time from a judgement to its revision, summed; by `exchanges_revised` it is how late texts come.",
        (),
        "seconds",
    ),
    "traces_foreign": Family(
        Kind.COUNTER,
        "Traces none of whose spans is of a language model. Replaced by `traces_unreadable`; goes in 0.3.",
    ),
    "spans_foreign": Family(
        Kind.COUNTER,
        "Spans that look like a model's call and are in no dialect that is read, by instrumentation.",
        (Label("scope", Bound.GUARDED),),
    ),
    "assembly_waiting_traces": Family(Kind.GAUGE, "Traces that wait for more of their spans."),
    "assembly_waiting_bytes": Family(
        Kind.GAUGE, "Size of the traces that wait for more of their spans.", (), "bytes"
    ),
    "queue_traces": Family(Kind.GAUGE, "Traces waiting in a stage.", (closed("stage", Stage),), "traces"),
    "end_to_end_latency_seconds": Family(
        Kind.HISTOGRAM,
        "Time from the end of a trace, by its own clock, to its judgement being durable.",
        (),
        "seconds",
        (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
    ),
    "incidents": Family(Kind.COUNTER, "Incidents of the engine, by kind.", (closed("incident", Incident),)),
    "heartbeat_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the engine loop's last turn.", (), "seconds"
    ),
    "start_timestamp_seconds": Family(Kind.GAUGE, "Unix time this daemon started.", (), "seconds"),
    "last_recorded_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the last recorded batch; 0 before the first.", (), "seconds"
    ),
    "service_budget_ratio": Family(
        Kind.GAUGE,
        "Share of bad events that `budgets` allows each objective of the service.",
        (closed("objective", OBJECTIVES),),
        "ratio",
    ),
}
