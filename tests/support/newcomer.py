"""A newcomer's path, timed: from `git clone` to the demonstration's first alert, installation included.

    python tests/support/newcomer.py [--limit SECONDS] [REPOSITORY]

clones REPOSITORY (a path or URL; by default the one this file is in, as committed), runs README's command
in the clone and prints JSON: seconds for the clone, the installation, from then to the first alert, and
their total. Exits 1 when the total is over the limit (600 s) or no alert came. Wants what a newcomer has:
git, make, Python with venv, and a package index; pip does not use what it has cached on this machine.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from checkout import ROOT

LIMIT_SECONDS = 600.0


def demo_command(readme: str) -> list[str]:
    """Words of README's command for a demonstration that ends by itself and prints JSON."""
    shown = re.findall(r"`(make run ARGS=\"[^`\"]*--json[^`\"]*\")`", readme)
    if not shown:
        raise SystemExit('README shows no `make run ARGS="… --json"`')
    return shlex.split(shown[0])


def report(
    cloned: float, installed: float, ended: float, demo: dict[str, Any], limit: float
) -> dict[str, Any]:
    """Put the figures together.

    Times are seconds since the start: when clone, installation and the whole command had ended. `demo` is
    what the demonstration printed; the alert is placed by its distance from the end of that, taken for the
    end of the process, which comes later: the total is rather too long than too short.
    """
    alert = demo["first_alert_seconds"]
    total = None if alert is None else ended - (demo["seconds"] - alert)
    return {
        "clone_seconds": round(cloned, 1),
        "install_seconds": round(installed - cloned, 1),
        "first_alert_seconds": None if total is None else round(total - installed, 1),
        "total_seconds": None if total is None else round(total, 1),
        "limit_seconds": limit,
        "in_time": total is not None and total <= limit,
        "alerts": demo["alerts"],
        "traces": demo["traces"],
    }


def walk(repository: str, limit: float) -> dict[str, Any]:
    """Clone, install and run, and return the report. Ends the process when a step fails."""
    with tempfile.TemporaryDirectory(prefix="riskmon-newcomer-") as folder:
        clone = Path(folder) / "riskmon"
        began, clock = time.monotonic(), time.time()
        subprocess.run(["git", "clone", "--quiet", repository, str(clone)], check=True)
        cloned = time.monotonic() - began
        command = demo_command((clone / "README.md").read_text(encoding="utf-8"))
        environment = {**os.environ, "PIP_NO_CACHE_DIR": "1"}
        for name in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS"):
            environment.pop(name, None)
        done = subprocess.run(
            command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        ended = time.monotonic() - began
        if done.returncode:
            raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}")
        installed = (clone / ".venv" / "run.stamp").stat().st_mtime - clock
        return report(cloned, installed, ended, json.loads(done.stdout), limit)


def main() -> None:
    """Walk the path and print how long it took."""
    parser = argparse.ArgumentParser(description="Time a newcomer's path from clone to first alert.")
    parser.add_argument("repository", nargs="?", default=str(ROOT))
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds that it may take")
    options = parser.parse_args()
    result = walk(options.repository, options.limit)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.exit(not result["in_time"])


if __name__ == "__main__":
    main()
