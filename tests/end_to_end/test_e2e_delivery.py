"""Alerts of a real daemon reach whoever refuses them for a while, and no reader of its log can stop it."""

import fcntl
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE, eventually, unhindered
from processes import fetch_text
from receivers import Receiver, receiver
from solo_daemon import solo

ALERTS = 14
REFUSING = {301: "redirected", 302: "redirected", 401: "unauthorized", 403: "unauthorized", 404: "not_found",
            405: "refused", 410: "not_found"}  # fmt: skip
MALFORMED = {400: "invalid", 413: "too_large", 422: "invalid"}


def waits(rows: list[dict[str, Any]], state: str) -> dict[str, set[str]]:
    """Reasons of the rows in a state, by destination."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["state"] == state:
            found.setdefault(row["destination"], set()).add(row["reason"])
    return found


def arrived(hook: type[Receiver], count: int) -> Callable[[], bool]:
    """Whether so many different alerts have arrived."""
    return lambda: len(set(hook.taken)) == count


@pytest.mark.slow
def test_alerts_wait_for_whoever_refuses_them_and_arrive_under_their_keys(tmp_path: Path) -> None:
    """Seven refusals cost no alert; what three receivers call malformed is sent again when told to."""
    with ExitStack() as stack:
        got: dict[int, type[Receiver]] = {}
        hosts: dict[str, str] = {}
        for status in (*REFUSING, *MALFORMED):
            location = {"location": "http://127.0.0.1:9/"}
            hosts[f"s{status}"], got[status] = stack.enter_context(receiver(status=status, reply=location))
        daemon = stack.enter_context(solo(tmp_path, hosts, log=False))
        log = stack.enter_context((tmp_path / "log").open("wb"))
        daemon.start(log.fileno())
        daemon.post(0, ALERTS)
        rows: list[dict[str, Any]] = []

        def tried() -> bool:
            rows[:] = daemon.outbox()
            return len(rows) == ALERTS * len(got) and all(row["reason"] for row in rows)

        eventually(tried, "a try of each")
        assert waits(rows, "waiting") == {f"webhook:s{status}": {why} for status, why in REFUSING.items()}
        assert waits(rows, "set aside") == {f"webhook:s{status}": {why} for status, why in MALFORMED.items()}
        keys = {row["key"] for row in rows}
        assert len(keys) == ALERTS
        assert daemon.ready()
        eventually(
            lambda: sum(daemon.metric("riskmon_outbox_failing")) == ALERTS * len(REFUSING), "the gauge"
        )
        assert sum(daemon.metric("riskmon_outbox_set_aside")) == ALERTS * len(MALFORMED)

        for each in got.values():
            each.status = 200
        for status in REFUSING:
            eventually(arrived(got[status], ALERTS), f"alerts after {status}")
            assert set(got[status].taken) == keys
        assert not any(got[status].taken for status in MALFORMED)

        unwanted = daemon.outbox("--destination", "webhook:s422")[:2]
        dropped = [str(row["id"]) for row in unwanted]
        assert "2 dropped" in daemon.command("outbox", "drop", *dropped, "--reason", "twice in the chat")
        named = [str(row["id"]) for row in daemon.outbox("--destination", "webhook:s413", "--set-aside")]
        assert "14 are due" in daemon.command("outbox", "retry", *named)
        assert "14 are due" in daemon.command("outbox", "retry", "--destination", "webhook:s400")
        for status in (400, 413):
            eventually(arrived(got[status], ALERTS), f"alerts after {status}")
            assert set(got[status].taken) == keys
        daemon.command("outbox", "retry", "--all")
        left = keys - {row["key"] for row in unwanted}
        eventually(lambda: set(got[422].taken) == left, "alerts after 422")
        eventually(lambda: daemon.outbox() == [], "an empty outbox")
        assert {status: len(each.taken) for status, each in got.items()} == dict.fromkeys(got, ALERTS) | {
            422: 12
        }
        assert daemon.stop() == 0
        assert json.loads(daemon.command("audit", "verify", "--json"))["ok"]


@pytest.mark.slow
@pytest.mark.parametrize("gone", [True, False])
def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path, *, gone: bool) -> None:
    """Its reader gone, or standing still: all is judged, others get their alerts, those for the log wait."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    got = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 65536):
            got.extend(chunk)

    with receiver() as (host, hook), solo(tmp_path, {"ops": host}, log=True) as daemon:
        daemon.start(writing)
        os.close(writing)
        if gone:
            os.close(reading)
        assert daemon.process is not None
        for turn in range(3):
            daemon.process.send_signal(signal.SIGHUP)
            daemon.post(turn * ALERTS, ALERTS)
            eventually(arrived(hook, (turn + 1) * ALERTS), "the other destination")
        with unhindered():
            assert daemon.ready()
        reason = "stream" if gone else "timeout"
        eventually(lambda: reason in waits(daemon.outbox(), "waiting").get("log", ()), "alerts that wait")
        assert fetch_text(f"http://127.0.0.1:{daemon.port}/livez")
        if gone:
            assert len(daemon.outbox("--destination", "log")) == 3 * ALERTS
            eventually(lambda: sum(daemon.metric("riskmon_log_lines_dropped_total")) >= 3, "lost lines")
            assert daemon.stop() == 0
        else:
            reader = threading.Thread(target=read)
            reader.start()
            eventually(lambda: daemon.outbox() == [], "an empty outbox")
            assert daemon.stop() == 0
            reader.join(PATIENCE)
            os.close(reading)
            found = [json.loads(line) for line in got.splitlines()]
            told = {line["flag_id"] for line in found if line["event"] == "alert"}
            assert told == set(hook.taken)
            assert found[-1]["event"] == "stopped"


@pytest.mark.slow
def test_a_daemon_ends_in_time_though_nobody_reads_its_log(tmp_path: Path) -> None:
    """SIGTERM while the reader stands still: exit 0; the alerts for the log are in the ledger."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with receiver() as (host, hook), solo(tmp_path, {"ops": host}, log=True) as daemon:
        daemon.start(writing)
        os.close(writing)
        daemon.post(0, 2 * ALERTS)
        eventually(arrived(hook, 2 * ALERTS), "the other destination")
        with unhindered():
            assert daemon.stop() == 0
        os.close(reading)
        assert {row["destination"] for row in daemon.outbox()} == {"log"}
