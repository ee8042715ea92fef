# ruff: noqa: INP001 - beside a script, not in a package
"""Dashboards of objectives and of risk, and the list of all five."""

from typing import Final

from operations import PIPELINE, REVIEW
from panels import Board, Panel, Row, age, gauge, quantile, rate, recorded, select, share

_NOBODY: Final = "nothing went wrong"
_NO_BUDGET: Final = "no budget is set"
_YOUNG: Final = "the rules need some minutes of traffic"
_BAD: Final = "job_objective:riskmon_bad_events:ratio_rate"
_BUDGET: Final = "job_objective:riskmon_service_budget:max"
_FLAGGED: Final = "job_detector_app_environment:riskmon_flagged:ratio_rate"
_RISK_BUDGET: Final = "job_detector_app_environment:riskmon_risk_budget:max"
_SCOPE: Final = 'detector=~"$detector", app=~"$app", environment=~"$environment"'
_BY: Final = "detector, app"
_BLIND: Final = "job_app_environment:riskmon_blind:ratio_rate5m"
_OBJECTIVE: Final = "{{objective}} {{detector}}"
_TRAFFIC: Final = "{{detector}} {{app}} {{environment}}"


def _burn(window: str) -> str:
    return f"{recorded(_BAD + window)} / on (job, objective) group_left () {recorded(_BUDGET)}"


OVERVIEW: Final = Board(
    "riskmon-overview",
    "riskmon / Overview and SLO",
    "Is everything judged, in time, and is what is said about it true?",
    (
        Row(
            "At a glance",
            (
                Panel(
                    "Heartbeat age",
                    "Age of the slowest engine loop's last turn.",
                    "s",
                    ((age("heartbeat_timestamp_seconds"), "age"),),
                    "stat",
                    45,
                ),
                Panel(
                    "Lag",
                    "Age of the oldest record that is being read while others wait behind it.",
                    "s",
                    ((gauge("lag_seconds", how="max"), "lag"),),
                    "stat",
                    300,
                ),
                Panel(
                    "Not judged",
                    "Share of detector answers that are time-outs or errors: unknown, not clean.",
                    "percentunit",
                    (
                        (
                            share(rate("assessments", where='status=~"timeout|error"'), rate("assessments")),
                            "failed",
                        ),
                    ),
                    "stat",
                    0.01,
                ),
                Panel(
                    "Blind applications",
                    "Applications with more than half of their traces without text: unknown, not clean.",
                    "short",
                    ((f"count({recorded(_BLIND)} > 0.5) or vector(0)", "blind"),),
                    "stat",
                    0,
                ),
                Panel(
                    "Dead letters",
                    "Records per second that could not be judged and were put aside.",
                    "cps",
                    ((rate("records_dead_lettered"), "dead letters"),),
                    "stat",
                    0,
                ),
                Panel(
                    "Stuck partitions",
                    "Partitions paused until an operator acts.",
                    "short",
                    ((gauge("partition_stuck"), "stuck"),),
                    "stat",
                    0,
                ),
                Panel(
                    "Oldest undelivered",
                    "Age of the oldest message that its destination has not taken.",
                    "s",
                    ((f"{gauge('outbox_oldest_seconds', how='max')} or vector(0)", "age"),),
                    "stat",
                    300,
                ),
                Panel(
                    "Daemons",
                    "Daemons that report a heartbeat.",
                    "short",
                    ((f"count({select('heartbeat_timestamp_seconds')})", "daemons"),),
                    "stat",
                ),
                Panel(
                    "Audit problems",
                    "Places where the last verification found the record to be false.",
                    "short",
                    ((gauge("audit_problems", how="max"), "problems"),),
                    "stat",
                    0,
                ),
                Panel(
                    "Audit verified",
                    "Age of the oldest daemon's last verification of the audit record.",
                    "s",
                    ((age("audit_verified_timestamp_seconds"), "age"),),
                    "stat",
                    10_800,
                ),
                Panel(
                    "Rules not loaded",
                    "Daemons that judge by old rules because new ones do not load.",
                    "short",
                    ((f"count({select('rules_last_reload_successful')} == 0) or vector(0)", "stale"),),
                    "stat",
                    0,
                ),
                Panel(
                    "Tiers missing",
                    "Tiers of detectors that cannot run where the daemons are.",
                    "short",
                    ((f"count({select('tier_present')} == 0) or vector(0)", "missing"),),
                    "stat",
                    0,
                    missing=True,
                ),
                Panel(
                    "Effort",
                    "Share of what cheap tiers are unsure of that higher tiers see; below 1 under overload.",
                    "percentunit",
                    ((gauge("effort_ratio", how="min"), "effort"),),
                    "stat",
                    whole=1,
                ),
            ),
            6,
        ),
        Row(
            "Objectives",
            (
                Panel(
                    "Burn rate, one hour",
                    "How many times faster than allowed the budget of 30 days is spent; 14.4 pages.",
                    "short",
                    ((_burn("1h"), _OBJECTIVE),),
                    empty=_YOUNG,
                ),
                Panel(
                    "Burn rate, three days",
                    "The same over three days: above 1 the objective of 30 days will not be kept.",
                    "short",
                    ((_burn("3d"), _OBJECTIVE),),
                    empty=_YOUNG,
                ),
                Panel(
                    "Flagged, as a share of its budget",
                    "Flagged share of the last hour by what `budgets.flagged` allows; 14.4 pages.",
                    "short",
                    ((f"{recorded(_FLAGGED + '1h')} / {recorded(_RISK_BUDGET)}", _TRAFFIC),),
                    empty=_NO_BUDGET,
                ),
                Panel(
                    "Time to judgement",
                    "From a trace's end by its own clock to its judgement being durable; over 30 s is late.",
                    "s",
                    (
                        (quantile(0.5, "end_to_end_latency_seconds"), "p50"),
                        (quantile(0.95, "end_to_end_latency_seconds"), "p95"),
                        (quantile(0.99, "end_to_end_latency_seconds"), "p99"),
                    ),
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Records",
                    "Consumed = recorded + dead-lettered + released, when nothing is in flight. "
                    "Skipped records held nothing to judge; they are among the recorded.",
                    "cps",
                    (
                        (rate("records_consumed"), "consumed"),
                        (rate("records_recorded"), "recorded"),
                        (rate("records_dead_lettered"), "dead-lettered"),
                        (rate("records_released"), "released"),
                        (rate("records_skipped", "reason"), "skipped: {{reason}}"),
                        (rate("times_replaced"), "times replaced"),
                    ),
                ),
                Panel(
                    "Flags by severity",
                    "Flags raised, by severity.",
                    "cps",
                    ((rate("flags", "severity"), "{{severity}}"),),
                    stacked=True,
                    empty=_NOBODY,
                ),
            ),
        ),
    ),
)

