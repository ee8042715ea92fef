"""Metrics of rules and of reloads."""

from typing import Literal, TypeAlias

from monitor.findings import Action
from monitor.telemetry.catalogue.families import (
    APP,
    ENVIRONMENT,
    MODEL,
    RULE,
    SEVERITY,
    Bound,
    Family,
    Kind,
    Label,
    closed,
)

Counter: TypeAlias = Literal[
    "flags",
    "flag_actions",
    "rule_errors",
    "reloads",
]
Gauge: TypeAlias = Literal[
    "rules_info",
    "rules_last_reload_successful",
    "rules_last_reload_success_timestamp_seconds",
    "config_last_reload_successful",
    "config_last_reload_success_timestamp_seconds",
]

FAMILIES: dict[Counter | Gauge, Family] = {
    "flags": Family(
        Kind.COUNTER,
        "Flags raised by rules.",
        (RULE, SEVERITY, APP, ENVIRONMENT, MODEL),
        cap=200,
    ),
    "flag_actions": Family(
        Kind.COUNTER, "Actions that rules requested for flags.", (closed("action", Action), SEVERITY)
    ),
    "rule_errors": Family(Kind.COUNTER, "Evaluations of a rule that failed.", (RULE,)),
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
}
