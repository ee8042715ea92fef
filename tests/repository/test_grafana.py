"""The dashboards: generated, lint-clean, and made of metrics that exist."""

import importlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from checkout import ROOT
from external import exported_series, metrics_in, need
from patience import eventually

from monitor.strict_yaml import load_yaml

DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
UNITS = {"short", "percentunit", "s", "cps", "ops", "bytes", "none", "dateTimeFromNow"}


sys.path.insert(0, str(ROOT / "grafana"))  # scripts, not a package


def script(name: str) -> ModuleType:
    """A module of the generator."""
    return importlib.import_module(name)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Every panel that shows something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def boards() -> list[dict[str, Any]]:
    """All committed dashboards."""
    return [json.loads(path.read_text()) for path in DASHBOARDS]


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each committed dashboard."""
    loaded: dict[str, Any] = json.loads(request.param.read_text())
    return loaded


def test_the_committed_dashboards_are_what_the_generator_writes() -> None:
    """Nobody edited the JSON by hand, and none is missing or left over."""
    files = script("generate").files()
    assert {path for path in files if path.suffix == ".json"} == set(DASHBOARDS)
    assert files == {path: path.read_text() for path in files}
    command = [sys.executable, str(ROOT / "grafana" / "generate.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0


def test_only_metrics_of_the_catalogue_are_used(board: dict[str, Any]) -> None:
    """A renamed metric cannot leave an empty panel behind."""
    used = {
        name for panel in panels(board) for target in panel["targets"] for name in metrics_in(target["expr"])
    }
    used |= {name for variable in board["templating"]["list"] for name in metrics_in(str(variable["query"]))}
    assert used
    assert used <= exported_series()


def test_variables_are_a_datasource_a_job_an_instance_and_what_is_used(board: dict[str, Any]) -> None:
    """dashboard-linter: template-datasource, -job, -instance and -on-time-change rules; none is idle."""
    source, *others = board["templating"]["list"]
    assert (source["type"], source["name"], source["label"]) == ("datasource", "datasource", "Data source")
    assert [(v["name"], v["label"]) for v in others[:2]] == [("job", "Job"), ("instance", "Instance")]
    queried = [variable for variable in others if variable["type"] == "query"]
    for variable in queried:
        assert variable["refresh"] == 2
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
        assert variable["datasource"]["uid"] == "${datasource}"
    assert {v["name"] for v in queried} >= set(re.findall(r'=~\\"\$(\w+)\\"', json.dumps(board)))
    for variable in others:
        assert f"${variable['name']}" in json.dumps(board) or f"${{{variable['name']}}}" in json.dumps(board)


def test_alerts_and_new_versions_are_annotated(board: dict[str, Any]) -> None:
    """Every dashboard shows when alerts fired, and when a release, rules or riskmon itself changed."""
    annotations = {one["name"]: one for one in board["annotations"]["list"]}
    assert set(annotations) == {"Alerts", "Releases", "Rules", "riskmon"}
    for one in annotations.values():
        assert metrics_in(one["expr"]) <= exported_series()
        assert one["datasource"]["uid"] == "${datasource}"


def test_flags_lead_to_the_review_console_and_latencies_to_traces() -> None:
    """Series of flags carry a link with their labels and times; histograms and flags show exemplars."""
    shown = [panel for path in DASHBOARDS for panel in panels(json.loads(path.read_text()))]
    linked = [panel for panel in shown if "links" in panel["fieldConfig"]["defaults"]]
    assert {"Flags by rule", "Rules that flag most"} <= {panel["title"] for panel in linked}
    for panel in linked:
        [link] = panel["fieldConfig"]["defaults"]["links"]
        of = "__data.fields" if panel["type"] == "table" else "__field.labels"
        assert link["url"].startswith(f"${{console}}/review?app=${{{of}.app}}&rule=${{{of}.rule}}&from=")
    latency = next(panel for panel in shown if panel["title"] == "Time to judgement")
    assert all(target["exemplar"] for target in latency["targets"])


def test_every_panel_says_what_it_shows_from_the_chosen_source(board: dict[str, Any]) -> None:
    """dashboard-linter: panel-title-description, -units, -no-targets, -datasource and uneditable rules."""
    assert board["editable"] is False
    assert 39 <= board["schemaVersion"] <= 41
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        for used in (panel, *panel["targets"]):
            assert used["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_selector_obeys_job_and_instance_and_counters_are_rated(board: dict[str, Any]) -> None:
    """dashboard-linter: target-job, -instance, -counter-agg and -rate-interval rules.

    Series that rules record have no instance any more; they obey the job.
    """
    for panel in panels(board):
        for target in panel["targets"]:
            expr = target["expr"]
            for name, matchers in re.findall(r"(?<![\w:])((?:riskmon|process)_\w+)(\{[^}]*\})?", expr):
                assert 'job=~"$job"' in matchers, (panel["title"], name)
                assert 'instance=~"$instance"' in matchers, (panel["title"], name)
            for _, matchers in re.findall(r"(\w+:\w+:\w+)(\{[^}]*\})?", expr):
                assert 'job=~"$job"' in matchers, panel["title"]
            counters = len(re.findall(r"(?:riskmon|process)_\w+(?:_total|_bucket)\b", expr))
            rated = len(re.findall(r"rate\(\w+(?:_total|_bucket)\{[^}]*\}\[\$__rate_interval\]\)", expr))
            assert counters == rated, panel["title"]
            assert len(re.findall(r"\[", expr)) == rated, panel["title"]


def test_panels_neither_overlap_nor_leave_the_grid(board: dict[str, Any]) -> None:
    """Grafana's grid is 24 wide; each cell belongs to at most one panel, each id to one."""
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_provisioning_points_at_what_compose_mounts() -> None:
    """Dashboards are mounted where the provider looks, and the data source is a service of compose."""
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    mounts = dict(
        volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"] if "../" in volume
    )
    provisioning = ROOT / "grafana" / "provisioning"
    provider = load_yaml((provisioning / "dashboards" / "riskmon.yaml").read_text(), "dashboards")
    source = load_yaml((provisioning / "datasources" / "prometheus.yaml").read_text(), "datasources")
    assert mounts["../grafana/dashboards"] == provider["providers"][0]["options"]["path"]
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    [prometheus] = source["datasources"]
    assert prometheus["url"] == "http://prometheus:9090"
    assert prometheus["jsonData"]["exemplarTraceIdDestinations"][0]["name"] == "trace_id"
    assert "prometheus" in compose["services"]


