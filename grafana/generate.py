# ruff: noqa: INP001 - a script, not a package
"""Writes `grafana/dashboards/*.json`: `python grafana/generate.py`, or `--check` to compare only.

Dashboards are generated so that metric names come from the catalogue (mypy rejects a misspelt one), every
query obeys the job and instance variables, and counters always stand inside a rate. Format: Grafana's classic
dashboard JSON, schema version 39, which Grafana 10 to 13 load. A test holds the files equal to this output
and checks the rules of https://github.com/grafana/dashboard-linter.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from monitor.telemetry.catalogue import FAMILIES, CounterName, GaugeName, HistogramName

FOLDER: Final = Path(__file__).parent / "dashboards"
_WIDTH: Final = 24
_MATCH: Final = 'job=~"$job", instance=~"$instance"'
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

Unit = Literal["short", "percentunit", "s", "reqps", "cps", "ops", "none", "dateTimeFromNow"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries are (PromQL, legend). `good` bounds a stat's green range from above."""

    title: str
    description: str
    unit: Unit
    queries: tuple[tuple[str, str], ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 12
    good: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels."""

    title: str
    panels: tuple[Panel, ...]


def _selector(name: CounterName | GaugeName | HistogramName, suffix: str = "", where: str = "") -> str:
    matchers = f"{_MATCH}, {where}" if where else _MATCH
    return f"{FAMILIES[name].exported(name)}{suffix}{{{matchers}}}"


def rate(name: CounterName, by: str = "", where: str = "") -> str:
    """Per-second rate of a counter, summed by labels."""
    return f"{_sum(by)} (rate({_selector(name, where=where)}[$__rate_interval]))"


def gauge(name: GaugeName, by: str = "", how: Literal["sum", "max", "min"] = "sum") -> str:
    """A gauge, aggregated by labels."""
    return f"{how}{_by(by)} ({_selector(name)})"


def quantile(share: float, name: HistogramName, by: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    buckets = _selector(name, "_bucket")
    return f"histogram_quantile({share}, sum by ({labels}) (rate({buckets}[$__rate_interval])))"


def _sum(by: str) -> str:
    return f"sum{_by(by)}"


def _by(by: str) -> str:
    return f" by ({by})" if by else ""


_FAILED: Final = 'status=~"timeout|error"'

_LEFT_OUT: Final = (
    f"""{rate("tier_decisions", "detector, tier", 'decision="left_out"')}"""
    f""" / {rate("tier_decisions", "detector, tier")}"""
)
_FLAGS_PER_TRACE: Final = f"{rate('flags', 'app, model')} / {rate('traces_judged', 'app, model')}"

OVERVIEW: Final = (
    Row(
        "At a glance",
        (
            Panel(
                "Heartbeat age",
                "Age of the slowest engine loop's last turn.",
                "s",
                ((f"time() - {gauge('heartbeat_timestamp_seconds', how='min')}", "age"),),
                "stat",
                4,
                45,
            ),
            Panel(
                "Lag",
                "Age of the oldest record that is being read while others wait behind it.",
                "s",
                ((gauge("lag_seconds", how="max"), "lag"),),
                "stat",
                4,
                300,
            ),
            Panel(
                "Not judged",
                "Share of detector answers that are time-outs or errors: unknown, not clean.",
                "percentunit",
                ((f"{rate('assessments', where=_FAILED)} / {rate('assessments')}", "failed"),),
                "stat",
                4,
                0.01,
            ),
            Panel(
                "Dead letters",
                "Records per second that could not be judged and were put aside.",
                "cps",
                ((rate("records_dead_lettered"), "dead letters"),),
                "stat",
                4,
                0,
            ),
            Panel(
                "Stuck partitions",
                "Partitions paused until an operator acts.",
                "short",
                ((gauge("partition_stuck"), "stuck"),),
                "stat",
                4,
                0,
            ),
            Panel(
                "Oldest undelivered",
                "Age of the oldest message that its destination has not taken.",
                "s",
                ((gauge("outbox_oldest_seconds", how="max"), "age"),),
                "stat",
                4,
                300,
            ),
        ),
    ),
    Row(
        "Traffic",
        (
            Panel(
                "Records",
                "Consumed = recorded + dead-lettered + released, when nothing is in flight.",
                "cps",
                (
                    (rate("records_consumed"), "consumed"),
                    (rate("records_recorded"), "recorded"),
                    (rate("records_dead_lettered"), "dead-lettered"),
                    (rate("records_released"), "released"),
                ),
            ),
            Panel(
                "Traces judged",
                "Judged and recorded traces by application and model.",
                "cps",
                ((rate("traces_judged", "app, model"), "{{app}} {{model}}"),),
            ),
            Panel(
                "Lag by partition",
                "Records of a partition that were not yet delivered.",
                "short",
                ((gauge("lag_records", "topic, partition"), "{{topic}}/{{partition}}"),),
            ),
            Panel(
                "Time to judgement",
                "From a trace's own timestamp to its judgement being durable.",
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
        "Risk",
        (
            Panel(
                "Flags by rule",
                "Flags raised, by rule and severity.",
                "cps",
                ((rate("flags", "rule, severity"), "{{rule}} ({{severity}})"),),
            ),
            Panel(
                "Flags per trace",
                "Flags for each judged trace: a rise is a change of risk, not of load.",
                "percentunit",
                ((_FLAGS_PER_TRACE, "{{app}} {{model}}"),),
            ),
            Panel(
                "Personal data and secrets",
                "Entities found by kind; `leaked` ones were in the response only.",
                "cps",
                ((rate("pii_entities", "direction, kind"), "{{kind}} ({{direction}})"),),
            ),
            Panel(
                "Drift",
                "Latest drift score of an application and model, the highest over the daemons.",
                "percentunit",
                ((gauge("drift_statistic_ratio", "app, model", "max"), "{{app}} {{model}}"),),
            ),
            Panel(
                "Risk rate with 95 % interval",
                "Share of risky traces in the last hour, corrected for those dearer tiers did not look at.",
                "percentunit",
                (
                    (gauge("risk_ratio", "detector, app", "max"), "{{detector}} {{app}}"),
                    (gauge("risk_low_ratio", "detector, app", "max"), "{{detector}} {{app}} low"),
                    (gauge("risk_high_ratio", "detector, app", "max"), "{{detector}} {{app}} high"),
                ),
                width=24,
            ),
            Panel(
                "High scores",
                "The score that 95 % of the traces stay below, by detector.",
                "percentunit",
                ((quantile(0.95, "score_ratio", "detector"), "{{detector}}"),),
            ),
        ),
    ),
    Row(
        "Detectors",
        (
            Panel(
                "Answers by status",
                "One answer per trace and detector; time-outs and errors are not judged.",
                "cps",
                ((rate("assessments", "detector, status"), "{{detector}} {{status}}"),),
            ),
            Panel(
                "Unscored by reason",
                "Why answers have no score.",
                "cps",
                ((rate("assessments_unscored", "detector, reason"), "{{detector}} {{reason}}"),),
            ),
            Panel(
                "Time per trace",
                "The time that 95 % of the traces stay below, by detector.",
                "s",
                ((quantile(0.95, "detector_duration_seconds", "detector"), "{{detector}}"),),
            ),
            Panel(
                "Effort",
                "Share of the traces cheap tiers are unsure of that dearer ones see: below 1 under overload.",
                "percentunit",
                ((gauge("effort_ratio", "instance", "min"), "{{instance}}"),),
            ),
            Panel(
                "Left out by dearer tiers",
                "Share of the traces that a dearer tier should have seen and did not, for want of time.",
                "percentunit",
                ((_LEFT_OUT, "{{detector}} tier {{tier}}"),),
            ),
            Panel(
                "Workers",
                "Detector processes configured, and those that have loaded their models.",
                "short",
                ((gauge("pool_workers"), "configured"), (gauge("pool_workers_ready"), "ready")),
            ),
            Panel(
                "Workers replaced",
                "Detector processes that had to be replaced, by cause.",
                "cps",
                ((rate("worker_restarts", "cause"), "{{cause}}"),),
            ),
        ),
    ),
    Row(
        "Ledger and delivery",
        (
            Panel(
                "Ledger transaction",
                "Time of one transaction, commit included.",
                "s",
                (
                    (quantile(0.5, "ledger_transaction_seconds"), "p50"),
                    (quantile(0.99, "ledger_transaction_seconds"), "p99"),
                ),
            ),
            Panel(
                "Queues",
                "Traces waiting in a stage.",
                "short",
                ((gauge("queue_traces", "stage"), "{{stage}}"),),
            ),
            Panel(
                "Deliveries",
                "Messages offered to a destination, by outcome; failed ones are tried again.",
                "cps",
                ((rate("deliveries", "destination, outcome"), "{{destination}} {{outcome}}"),),
            ),
            Panel(
                "Outbox",
                "Messages waiting for a destination.",
                "short",
                ((gauge("outbox_pending", "destination"), "{{destination}}"),),
            ),
            Panel(
                "Incidents",
                "What the engine had to cope with.",
                "cps",
                ((rate("incidents", "incident"), "{{incident}}"),),
            ),
            Panel(
                "Rules",
                "1 while the last load of the rules succeeded.",
                "short",
                ((gauge("rules_last_reload_successful", "instance", "min"), "{{instance}}"),),
            ),
        ),
    ),
)


def dashboard(uid: str, title: str, rows: Sequence[Row]) -> dict[str, Any]:
    """One dashboard as Grafana's classic JSON."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["riskmon"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "annotations": {"list": [_firing()]},
        "templating": {"list": [_datasource(), _variable("job", ""), _variable("instance", 'job=~"$job"')]},
        "panels": list(_layout(rows)),
    }