RISK: Final = Board(
    "riskmon-risk",
    "riskmon / Model risk",
    "What the models do that they should not: by detector, application, environment and model.",
    (
        Row(
            "Rates",
            (
                Panel(
                    "Flagged share",
                    "Share of a detector's judged traces that rules flagged, by application.",
                    "percentunit",
                    (
                        (
                            share(
                                rate("verdicts", "detector, app", 'verdict="flagged"'),
                                rate("verdicts", "detector, app", 'verdict=~"flagged|clean"'),
                            ),
                            "{{detector}} {{app}}",
                        ),
                    ),
                ),
                Panel(
                    "Risk rate of the last hour",
                    "Share of risky traces, corrected for those that higher tiers did not see.",
                    "percentunit",
                    ((gauge("risk_ratio", "detector, app", "max"), "{{detector}} {{app}}"),),
                ),
                Panel(
                    "Interval of the risk rate",
                    "Width of the 95 % interval of the risk rate: how much is not known for want of looks.",
                    "percentunit",
                    (
                        (
                            " - ".join(
                                (gauge("risk_high_ratio", _BY, "max"), gauge("risk_low_ratio", _BY, "max"))
                            ),
                            "{{detector}} {{app}}",
                        ),
                    ),
                ),
                Panel(
                    "Flagged share and budget",
                    "Flagged share of the last hour, and what `budgets.flagged` allows in 30 days.",
                    "percentunit",
                    (
                        (
                            f"{recorded(_FLAGGED + '1h', _SCOPE)} and {recorded(_RISK_BUDGET, _SCOPE)}",
                            _TRAFFIC,
                        ),
                        (recorded(_RISK_BUDGET, _SCOPE), f"budget {_TRAFFIC}"),
                    ),
                    empty=_NO_BUDGET,
                ),
            ),
        ),
        Row(
            "Flags",
            (
                Panel(
                    "Flags by rule",
                    "Flags raised, by rule; a point leads to its flags in the review console.",
                    "cps",
                    ((rate("flags", "rule"), "{{rule}}"),),
                    stacked=True,
                    review=True,
                    empty=_NOBODY,
                ),
                Panel(
                    "Flags per trace",
                    "Flags for each judged trace: a rise is a change of risk, not of load.",
                    "percentunit",
                    (
                        (
                            share(rate("flags", "app, model"), rate("traces_judged", "app, model")),
                            "{{app}} {{model}}",
                        ),
                    ),
                    empty=_NOBODY,
                ),
                Panel(
                    "Rules that flag most",
                    "Flags per second by rule, severity and application.",
                    "cps",
                    ((f"topk(12, {rate('flags', 'rule, severity, app')})", "flags per second"),),
                    "table",
                    review=True,
                    empty=_NOBODY,
                ),
                Panel(
                    "Personal data and secrets",
                    "Entities found by kind; `leaked` ones were in the response only.",
                    "cps",
                    ((rate("pii_entities", "direction, kind"), "{{kind}} ({{direction}})"),),
                    empty="no personal data",
                ),
            ),
        ),
        Row(
            "Scores",
            (
                Panel(
                    "High scores",
                    "The score that 95 % of the traces stay below, by detector.",
                    "percentunit",
                    ((quantile(0.95, "score_ratio", "detector"), "{{detector}}"),),
                ),
                Panel(
                    "Scored share",
                    "Share of the traces that a detector scored: the rest it could not or need not judge.",
                    "percentunit",
                    (
                        (
                            share(
                                rate("assessments", "detector", 'status="scored"'),
                                rate("assessments", "detector"),
                            ),
                            "{{detector}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

DRIFT: Final = Board(
    "riskmon-drift",
    "riskmon / Drift and releases",
    "What changed, and when: traffic, model and prompt versions, rules, riskmon itself.",
    (
        Row(
            "Drift",
            (
                Panel(
                    "Drift",
                    "Latest drift score of an application and model, the highest over the daemons.",
                    "percentunit",
                    ((gauge("drift_statistic_ratio", "app, model", "max"), "{{app}} {{model}}"),),
                    empty="the reference of 200 traces is not full",
                ),
                Panel(
                    "High scores by detector",
                    "The score that 95 % of the traces stay below: a step is a change of model or users.",
                    "percentunit",
                    ((quantile(0.95, "score_ratio", "detector"), "{{detector}}"),),
                ),
            ),
        ),
        Row(
            "Releases",
            (
                Panel(
                    "Traffic by release",
                    "Traces by version of model and prompt.",
                    "cps",
                    ((rate("release_traces", "app, model, release"), "{{app}} {{model}} {{release}}"),),
                    stacked=True,
                ),
                Panel(
                    "Traces judged",
                    "Judged and recorded traces by application, environment and model.",
                    "cps",
                    (
                        (
                            rate("traces_judged", "app, environment, model"),
                            "{{app}} {{environment}} {{model}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Flags per trace by model",
                    "Flags for each judged trace: compare before and after a release.",
                    "percentunit",
                    ((share(rate("flags", "model"), rate("traces_judged", "model")), "{{model}}"),),
                    empty=_NOBODY,
                ),
                Panel(
                    "Rules in force",
                    "Daemons by version of the rules: two lines are a roll-out, or a file that differs.",
                    "short",
                    ((gauge("rules_info", "version"), "{{version}}"),),
                ),
            ),
        ),
    ),
)

BOARDS: Final = {"overview": OVERVIEW, "risk": RISK, "drift": DRIFT, "pipeline": PIPELINE, "review": REVIEW}
"""File name to dashboard."""
