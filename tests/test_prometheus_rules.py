"""The Prometheus rules: valid, tested by promtool, and tested in earnest (a changed threshold is noticed)."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from external import exported_series, metrics_in, need

from monitor.rates import Sums, estimate

FOLDER = Path(__file__).resolve().parents[1] / "rules" / "prometheus"
RULES = FOLDER / "riskmon.rules.yml"
TESTS = FOLDER / "riskmon.tests.yml"


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Rules of a kind (`alert` or `record`) by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def run_tests(folder: Path) -> subprocess.CompletedProcess[str]:
    """`promtool test rules` in a folder that holds both files."""
    command = [need("promtool"), "test", "rules", TESTS.name]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)


def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules` has no complaint."""
    command = [need("promtool"), "check", "rules", str(RULES)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_pass_their_own_tests() -> None:
    """`promtool test rules` passes."""
    done = run_tests(FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_metrics_that_exist_are_used() -> None:
    """A rule on a metric nobody exports would be silent for ever; recorded series must be recorded here."""
    known, recorded = exported_series(), set(rules("record"))
    for rule in [*rules("alert").values(), *rules("record").values()]:
        assert metrics_in(rule["expr"]) <= known
        assert set(re.findall(r"\w+:\w+:\w+", rule["expr"])) <= recorded


def test_each_alert_says_what_to_do() -> None:
    """Every alert has a severity, a summary, a description and a section of the runbook."""
    headings = set(re.findall(r"^## (\w+)$", (FOLDER / "RUNBOOK.md").read_text(), re.MULTILINE))
    assert headings == set(rules("alert"))
    for name, alert in rules("alert").items():
        assert re.fullmatch(r"Riskmon[A-Z]\w+", name)
        assert alert["labels"]["severity"] in {"critical", "warning", "info", "none"}
        assert alert["annotations"]["summary"].endswith(".")
        assert alert["annotations"]["description"].endswith(".")
        assert alert["annotations"]["runbook_url"] == f"rules/prometheus/RUNBOOK.md#{name.lower()}"


def test_each_alert_is_tested_firing_and_quiet() -> None:
    """Every alert but the watchdog, which never is quiet, has at least two quiet moments and a firing one."""
    moments: dict[str, list[bool]] = {name: [] for name in rules("alert")}
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for moment in test.get("alert_rule_test", []):
            moments[moment["alertname"]].append(bool(moment["exp_alerts"]))
    for name, fires in moments.items():
        assert any(fires), name
        assert name == "RiskmonWatchdog" or fires.count(False) >= 1, name


def test_the_dead_man_alerts_come_within_ninety_seconds() -> None:
    """Invariant R18: scrape and evaluation interval, threshold and `for` add up to at most 90 s."""
    interval = 15
    stale = rules("alert")["RiskmonHeartbeatStale"]
    threshold = int(re.fullmatch(r"time\(\) - riskmon_heartbeat_timestamp_seconds > (\d+)", stale["expr"])[1])  # type: ignore[index] # a mismatch must fail
    assert "for" not in stale
    assert interval + threshold + interval <= 90
    for name in ("RiskmonDown", "RiskmonAbsent"):
        assert interval + int(rules("alert")[name]["for"].removesuffix("s")) + interval <= 90


def mutants(name: str) -> dict[str, str]:
    """The rule of an alert with its comparison, its threshold or its `for` changed, by what was changed."""
    block = re.search(rf"      - alert: {name}\n.*?(?=\n      - alert|\Z)", RULES.read_text(), re.DOTALL)
    assert block is not None
    changes: list[tuple[str, str]] = []
    for operator, bound in re.findall(r" (>|==) ([\d.]+)$", block[0], re.MULTILINE):
        changes.append((f" {operator} {bound}", f" {'<' if operator == '>' else '!='} {bound}"))
        if operator == ">":
            more = float(bound) * 1.2 if "." in bound else int(bound) * 1.2 + 5
            changes += [(f" > {bound}", f" >= {bound}"), (f" > {bound}", f" > {more:g}")]
    for wait in re.findall(r"        for: (\S+)$", block[0], re.MULTILINE):
        changes += [(f"        for: {wait}", f"        for: {other}") for other in ("0s", "12m")]
    return {new.strip(): block[0].replace(old + "\n", new + "\n") for old, new in changes}


RISKS = {
    "nothing": Sums(traces=480.0, unseen=480.0),
    "certain": Sums(traces=2400.0, unseen=2400.0, unseen_flagged=240.0, certain=240.0),
    "found": Sums(24000.0, 21600.0, 0.0, 0.0, 240.0, 24000.0, 0.0, 0.0, 2.4e6),
    "refuted": Sums(24000.0, 21600.0, 480.0, 720.0, 0.0, 0.0, 240.0, 24000.0, 2.4e6),
    "all": Sums(72000.0, 64800.0, 2400.0, 3600.0, 2400.0, 120000.0, 1200.0, 96000.0, 7.2e6),
}
"""What an hour sums up to, by application."""


def test_recorded_rates_are_those_of_the_estimator(tmp_path: Path) -> None:
    """PromQL over two daemons' counters yields the ratio and the interval of `monitor.rates.estimate`."""
    steps = 240  # of 15 s: one hour
    half = [
        {
            "series": f'riskmon_risk_terms_total{{job="r", instance="{name}", app="{app}", term="{term}"}}',
            "values": f"0+{value / steps / 2!r}x{steps}",
        }
        for app, sums in RISKS.items()
        for term, value in sums._asdict().items()
        for name in "ab"
    ]
    exact = [
        {
            "expr": f'count(abs({series}{{app="{app}", job="r"}} - {expected!r}) < 1e-9)',
            "eval_time": "1h",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for app, sums in RISKS.items()
        for series, expected in zip(
            ("riskmon:risk_ratio:1h", "riskmon:risk_ratio_low:1h", "riskmon:risk_ratio_high:1h"),
            estimate(sums),
            strict=True,
        )
    ]
    (tmp_path / RULES.name).write_text(RULES.read_text())
    (tmp_path / TESTS.name).write_text(
        yaml.safe_dump(
            {
                "rule_files": [RULES.name],
                "evaluation_interval": "15s",
                "group_eval_order": ["riskmon.recording", "riskmon.risk", "riskmon.alerts"],
                "tests": [{"interval": "15s", "input_series": half, "promql_expr_test": exact}],
            }
        )
    )
    done = run_tests(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_changed_rule_fails_its_tests(tmp_path: Path) -> None:
    """Invariant R15: at least 95 % of changed comparisons, thresholds and waits fail a test.

    Each round changes every alert in one way at once; a change is caught if a test of that alert fails.
    """
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    changed = {name: mutants(name) for name in rules("alert")}
    caught, survived = 0, []
    for turn in range(max(map(len, changed.values()))):
        text, tried = RULES.read_text(), {}
        for name, found in changed.items():
            if turn < len(found):
                tried[name] = list(found)[turn]
                start = text.index(f"      - alert: {name}\n")
                end = text.find("\n      - alert", start)
                text = text[:start] + found[tried[name]] + (text[end:] if end >= 0 else "")
        (tmp_path / RULES.name).write_text(text)
        failing = set(re.findall(r"alertname: (\w+), time", run_tests(tmp_path).stderr))
        caught += len(failing & set(tried))
        survived += [(name, what) for name, what in tried.items() if name not in failing]
    assert caught >= 30
    assert len(survived) <= 0.05 * (caught + len(survived)), survived
