"""Soak case: tests marked `monitoring` with the Prometheus and Alertmanager that the compose file ships."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from checkout import ROOT
from current_monitoring import MODULES, environment


def monitoring(share: float, folder: Path) -> Mapping[str, object]:
    """Run them all, or a share that is spread evenly over them.

    Raises AssertionError with the end of the report when one fails or none passes, CalledProcessError when
    the programs cannot be built.
    """
    pytest = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:randomly", "-m", "monitoring"]
    listed = subprocess.run(
        [*pytest, "--collect-only", "-q", "tests"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    tests = [line for line in listed.stdout.splitlines() if "::" in line]
    chosen = tests[:: max(1, round(1 / share))]
    report = folder / "report.xml"
    done = subprocess.run(
        [*pytest, f"--junitxml={report}", *chosen],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-500:]
    [suite] = ET.parse(report).iter("testsuite")  # noqa: S314 - pytest has just written it
    skipped = int(suite.attrib["skipped"])
    passed = int(suite.attrib["tests"]) - skipped
    assert passed, done.stdout[-3000:]
    versions = {module.service: module.version for module in MODULES}
    return {**versions, "marked": len(tests), "passed": passed, "skipped": skipped}
