"""The wheel holds everything that riskmon needs when it is installed, and works away from the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT
from external import need_module

from monitor import __version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the installed hatchling without a network."""
    need_module("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", *options, str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is unpacked, which is all that installing it does."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def riskmon(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the unpacked command from another folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RISKMON_")}
    return subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(installed), "RISKMON_DATA_DIR": str(cwd / "data")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Modules, weights, model cards, traffic and the typing marker go along, and the rules as packs.

    Training does not: it needs labelled data that a wheel has not.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {path for path in (ROOT / "monitor").rglob("*") if path.is_file()}
    left_out = ROOT / "monitor" / "training"
    expected = {
        str(path.relative_to(ROOT))
        for path in files
        if "__pycache__" not in path.parts and left_out not in path.parents
    }
    rules = {path.relative_to(ROOT / "rules") for path in (ROOT / "rules").rglob("*") if path.is_file()}
    expected |= {f"monitor/packs/{path}" for path in rules}
    assert {"monitor/py.typed", "monitor/demo/traffic.yaml", "monitor/packs/privacy.yaml"} <= expected
    assert expected <= names
    assert not [name for name in names if name.startswith("monitor/training")]


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    """Besides the package there is only its metadata: no tests, no caches, no local data."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"monitor", f"model_risk_monitor-{__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    """The installed command finds its own rules and weights, not those of a checkout."""
    version = riskmon(installed, tmp_path, "version", "--json")
    assert (version.returncode, set(json.loads(version.stdout))) == (0, {"version"}), version.stderr
    rules = riskmon(installed, tmp_path, "rules", "test")
    assert rules.returncode == 0, rules.stderr
    check = riskmon(installed, tmp_path, "check", "--offline")
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_command_is_an_entry_point(wheel: Path) -> None:
    """Installing the wheel makes `riskmon`."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        text = archive.read(name).decode()
    assert "riskmon = monitor.__main__:main" in text.splitlines()
