# ruff: noqa: INP001 - beside a script, not in a package
"""Real data for dashboards: `riskmon demo`, and a Prometheus that scrapes it with the shipped rules."""

import json
import re
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
RATE_INTERVAL: Final = "20s"
_VARIABLE: Final = re.compile(r"\$(job|instance|environment|app|model|detector)\b")


class Prometheus:
    """The HTTP API of a Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. Raises OSError while it does not listen."""
        query = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(query, timeout=10) as answer:  # noqa: S310 - our own URL, http
            return json.load(answer)["data"]

    def result(self, expr: str) -> list[dict[str, Any]]:
        """Series of a panel's query now."""
        found: list[dict[str, Any]] = self.ask("query", query=plain(expr))["result"]
        return found


def plain(expr: str) -> str:
    """A panel's query with all of its variables set to everything."""
    return _VARIABLE.sub(".+", expr).replace("$__rate_interval", RATE_INTERVAL)


@contextmanager
def demo(folder: Path, prometheus: str, seconds: int) -> Iterator[Prometheus]:
    """Run both for the block; `folder` takes their files, `prometheus` is the program."""
    daemon_at, prometheus_at = _free_port(), _free_port()
    config = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / "rules" / "prometheus" / "*.rules.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{daemon_at}"]
    del config["alerting"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    commands = (
        [sys.executable, "-m", "monitor", "demo", f"--seconds={seconds}", f"--port={daemon_at}", "--json"],
        [
            prometheus, f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{prometheus_at}", "--enable-feature=exemplar-storage",
        ],
    )  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("wb") as log:
        try:
            running += [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
            yield Prometheus(f"http://127.0.0.1:{prometheus_at}")
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
