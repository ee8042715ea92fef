"""What runs long: `make soak` runs every case, `make soak CASE=million SHARE=0.1` a tenth of one.

Each case prints one line of JSON on stdout: its name, whether it held, seconds, the share, and the figures it
measured. Progress is on stderr. The exit code is 1 when a case did not hold, and the folder of its daemons'
logs and ledger is then kept.
"""

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from checkout import ROOT

Case = Callable[[float, Path], Mapping[str, object]]
"""Takes a share of its full size and an empty folder, returns its figures, raises where it did not hold."""

CASES: Final[Mapping[str, str]] = {
    "million": "soak_million:million",
    "starts": "soak_membership:starts",
    "partitions": "soak_membership:partitions",
    "rebalances": "soak_membership:rebalances",
    "kafka39": "soak_older:older",
    "monitoring": "soak_monitoring:monitoring",
    "histories": "soak_histories:histories",
    "distilled": "soak_distilled:distilled",
    "hostile": "soak_hostile:attacks",
    "siege": "soak_siege:siege",
    "siege_judged": "soak_siege:siege_judged",
    "assembly": "soak_assembly:assembly",
    "ports": "soak_ports:ports",
    "pii": "soak_pii:findings",
    "refusals": "soak_delivery:refusals",
}
"""Name to `module:function`, in the order in which they run."""


def load(name: str) -> Case:
    """Import a case."""
    module, _, function = CASES[name].partition(":")
    case: Case = getattr(importlib.import_module(module), function)
    return case


def tell(text: str) -> None:
    """Say on stderr how far a case is."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def run(name: str, case: Case, share: float) -> dict[str, Any]:
    """Run one case in a folder of its own and return its line."""
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # as `riskmon` does
    folder = Path(tempfile.mkdtemp(prefix=f"riskmon-soak-{name}-"))
    line: dict[str, Any] = {"name": name, "ok": True, "share": share}
    tell(f"{name}: begins, share {share:g}")
    began = time.monotonic()
    try:
        line["figures"] = dict(case(share, folder))
    # One case must not keep the others from being run; a program that is missing is no success either.
    except (Exception, pytest.skip.Exception, pytest.fail.Exception) as failed:  # noqa: BLE001
        line |= {"ok": False, "error": f"{type(failed).__name__}: {failed}"[:4000], "folder": str(folder)}
    else:
        shutil.rmtree(folder)
    line["seconds"] = round(time.monotonic() - began, 1)
    tell(f"{name}: {'held' if line['ok'] else 'DID NOT HOLD'} after {line['seconds']} s")
    return line


def main(words: Sequence[str], find: Callable[[str], Case] = load) -> int:
    """Run the cases named, all without a name; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of {', '.join(CASES)}")
    parser.add_argument("--share", type=float, default=1.0, help="of each case's full size, up to 1")
    chosen = parser.parse_args(words)
    if unknown := [name for name in chosen.cases if name not in CASES and find is load]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if not 0 < chosen.share <= 1:
        parser.error(f"--share {chosen.share:g}: give a number over 0 and up to 1")
    held = True
    for name in chosen.cases or CASES:
        line = run(name, find(name), chosen.share)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        held &= line["ok"]
    return 0 if held else 1


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
