"""Names that the configuration mentions are kept apart and kept as they are."""

from pathlib import Path

from monitor.clock import ManualClock
from monitor.config import Config
from monitor.daemon.build import build_metrics
from monitor.daemon.mentions import mentioned
from monitor.rules import RuleBook

RULES = """
groups:
  - name: apps
    match: {{app: {app}, model: "gpt-*", environment: canary}}
    rules:
      - alert: Any
        expr: pii.status == "scored"
        labels: {{severity: warning}}
        annotations: {{summary: "One was judged."}}
"""
AGENT = {"agents": {"Math Tutor": {"approval": ["pay"]}, "desk-*": {}}, "allow": ["search", "find *"]}


def config_with(folder: Path, app: str) -> Config:
    """A configuration that mentions names in every place that may."""
    path = folder / "rules.yaml"
    path.write_text(RULES.format(app=app), encoding="utf-8")
    return Config.model_validate({
        "rules": {"paths": [str(path)]},
        "telemetry": {"allow": {"model": ["m-1"]}, "max_label_values": 2},
        "budgets": {"flagged": [{"detector": "pii", "app": "support-bot", "ratio": 0.01}]},
        "detectors": {"agent": {"options": AGENT}},
    })  # fmt: skip


def test_names_without_wildcards_are_collected(tmp_path: Path) -> None:
    """Budgets, rules, policies and the list of labels mention names; globs mention none."""
    config = config_with(tmp_path, "bank")
    found = mentioned(config, RuleBook(config.rules.paths, ManualClock()).current)
    assert found["app"] == {"bank", "support-bot"}
    assert found["model"] == {"m-1"}
    assert found["environment"] == {"canary"}
    assert found["agent"] == {"Math Tutor"}
    assert {"pay", "search"} <= found["tool"]


def test_junk_that_comes_first_takes_no_place_of_theirs(tmp_path: Path) -> None:
    """However many names came before, a mentioned one has its own series, also one of a reload."""
    config = config_with(tmp_path, "bank")
    rules = RuleBook(config.rules.paths, ManualClock())
    metrics = build_metrics(config, rules, [])
    for number in range(200):
        metrics.inc("traces_judged", app=f"junk-{number}", environment="production", model=f"j{number}")
    metrics.inc("traces_judged", app="support-bot", environment="canary", model="m-1")
    assert metrics.value("traces_judged", app="support-bot", environment="canary", model="m-1") == 1
    config_with(tmp_path, "hotline")
    reload = rules.refresh()
    assert reload is not None
    assert reload.ok
    metrics.inc("traces_judged", app="hotline", environment="production", model="m-1")
    assert metrics.value("traces_judged", app="hotline", environment="production", model="m-1") == 1
