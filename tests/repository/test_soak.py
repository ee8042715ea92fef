"""The runner of what runs long."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import soak

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def holds(share: float, folder: Path) -> Mapping[str, object]:
    """A case that holds."""
    (folder / "left").touch()
    return {"records": int(1000 * share)}


def fails(_: float, folder: Path) -> Mapping[str, object]:
    """A case that does not hold."""
    (folder / "left").touch()
    raise AssertionError("3 records lost")


def misses(_: float, __: Path) -> Mapping[str, object]:
    """A case whose program is not installed."""
    pytest.skip("java is not installed")


def test_each_case_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A case that fails, or finds a program missing, fails the run, hinders no other and keeps its folder."""
    cases = {"holds": holds, "fails": fails, "misses": misses}
    assert soak.main(["fails", "misses", "holds", "--share", "0.1"], cases.__getitem__) == 1
    failed, missed, held = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (failed["name"], failed["ok"], failed["error"]) == (
        "fails",
        False,
        "AssertionError: 3 records lost",
    )
    assert (missed["ok"], missed["error"]) == (False, "Skipped: java is not installed")
    assert held.pop("seconds") < 60
    assert held == {"name": "holds", "ok": True, "share": 0.1, "figures": {"records": 100}}
    assert (Path(failed["folder"]) / "left").exists()
    for line in (failed, missed):
        shutil.rmtree(line["folder"])
    assert soak.main(["holds"], cases.__getitem__) == 0


@pytest.mark.parametrize("words", [["nonsense"], ["--share", "0"], ["--share", "1.5"]])
def test_what_cannot_be_run_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown case or an impossible share is named before anything runs."""
    with pytest.raises(SystemExit):
        soak.main(words)
    assert words[-1] in capsys.readouterr().err


def test_every_case_is_there() -> None:
    """What the table names can be imported."""
    for name in soak.CASES:
        assert callable(soak.load(name))


@pytest.mark.slow
def test_a_hundredth_of_the_million_holds(tmp_path: Path) -> None:
    """Ten thousand records amid one fault of each kind, a topic made anew among them: nothing is lost."""
    figures = soak.load("million")(0.01, tmp_path)
    assert (figures["records"], figures["lost"], figures["group_lag"]) == (10_000, 0, 0)
