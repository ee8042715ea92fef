"""The dashboards: generated, lint-clean, and made of metrics that exist."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from external import exported_series, metrics_in

from monitor.config import load_yaml

ROOT = Path(__file__).resolve().parents[1]
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
UNITS = {"short", "percentunit", "s", "reqps", "cps", "ops", "none", "dateTimeFromNow"}


def generator() -> ModuleType:
    """The generator script as a module."""
    spec = importlib.util.spec_from_file_location("grafana_generate", ROOT / "grafana" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["grafana_generate"] = module
    spec.loader.exec_module(module)
    return module


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Every panel that shows something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each committed dashboard."""
    loaded: dict[str, Any] = json.loads(request.param.read_text())
    return loaded


def test_the_committed_dashboards_are_what_the_generator_writes() -> None:
    """Nobody edited the JSON by hand, and none is missing or left over."""
    assert generator().files() == {path.name: path.read_text() for path in DASHBOARDS}
    script = [sys.executable, str(ROOT / "grafana" / "generate.py"), "--check"]
    done = subprocess.run(script, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0


def test_only_metrics_of_the_catalogue_are_used(board: dict[str, Any]) -> None:
    """A renamed metric cannot leave an empty panel behind."""
    used = {
        name for panel in panels(board) for target in panel["targets"] for name in metrics_in(target["expr"])
    }
    used |= {name for variable in board["templating"]["list"] for name in metrics_in(str(variable["query"]))}
    assert used
    assert used <= exported_series()


def test_variables_are_a_datasource_a_job_and_an_instance(board: dict[str, Any]) -> None:
    """dashboard-linter: template-datasource, -job, -instance and -on-time-change rules."""
    source, *others = board["templating"]["list"]
    assert (source["type"], source["name"], source["label"]) == ("datasource", "datasource", "Data source")
    assert [(v["name"], v["label"]) for v in others] == [("job", "Job"), ("instance", "Instance")]
    for variable in others:
        assert (variable["type"], variable["refresh"]) == ("query", 2)
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
        assert variable["datasource"]["uid"] == "${datasource}"


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
    """dashboard-linter: target-job, -instance, -counter-agg and -rate-interval rules."""
    for panel in panels(board):
        for target in panel["targets"]:
            expr = target["expr"]
            for name, matchers in re.findall(r"(riskmon_\w+)(\{[^}]*\})?", expr):
                assert 'job=~"$job"' in matchers, (panel["title"], name)
                assert 'instance=~"$instance"' in matchers, (panel["title"], name)
            counters = len(re.findall(r"riskmon_\w+(?:_total|_bucket)\b", expr))
            rated = len(
                re.findall(r"rate\(riskmon_\w+(?:_total|_bucket)\{[^}]*\}\[\$__rate_interval\]\)", expr)
            )
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
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