def unanswered(prometheus: Any) -> dict[str, str]:
    """Queries that return nothing, of panels that are not said to be empty at times: title to query."""
    boards = script("boards").BOARDS
    asked = [panel for board in boards.values() for row in board.rows for panel in row.panels]
    return {
        panel.title: expr
        for panel in asked
        for expr, _ in panel.queries
        if not panel.empty and not prometheus.result(expr)
    }


@pytest.mark.monitoring
@pytest.mark.alone
def test_every_panel_has_data_in_the_demo_and_the_endpoint_is_clean(tmp_path: Path) -> None:
    """A real Prometheus that scrapes the real daemon under the demo's traffic answers every panel's query.

    The demo flags, has budgets and verifies, so most of the panels that may be empty elsewhere answer too;
    `promtool check metrics` has no complaint of the live endpoint.
    """
    prometheus, promtool = need("prometheus"), need("promtool")
    live = script("live")
    with live.demo(tmp_path, prometheus, 600) as api:
        empty: object = None
        for _ in range(240):
            try:
                empty = unanswered(api)
            except OSError as error:
                empty = error
            if not empty:
                break
            time.sleep(0.5)
        assert not empty
        maybe = [
            p
            for board in script("boards").BOARDS.values()
            for row in board.rows
            for p in row.panels
            if p.empty
        ]

        def half() -> bool:
            try:
                answered = [panel for panel in maybe if all(api.result(expr) for expr, _ in panel.queries)]
            except OSError:
                return False
            return len(answered) >= len(maybe) / 2

        eventually(half, "data in half of the panels that may be empty")
        [target] = api.ask("targets")["activeTargets"]
        with urllib.request.urlopen(target["scrapeUrl"], timeout=10) as answer:  # noqa: S310 - our own, http
            scraped = answer.read()
    checked = subprocess.run([promtool, "check", "metrics"], input=scraped, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_colours_mean_the_same_everywhere() -> None:
    """Series of severities have a severity's colour, and a stat without bounds has none: green means well."""
    seen = set()
    for board in boards():
        for panel in panels(board):
            if any(target["legendFormat"] == "{{severity}}" for target in panel.get("targets", ())):
                seen.add(board["title"])
                colours = {
                    override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
                    for override in panel["fieldConfig"]["overrides"]
                }
                assert colours == {"critical": "red", "warning": "orange", "info": "blue"}
            if panel["type"] == "stat":
                bounded = "thresholds" in panel["fieldConfig"]["defaults"]
                assert (panel["options"]["colorMode"] == "background") is bounded
    assert len(seen) == 2


def test_a_missing_tier_is_not_green() -> None:
    """One missing tier, or higher tiers that see less than they should, make their tile amber."""
    tiles = {panel["title"]: panel for board in boards() for panel in panels(board)}
    steps = tiles["Tiers missing"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["color"] for step in steps if step["value"] is None or step["value"] <= 1] == [
        "green",
        "orange",
    ]
    steps = tiles["Effort"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["color"] for step in steps if step["value"] is None or step["value"] <= 0.99] == ["orange"]
