"""What times a newcomer's path reads README's command and the demonstration's sums rightly."""

from pathlib import Path

import newcomer
import pytest


def test_the_command_is_the_readmes() -> None:
    """The command is taken from README, runs the demonstration for a while and asks for JSON."""
    make, run, arguments = newcomer.demo_command(Path("README.md").read_text(encoding="utf-8"))
    assert (make, run) == ("make", "run")
    assert arguments.startswith("ARGS=")
    assert {"--seconds", "--json"} <= set(arguments.removeprefix("ARGS=").split())
    with pytest.raises(SystemExit, match="README shows no"):
        newcomer.demo_command("`make run` and `make test`")


def test_the_alert_is_placed_by_its_distance_from_the_end() -> None:
    """Clone, installation and what followed it until the first alert add up to the total, which is judged."""
    demo = {"first_alert_seconds": 8.0, "seconds": 70.0, "alerts": 3, "traces": 90}
    found = newcomer.report(cloned=2.0, installed=92.0, ended=170.0, demo=demo, limit=108.0)
    assert found["clone_seconds"] == 2.0
    assert found["install_seconds"] == 90.0
    assert found["first_alert_seconds"] == 16.0
    assert found["total_seconds"] == 108.0
    assert found["in_time"]
    assert not newcomer.report(2.0, 92.0, 170.1, demo, 108.0)["in_time"]


def test_without_an_alert_there_is_no_total() -> None:
    """A demonstration that alerted of nothing is not in time, however short it was."""
    demo = {"first_alert_seconds": None, "seconds": 5.0, "alerts": 0, "traces": 9}
    found = newcomer.report(1.0, 2.0, 10.0, demo, 600.0)
    assert (found["total_seconds"], found["first_alert_seconds"], found["in_time"]) == (None, None, False)
