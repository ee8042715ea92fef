# ruff: noqa: INP001 - beside a script, not in a package
"""What dashboards are made of: queries by the catalogue's names, panels, rows, boards; and their JSON.

mypy rejects a misspelt metric, every query obeys the variables that its metric has labels for, and counters
always stand inside a rate. Format: Grafana's classic dashboard JSON, schema version 39, which Grafana 10 to
13 load.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from monitor.telemetry.catalogue import FAMILIES, CounterName, GaugeName, HistogramName, MetricName

WIDTH: Final = 24
Unit = Literal["short", "percentunit", "s", "cps", "ops", "bytes", "none", "dateTimeFromNow"]
Kind = Literal["timeseries", "stat", "table"]
_MATCH: Final = 'job=~"$job", instance=~"$instance"'
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHTS: Final[dict[Kind, int]] = {"stat": 4, "timeseries": 8, "table": 8}
SEVERITY_COLORS: Final = {"critical": "red", "warning": "orange", "info": "blue"}
_VARIABLES: Final[dict[str, tuple[MetricName, str]]] = {
    "job": ("heartbeat_timestamp_seconds", ""),
    "instance": ("heartbeat_timestamp_seconds", 'job=~"$job"'),
    "environment": ("traces_judged", _MATCH),
    "app": ("traces_judged", _MATCH),
    "model": ("traces_judged", _MATCH),
    "detector": ("assessments", _MATCH),
}
"""Variable to the metric and the matchers that its values are taken from."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries are (PromQL, legend).

    `good` bounds a stat's green range from above: what lies beyond is red, or amber where it counts what is
    `missing`. `whole` bounds it from below: less is amber. A stat with neither has no colour.
    `at_least` is the lower end of the axis, None to let Grafana choose. `review` links series to the review
    console by their labels. `empty` says why there may be no data; without it traffic must bring some.
    """

    title: str
    description: str
    unit: Unit
    queries: tuple[tuple[str, str], ...]
    kind: Kind = "timeseries"
    good: float | None = None
    whole: float | None = None
    missing: bool = False
    stacked: bool = False
    review: bool = False
    at_least: float | None = 0
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A titled row of panels, so many beside each other."""

    title: str
    panels: tuple[Panel, ...]
    columns: int = 2


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]


def select(name: CounterName | GaugeName | HistogramName, suffix: str = "", where: str = "") -> str:
    """A selector that obeys every variable the metric has a label for."""
    family = FAMILIES[name]
    scoped = [
        f'{label.name}=~"${label.name}"'
        for label in family.labels
        if label.name in _VARIABLES and f"{label.name}=" not in where
    ]
    return f"{family.exported(name)}{suffix}{{{', '.join(filter(None, (_MATCH, *scoped, where)))}}}"


def rate(name: CounterName, by: str = "", where: str = "") -> str:
    """Per-second rate of a counter, summed by labels."""
    return f"sum{_by(by)} (rate({select(name, where=where)}[$__rate_interval]))"


def share(part: str, whole: str) -> str:
    """One rate as a share of another; nothing where there is no traffic."""
    return f"{part} / ({whole} > 0)"


def gauge(name: GaugeName, by: str = "", how: Literal["sum", "max", "min"] = "sum", where: str = "") -> str:
    """A gauge, aggregated by labels."""
    return f"{how}{_by(by)} ({select(name, where=where)})"


def age(name: GaugeName) -> str:
    """Seconds since the oldest of a timestamp."""
    return f"time() - {gauge(name, how='min')}"


def quantile(part: float, name: HistogramName, by: str = "") -> str:
    """A quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({part}, sum by ({labels}) (rate({select(name, '_bucket')}[$__rate_interval])))"
    )


def recorded(series: str, where: str = "") -> str:
    """A series of `rules/prometheus`, which has no instance any more."""
    matchers = ", ".join(filter(None, ('job=~"$job"', where)))
    return f"{series}{{{matchers}}}"


def process(metric: str) -> str:
    """A metric of the Prometheus client about the daemon's process."""
    selector = f"{metric}{{{_MATCH}}}"
    return f"rate({selector}[$__rate_interval])" if metric.endswith("_total") else selector


def render(board: Board) -> dict[str, Any]:
    """One dashboard as Grafana's classic JSON."""
    panels = [*_layout(board.rows)]
    used = set(re.findall(r'=~"\$(\w+)"', str(panels)))
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["riskmon"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "title": "riskmon",
                "tags": ["riskmon"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": [*_annotations()]},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                *(_variable(name) for name in _VARIABLES if name in used | {"job", "instance"}),
                *([_console()] if "${console}" in str(panels) else []),
            ]
        },
        "panels": panels,
    }


def _by(by: str) -> str:
    return f" by ({by})" if by else ""


