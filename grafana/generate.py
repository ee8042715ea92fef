# ruff: noqa: INP001 - a script, not a package
"""Writes `grafana/dashboards/*.json` and `monitor/telemetry/METRICS.md`: `python grafana/generate.py`.

With `--check` it only compares. A test holds the files equal to this output, and the dashboards to the rules
of https://github.com/grafana/dashboard-linter.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from boards import BOARDS
from panels import render

from monitor.telemetry.reference import reference

ROOT: Final = Path(__file__).parents[1]


def files() -> dict[Path, str]:
    """Every generated file with its content."""
    generated = {
        ROOT / "grafana" / "dashboards" / f"{name}.json": json.dumps(render(board), indent=2) + "\n"
        for name, board in BOARDS.items()
    }
    return generated | {ROOT / "monitor" / "telemetry" / "METRICS.md": reference()}


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with `--check` return 1 when one differs."""
    stale = False
    for path, content in files().items():
        if "--check" not in arguments:
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            sys.stderr.write(f"{path.name} is stale: run python grafana/generate.py\n")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
