"""`riskmon outbox`: what an operator is shown, and what is refused."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monitor.cli import riskmon
from monitor.clock import SystemClock
from monitor.config import load
from monitor.daemon.build import open_ledger
from monitor.ledger import schema as t

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run an `outbox` command on a ledger with a message that waits and one that is set aside."""
    path = tmp_path / "riskmon.yaml"
    path.write_text(json.dumps({"data_dir": str(tmp_path / "data")}))
    ledger, _ = open_ledger(load(path, {}), SystemClock())
    now = SystemClock().now()
    row = {
        "destination": "webhook:ops",
        "body": "{}",
        "attempts": 2,
        "created": now - 90.0,
        "due": now + 30.0,
    }
    with closing(ledger), ledger.begin() as connection:
        connection.execute(t.outbox.insert().values(**row, key="f1", state="waiting", reason="unauthorized"))
        connection.execute(t.outbox.insert().values(**row, key="f2", state="rejected", reason="invalid"))

    def call(*words: str) -> Result:
        return CliRunner().invoke(riskmon, ["outbox", *words, "--config", str(path)])

    return call


def listed(run: Run, *words: str) -> list[dict[str, object]]:
    """`outbox list --json`."""
    return [json.loads(line) for line in run("list", "--json", *words).stdout.splitlines()]


def test_the_list_says_why_and_until_when(run: Run) -> None:
    """Destination, state, attempts, age, last reason and next try, for people and for machines."""
    waiting, aside = listed(run)
    assert (waiting["key"], waiting["state"], waiting["attempts"], waiting["reason"]) == (
        "f1",
        "waiting",
        2,
        "unauthorized",
    )
    assert 90.0 <= float(str(waiting["age_seconds"])) < 1000.0
    assert waiting["due"] is not None
    assert (aside["key"], aside["state"], aside["reason"], aside["due"]) == (
        "f2",
        "set aside",
        "invalid",
        None,
    )
    assert [row["key"] for row in listed(run, "--set-aside")] == ["f2"]
    assert listed(run, "--destination", "nobody") == []
    shown = run("list").stdout
    assert "2 undelivered" in shown
    assert "unauthoriz" in shown


def test_what_is_sent_again_or_dropped_must_be_named(run: Run) -> None:
    """Neither a command without a choice nor one with two does anything; a whole destination needs --yes."""
    before = listed(run)
    ids = [str(row["id"]) for row in before]
    for words in (
        ["retry"],
        ["retry", ids[0], "--all"],
        ["retry", "--all", "--destination", "webhook:ops"],
        ["drop", "--reason", "x"],
        ["drop", ids[0]],
        ["drop", "--destination", "webhook:ops", "--reason", "x"],
    ):
        assert run(*words).exit_code == 2, words
    missing = run("drop", "4711", "--reason", "x")
    assert "no message 4711" in str(missing.exception)
    assert [row["id"] for row in listed(run)] == [row["id"] for row in before]


def test_both_kinds_are_sent_again_and_dropped(run: Run) -> None:
    """`retry --all` makes both due now; `drop --yes` leaves none."""
    assert "2 are due now" in run("retry", "--all").stdout
    assert [(row["state"], row["attempts"]) for row in listed(run)] == [("waiting", 0)] * 2
    assert "2 dropped" in run("drop", "--destination", "webhook:ops", "--yes", "--reason", "gone").stdout
    assert listed(run) == []
