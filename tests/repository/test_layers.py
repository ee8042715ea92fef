"""Imports point only downward: the contract is in pyproject.toml; it is kept, and it would notice."""

import re
import shutil
import subprocess
from pathlib import Path

from external import need


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Check the contracts of a checkout."""
    return subprocess.run(
        [need("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_contracts_are_kept() -> None:
    """No module imports one of a layer above it, nor an adapter another adapter; each module has a layer."""
    run = lint(Path.cwd())
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", run.stdout)


def test_a_breach_is_noticed(tmp_path: Path) -> None:
    """An import upward, one between adapters, and a module without a layer break the contract."""
    breaches = {
        "trace.py": "import monitor.config",
        "ledger/outbox.py": "import monitor.telemetry.metrics",
        "fresh.py": "",
    }
    for name, line in breaches.items():
        folder = tmp_path / name.replace("/", "-")
        ignored = shutil.ignore_patterns("__pycache__", "data", "*.npz", "*.safetensors")
        shutil.copytree("monitor", folder / "monitor", ignore=ignored)
        shutil.copy("pyproject.toml", folder)
        with (folder / "monitor" / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
        run = lint(folder)
        assert run.returncode == 1, name
        assert name.rpartition("/")[2].removesuffix(".py") in run.stdout
