"""Metrics of detectors: assessments, risk rates, the worker pool and its tiers."""

from typing import Literal, TypeAlias

from monitor.findings import Status
from monitor.ports import DECISIONS
from monitor.telemetry.catalogue.families import (
    APP,
    DETECTOR,
    ENVIRONMENT,
    MODEL,
    Bound,
    Family,
    Kind,
    Label,
    closed,
)
from monitor.telemetry.rates import TERMS

Counter: TypeAlias = Literal[
    "assessments",
    "assessments_unscored",
    "verdicts",
    "risk_terms",
    "pii_entities",
    "worker_restarts",
    "redactions_failed",
    "tier_decisions",
]
Gauge: TypeAlias = Literal[
    "risk_ratio",
    "risk_low_ratio",
    "risk_high_ratio",
    "risk_budget_ratio",
    "drift_statistic_ratio",
    "pool_workers",
    "pool_workers_ready",
    "pool_batches_in_flight",
    "pool_batch_size_traces",
    "tier_present",
    "effort_ratio",
]
Histogram: TypeAlias = Literal[
    "detector_duration_seconds",
    "score_ratio",
]

_DIRECTIONS = ("prompt", "context", "tool", "response", "leaked")
VERDICTS = ("flagged", "clean", "unscored")
_RISK = (DETECTOR, APP, ENVIRONMENT)

FAMILIES: dict[Counter | Gauge | Histogram, Family] = {
    "assessments": Family(
        Kind.COUNTER,
        "Answers of detectors: one per trace and enabled detector.",
        (DETECTOR, closed("status", Status)),
    ),
    "assessments_unscored": Family(
        Kind.COUNTER,
        "Answers without a score, by reason.",
        (DETECTOR, Label("reason", Bound.GUARDED, key="unscored_reason")),
        cap=36,
    ),
    "verdicts": Family(
        Kind.COUNTER,
        "Traces at a detector: `flagged` by a rule that used it, `clean`, or `unscored`.",
        (*_RISK, closed("verdict", VERDICTS)),
        cap=45 * len(VERDICTS),
    ),
    "detector_duration_seconds": Family(
        Kind.HISTOGRAM,
        "Time a detector took per trace.",
        (DETECTOR,),
        "seconds",
        (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0),
    ),
    "score_ratio": Family(
        Kind.HISTOGRAM,
        "Risk scores, 0 to 1.",
        (DETECTOR, ENVIRONMENT),
        "ratio",
        (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    ),
    "risk_terms": Family(
        Kind.COUNTER,
        "Sums behind the corrected risk rates and their intervals; do not sum across the `term` label.",
        (*_RISK, closed("term", TERMS)),
        cap=45 * len(TERMS),
    ),
    "risk_ratio": Family(
        Kind.GAUGE,
        "Share of risky traces in the last hour, corrected for those no higher tier looked at.",
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
        "Share of flagged traces that `budgets.flagged` allows, for each kind of traffic seen.",
        _RISK,
        "ratio",
        cap=45,
    ),
    "pii_entities": Family(
        Kind.COUNTER,
        "Personal data and secrets found. `leaked`: in the response, but in neither prompt nor context.",
        (closed("direction", _DIRECTIONS), Label("kind", Bound.GUARDED)),
    ),
    "drift_statistic_ratio": Family(
        Kind.GAUGE,
        "Latest drift score, 0 to 1, of this daemon's share of the traffic.",
        (APP, MODEL),
        "ratio",
        cap=100,
    ),
    "pool_workers": Family(Kind.GAUGE, "Detector worker processes configured.", (), "workers"),
    "pool_workers_ready": Family(Kind.GAUGE, "Detector workers that have loaded their models."),
    "pool_batches_in_flight": Family(Kind.GAUGE, "Batches being judged."),
    "pool_batch_size_traces": Family(Kind.GAUGE, "Traces the next batch should hold.", (), "traces"),
    "worker_restarts": Family(
        Kind.COUNTER,
        "Detector workers replaced, by cause.",
        (Label("cause", Bound.GUARDED),),
    ),
    "redactions_failed": Family(
        Kind.COUNTER,
        "Flagged traces whose texts a worker could not redact, by reason; none of their text is kept.",
        (Label("reason", Bound.GUARDED, key="unscored_reason"),),
    ),
    "tier_present": Family(
        Kind.GAUGE,
        "1 where a tier of a detector can run here, 0 where it is missing.",
        (DETECTOR, Label("tier", Bound.CONFIG), Label("name", Bound.CONFIG)),
    ),
    "tier_decisions": Family(
        Kind.COUNTER,
        "Traces offered to a higher tier: escalated (`looked`), suppressed by load shedding (`left_out`), "
        "passed as sure (`spared`).",
        (DETECTOR, Label("tier", Bound.CONFIG), closed("decision", DECISIONS)),
    ),
    "effort_ratio": Family(
        Kind.GAUGE,
        "Share of the traces a lower tier is unsure of that higher tiers look at; below 1 under overload.",
        (),
        "ratio",
    ),
}
