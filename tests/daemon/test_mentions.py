"""Names that the configuration mentions are kept apart and kept as they are."""

import json
from pathlib import Path

from engines import assess

from monitor.clock import ManualClock
from monitor.config import Config
from monitor.daemon.build import build_engine, build_metrics
from monitor.daemon.mentions import mentioned
from monitor.engine.fair_queue import QUANTUM
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault
from monitor.rules import RuleBook
from monitor.testing import MemoryLog, MemorySource, RecordingObserver, ScriptedDetectors

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
    metrics = build_metrics(config, rules, [], ManualClock())
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


def test_an_application_that_a_rule_names_queues_apart(tmp_path: Path) -> None:
    """A hundred applications that nobody named sent before it, and it waits for one turn of each."""
    clock = ManualClock()
    config = config_with(tmp_path, "bank")
    apps = [f"junk-{number}" for number in range(100) for _ in range(20)]
    sent = [{"id": f"{number}", "app": app, "response": "r"} for number, app in enumerate([*apps, "bank"])]
    log = MemoryLog({("traces", 0): [json.dumps(trace).encode() for trace in sent]})
    observer, vault = RecordingObserver(), Vault(bytes(32))
    detectors = ScriptedDetectors(assess, batch_size=10, capacity=1)
    engine = build_engine(
        config,
        clock=clock,
        source=MemorySource(log, clock, finite=False),
        pool=detectors,
        rules=RuleBook(config.rules.paths, clock),
        ledger=Ledger.open("sqlite://", vault, clock, "d0"),
        vault=vault,
        observer=observer,
    )
    while len(observer.judgements) < len(sent):
        engine.turn()
        detectors.finish_all()
        clock.advance(0.01)
    place = [each.trace.app for each in observer.judgements].index("bank")
    assert place < 80 * QUANTUM / 2**10  # 65 queues, and what was judged before it was read