def _layout(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    identity, y = 1, 0
    for row in rows:
        at = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        yield {
            "id": identity,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": at,
            "panels": [],
        }
        identity, y, x = identity + 1, y + 1, 0
        for index, panel in enumerate(row.panels):
            height = 4 if panel.kind == "stat" else 8
            width = (
                _WIDTH
                if x == 0 and panel.width * 2 == _WIDTH and index == len(row.panels) - 1
                else panel.width
            )
            yield _panel(panel, identity, {"h": height, "w": width, "x": x, "y": y})
            identity, x = identity + 1, x + width
            if x >= _WIDTH or index == len(row.panels) - 1:
                x, y = 0, y + height


def _panel(panel: Panel, identity: int, at: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.good is not None:
        steps: list[dict[str, object]] = [
            {"color": "green", "value": None},
            {"color": "red", "value": panel.good},
        ]
        if panel.good == 0:
            steps[1]["value"] = 1e-9  # Grafana colours from a value on: nothing is good, anything is not
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    options: dict[str, Any]
    if panel.kind == "stat":
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "colorMode": "background",
            "graphMode": "area",
        }
    else:
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "exemplar": "histogram_quantile" in expr,
            }
            for index, (expr, legend) in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(name: str, where: str) -> dict[str, Any]:
    heartbeat = FAMILIES["heartbeat_timestamp_seconds"].exported("heartbeat_timestamp_seconds")
    query = f"label_values({heartbeat}{f'{{{where}}}' if where else ''}, {name})"
    return {
        "name": name,
        "label": name.title(),
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "sort": 1,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _firing() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": _DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", alertname=~"Riskmon.+", alertname!="RiskmonWatchdog"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}}",
    }


def files() -> dict[str, str]:
    """File name to content of every dashboard."""
    boards = {"overview.json": dashboard("riskmon-overview", "riskmon / Overview", OVERVIEW)}
    return {name: json.dumps(board, indent=2) + "\n" for name, board in boards.items()}


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with `--check` return 1 when one differs."""
    stale = False
    for name, content in files().items():
        path = FOLDER / name
        if "--check" not in arguments:
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            sys.stderr.write(f"{path.name} is stale: run python grafana/generate.py\n")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