def _layout(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    identity, y = 1, 0
    for row in rows:
        at = {"h": 1, "w": WIDTH, "x": 0, "y": y}
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
            last = index == len(row.panels) - 1
            height, width = _HEIGHTS[panel.kind], WIDTH // row.columns
            if last and panel.kind != "stat":
                width = WIDTH - x
            yield _panel(panel, identity, {"h": height, "w": width, "x": x, "y": y})
            identity, x = identity + 1, x + width
            if last or x + width > WIDTH:
                x, y = 0, y + height


def _panel(panel: Panel, identity: int, at: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.at_least is not None:
        defaults["min"] = panel.at_least
    steps = _steps(panel)
    if steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        defaults["custom"] = {"fillOpacity": 30 if panel.stacked else 8, "stacking": stacking}
    if panel.review:
        # A series carries its labels; in a table they are columns.
        defaults["links"] = [_review("__data.fields" if panel.kind == "table" else "__field.labels")]
    rendered = {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": defaults, "overrides": _overrides(panel)},
        "options": _options(panel, coloured=bool(steps)),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "exemplar": "histogram_quantile" in expr or "riskmon_flags_total" in expr,
                **({"instant": True, "format": "table"} if panel.kind == "table" else {}),
            }
            for index, (expr, legend) in enumerate(panel.queries)
        ],
    }
    if panel.kind == "table":
        # The value column comes last, under the legend's name; Grafana's own time column says nothing here.
        hidden = {"excludeByName": {"Time": True}, "renameByName": {"Value": panel.queries[0][1]}}
        rendered["transformations"] = [{"id": "organize", "options": hidden}]
    return rendered


def _steps(panel: Panel) -> list[dict[str, Any]]:
    """Return the colours of a stat, each from a value on: where 0 is good, anything is not."""
    if panel.good is not None:
        beyond = "orange" if panel.missing else "red"
        return [{"color": "green", "value": None}, {"color": beyond, "value": panel.good or 1e-9}]
    if panel.whole is not None:
        return [{"color": "orange", "value": None}, {"color": "green", "value": panel.whole}]
    return []


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    """Return the colours of series that are severities: they mean the same on every panel."""
    if not any(legend == "{{severity}}" for _, legend in panel.queries):
        return []
    return [
        {
            "matcher": {"id": "byName", "options": severity},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for severity, color in SEVERITY_COLORS.items()
    ]


def _options(panel: Panel, *, coloured: bool) -> dict[str, Any]:
    match panel.kind:
        case "stat":
            reduced = {"calcs": ["lastNotNull"]}
            mode = "background" if coloured else "none"
            return {"reduceOptions": reduced, "colorMode": mode, "graphMode": "area"}
        case "table":
            return {"showHeader": True, "footer": {"show": False}}
        case "timeseries":
            # Where two labels make a series there are many: a table at the side can be read and scrolled.
            many = any(legend.count("{{") > 1 for _, legend in panel.queries)
            mode, place = ("table", "right") if many else ("list", "bottom")
            legend = {"displayMode": mode, "placement": place}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _review(of: str) -> dict[str, Any]:
    labels = "&".join(f"{name}=${{{of}.{name}}}" for name in ("app", "rule"))
    return {
        "title": "Review these flags",
        "url": f"${{console}}/review?{labels}&from=${{__from}}&to=${{__to}}",
        "targetBlank": True,
    }


def _console() -> dict[str, Any]:
    return {
        "name": "console",
        "label": "Review console",
        "type": "textbox",
        "query": "http://127.0.0.1:9469",
        "current": {"text": "http://127.0.0.1:9469", "value": "http://127.0.0.1:9469"},
    }


def _variable(name: str) -> dict[str, Any]:
    metric, where = _VARIABLES[name]
    query = f"label_values({FAMILIES[metric].exported(metric)}{f'{{{where}}}' if where else ''}, {name})"
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


def _annotations() -> Iterator[dict[str, Any]]:
    alerts = 'ALERTS{alertstate="firing", alertname=~"Riskmon.+", alertname!="RiskmonWatchdog"}'
    yield _annotation("Alerts", "red", alerts, "{{alertname}}", "{{instance}} {{app}} {{detector}}")
    releases = FAMILIES["release_traces"].exported("release_traces")
    by = "app, model, release"
    yield _annotation(
        "Releases", "blue", _new(releases, by), "{{model}} {{release}}", "first seen in {{app}}"
    )
    rules = FAMILIES["rules_info"].exported("rules_info")
    yield _annotation("Rules", "purple", _new(rules, "version"), "rules {{version}}", "new rules in force")
    build = FAMILIES["build_info"].exported("build_info")
    yield _annotation("riskmon", "green", _new(build, "version"), "riskmon {{version}}", "new version")


def _new(series: str, by: str) -> str:
    """What is there now and was not ten minutes ago, in any daemon; nothing before there was anything."""
    now = f"count by ({by}) ({series}{{{_MATCH}}})"
    before = f"({series}{{{_MATCH}}} offset 10m)"
    return f"{now} unless count by ({by}) {before} and on () count {before}"


def _annotation(name: str, color: str, expr: str, title: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": _DATASOURCE,
        "enable": True,
        "iconColor": color,
        "expr": expr,
        "titleFormat": title,
        "textFormat": text,
    }
