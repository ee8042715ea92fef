"""A real daemon without Kafka, of which each trace that is posted to it raises an alert."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checkout import PYTHONPATH, ROOT
from click.testing import CliRunner
from otlp_wire import request, span_of
from patience import PATIENCE, eventually
from processes import fetch_json, fetch_text, free_port

from monitor.cli import riskmon
from monitor.config import DetectorsConfig

_RULES = """
groups:
  - name: e2e
    rules:
      - alert: Everything
        expr: toxicity.score >= 0.0
        labels: {severity: warning}
        annotations: {summary: "The test wants it."}
        actions: [audit, alert]
"""


class Solo:
    """A daemon without Kafka: what is posted to it raises an alert each."""

    def __init__(self, folder: Path, webhooks: dict[str, str], *, log: bool) -> None:
        self.port, self.receiving = free_port(), free_port()
        (folder / "rules.yaml").write_text(_RULES, encoding="utf-8")
        self.config = folder / "riskmon.yaml"
        cheap = {"factory": "cheap_detectors:build", "options": {"name": "toxicity"}}
        self.settings = {
            "instance": "solo",
            "data_dir": str(folder / "data"),
            "kafka": {"topics": []},
            "receiver": {"enabled": True, "port": self.receiving},
            "pool": {"workers": 1},
            "detectors": {
                name: cheap if name == "toxicity" else {"enabled": False}
                for name in DetectorsConfig.model_fields
            },
            "rules": {"paths": [str(folder / "rules.yaml")]},
            "deliver": {
                "feedback_topic": "",
                "log": log,
                "timeout_seconds": 2.0,
                "max_backoff_seconds": 1.0,
                "webhooks": [
                    {"name": name, "url": f"http://{host}/", "allow_private": True}
                    for name, host in webhooks.items()
                ],
            },
            "http": {"port": self.port},
        }
        self.config.write_text(json.dumps(self.settings), encoding="utf-8")  # JSON is YAML
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, stderr: int) -> None:
        """Start it, and wait until it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "run", "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env=os.environ | {"PYTHONPATH": PYTHONPATH},
            cwd=ROOT,
        )
        eventually(self.ready, "a ready daemon")

    def ready(self) -> bool:
        """Whether it judges and delivers."""
        assert self.process is not None
        assert self.process.poll() is None
        try:
            return bool(fetch_json(f"http://127.0.0.1:{self.port}/readyz")["conditions"]["delivery_running"])
        except urllib.error.HTTPError as unready:
            unready.close()
            return False
        except OSError:
            return False

    def post(self, first: int, count: int) -> None:
        """Send traces."""
        for number in range(first, first + count):
            chat = span_of(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": "m",
                    "gen_ai.response.id": f"r{number}",
                },
                traceId=f"{number + 1:032x}",
                spanId=f"{number + 1:016x}",
            )
            headers = {"content-type": "application/json"}
            url = f"http://127.0.0.1:{self.receiving}/v1/traces"
            posted = urllib.request.Request(url, json.dumps(request(chat)).encode(), headers)
            with urllib.request.urlopen(posted, timeout=PATIENCE) as answer:  # noqa: S310 - ours
                assert answer.status == 200

    def outbox(self, *words: str) -> list[dict[str, Any]]:
        """`riskmon outbox list --json`."""
        return [json.loads(line) for line in self.command("outbox", "list", "--json", *words).splitlines()]

    def command(self, *words: str) -> str:
        """Run a command on its ledger."""
        done = CliRunner().invoke(riskmon, [*words, "--config", str(self.config)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def metric(self, name: str) -> list[float]:
        """Values of the series that begin so."""
        exported = fetch_text(f"http://127.0.0.1:{self.port}/metrics").splitlines()
        return [float(line.rpartition(" ")[2]) for line in exported if line.startswith(name)]

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextmanager
def solo(folder: Path, webhooks: dict[str, str], *, log: bool) -> Iterator[Solo]:
    """A daemon that is killed in the end if it still runs."""
    made = Solo(folder, webhooks, log=log)
    try:
        yield made
    finally:
        if made.process is not None:
            made.process.kill()
            made.process.wait()
