"""A real Prometheus with the shipped rules, watching one daemon."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from compose import prometheus_config
from external import need
from patience import eventually
from processes import fetch_json, free_port, running

RULES: Final = Path("rules/prometheus/riskmon.rules.yml")
SECONDS: Final = 60.0  # until an alert; what waits longest is the time-out of a silent broker
CALM_SECONDS: Final = (
    90.0  # until all is quiet again; last come the escalation rate and workers that back off
)
SETTLED: Final = 2.0  # seconds in which nothing else may fire at the end: four scrapes and evaluations


def hasty_rules() -> str:
    """The shipped rules without their patience: nothing waits, and a heartbeat is stale after 5 s."""
    text = re.sub(r"for: \w+", "for: 0s", RULES.read_text(encoding="utf-8"))
    return text.replace("riskmon_heartbeat_timestamp_seconds > 45", "riskmon_heartbeat_timestamp_seconds > 5")


class Alerts:
    """What fires in a Prometheus that watches one daemon."""

    def __init__(self, api: str) -> None:
        self._api = api

    def firing(self, *severities: str) -> set[str] | None:
        """Names, of these severities if any, the watchdog's aside; None when Prometheus does not answer."""
        try:
            alerts: list[Any] = fetch_json(f"{self._api}/alerts")["data"]["alerts"]
        except OSError:
            return None
        fires = {
            alert["labels"]["alertname"]
            for alert in alerts
            if alert["state"] == "firing" and (not severities or alert["labels"]["severity"] in severities)
        }
        return fires - {"RiskmonWatchdog"}

    def scraped(self) -> bool:
        """Whether the daemon has been asked for the first time."""
        return self.firing() is not None and bool(fetch_json(f"{self._api}/query?query=up")["data"]["result"])

    def only(self, *names: str) -> None:
        """Wait until exactly these fire and it stays so; says how long it took.

        One scrape that a busy machine was too slow for makes another alert for a moment: it begins anew then.
        """
        began = since = time.monotonic()

        def settled() -> bool:
            nonlocal since
            if self.firing() != set(names):
                since = time.monotonic()
            return time.monotonic() - since >= SETTLED

        try:
            eventually(settled, f"exactly {names}", SECONDS if names else CALM_SECONDS)
        except AssertionError as late:
            raise AssertionError(f"{late}, but {self.firing()}") from None
        print(f"{' '.join(names) or 'quiet'} after {since - began:.1f} s")  # noqa: T201 - with pytest -s


@contextmanager
def watched(folder: Path, port: int, *, hasty: bool = True) -> Iterator[Alerts]:
    """A Prometheus that scrapes the daemon at a port of this machine, `hasty` or as it is shipped.

    A hasty one scrapes twice a second, and its rules do not wait.
    """
    config = prometheus_config() | {"rule_files": ["watched.rules.yml"]}
    if hasty:
        intervals = {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"}
        config["global"] = intervals
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    config.pop("alerting")
    (folder / "watched.rules.yml").write_text(hasty_rules() if hasty else RULES.read_text(encoding="utf-8"))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    listen = free_port()
    options = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{listen}",
    ]
    with running(folder / "prometheus.log", need("prometheus"), *options):
        alerts = Alerts(f"http://127.0.0.1:{listen}/api/v1")
        eventually(alerts.scraped, "a scrape")
        if hasty:
            alerts.only()
        yield alerts
