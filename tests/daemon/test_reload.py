"""Reloads: asked for by a signal or over HTTP, done by the loop, and said to have worked or not."""

import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from patience import PATIENCE, eventually
from structlog.testing import capture_logs

from monitor.clock import ManualClock, SystemClock
from monitor.config import Config, load
from monitor.console.http import HttpServer
from monitor.daemon.daemon import Daemon
from monitor.daemon.reload import Reloader, changed
from monitor.daemon.systemd import notify
from monitor.daemon.waiting import MORE_TIME
from monitor.errors import ConfigError
from monitor.rules import RuleBook
from monitor.telemetry.logging import configure
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver
from monitor.testing import MemoryLog, MemorySource

RULES = (
    "groups: [{name: g, rules: [{alert: Some, expr: 'pii.score > 0.5', "
    "labels: {severity: info}, annotations: {summary: s}}]}]\n"
)


class Rig:
    """What a reload works on: a configuration file, a rule file, and metrics."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "riskmon.yaml"
        self.rules = folder / "rules.yaml"
        self.file.write_text(f"rules: {{paths: [{self.rules}]}}\ntelemetry: {{log_level: warning}}\n")
        self.rules.write_text(RULES)
        self.config = load(self.file, {})
        self.book = RuleBook(self.config.rules.paths, ManualClock())
        self.metrics = Metrics()
        observer = TelemetryObserver(self.metrics, ManualClock(), structlog.get_logger())
        self.reload = Reloader(self.config, lambda: load(self.file, {}), self.book, observer)

    def count(self, outcome: str) -> float | None:
        """How many reloads ended so."""
        return self.metrics.registry.get_sample_value("riskmon_reloads_total", {"outcome": outcome})


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A fresh one."""
    return Rig(tmp_path)


def test_the_log_level_applies_at_once_and_the_rest_waits_for_a_restart(rig: Rig) -> None:
    """A reload changes the level of the log, and names the other settings that differ."""
    configure("warning")
    text = rig.file.read_text().replace("warning", "info")
    rig.file.write_text(text + "kafka: {group_id: other}\nhttp: {port: 1}\n")
    structlog.get_logger().info("not heard")
    rig.reload.reload_requested()
    with capture_logs() as logs:
        structlog.get_logger().info("heard")
        rig.reload.reload_requested()
    assert [entry["event"] for entry in logs] == ["heard", "reloaded"]
    assert logs[1]["remedy"] == "restart to apply http.port, kafka.group_id"
    assert (rig.count("succeeded"), rig.count("failed")) == (2.0, 0.0)


def test_a_broken_file_fails_the_reload_and_changes_nothing(rig: Rig) -> None:
    """Rules or a configuration that cannot be used are named each time they are asked for, and counted."""
    rig.file.write_text("nonsense: 1\n")
    rig.rules.write_text("nonsense")
    before = rig.book.current
    with capture_logs() as logs:
        for _ in range(2):
            rig.book.refresh()
            rig.reload.reload_requested()
    assert [entry["event"] for entry in logs] == ["reload_failed", "reload_failed"]
    assert "nonsense: no such setting" in logs[1]["reason"]
    assert str(rig.rules) in logs[1]["reason"]
    assert rig.book.current is before
    assert (rig.count("succeeded"), rig.count("failed")) == (0.0, 2.0)


def test_secrets_are_compared_and_not_told() -> None:
    """A changed password is named by its setting only."""
    old = Config.model_validate({"kafka": {"sasl_password": "one"}})
    new = Config.model_validate({"kafka": {"sasl_password": "two"}})
    assert changed(old, new) == ["kafka.sasl_password"]
    assert changed(old, old.model_copy(deep=True)) == []


def ask(port: int, method: str = "POST") -> int:
    """The status of a request to reload."""
    url = f"http://127.0.0.1:{port}/-/reload"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class Health:
    """Always well."""

    def live(self) -> bool:
        """Yes."""
        return True

    def ready(self) -> dict[str, bool]:
        """Yes."""
        return {}


@pytest.mark.parametrize("allowed", [True, False])
def test_http_reloads_only_where_that_is_allowed(*, allowed: bool) -> None:
    """`POST /-/reload` is accepted when it is switched on, else refused; a GET never reloads."""
    asked: list[int] = []
    reload = (lambda: asked.append(1)) if allowed else None
    server = HttpServer("127.0.0.1", 0, Metrics().registry, Health(), reload=reload)
    server.start()
    try:
        assert ask(server.port) == (202 if allowed else 403)
        assert ask(server.port, "GET") == 405
    finally:
        server.stop()
    assert len(asked) == allowed


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_states_reach_systemd_and_nobody_else(systemd: socket.socket, tmp_path: Path) -> None:
    """A state is one datagram; without systemd, or with one that is gone, nothing happens."""
    assert notify("READY=1")
    assert systemd.recv(100) == b"READY=1"
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind(f"\0riskmon-{os.getpid()}")
        assert notify("STOPPING=1", {"NOTIFY_SOCKET": f"@riskmon-{os.getpid()}"})
        assert abstract.recv(100) == b"STOPPING=1"


def test_a_daemon_tells_systemd_and_reloads_when_asked(
    tmp_path: Path, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY when it judges, WATCHDOG while the loop turns, STOPPING at the end; SIGHUP and HTTP reload."""
    monkeypatch.setenv("RISKMON_DATA_DIR", str(tmp_path))
    rig = Rig(tmp_path)
    off = ", ".join(f"{name}: {{enabled: false}}" for name in Config().enabled_detectors())
    rig.file.write_text(
        rig.file.read_text()
        + f"detectors: {{{off}}}\nhttp: {{port: 0, reload: true}}\npool: {{workers: 1}}\n"
        + "deliver: {feedback_topic: ''}\n"
    )
    log = MemoryLog({("t", 0): []})
    daemon = Daemon(
        load(rig.file),
        clock=SystemClock(),
        source=MemorySource(log, SystemClock(), finite=False),
        reread=lambda: load(rig.file),
    )
    handlers: dict[int, Any] = {}
    monkeypatch.setattr("signal.signal", handlers.__setitem__)
    daemon.handle_signals()
    states: list[bytes] = []

    def hear() -> None:  # all the while: of what nobody takes only a few are kept, and the rest is lost
        while b"STOPPING=1" not in states:
            states.append(systemd.recv(100))

    thread, hearing = threading.Thread(target=daemon.run), threading.Thread(target=hear)
    thread.start()
    hearing.start()
    try:
        eventually(lambda: b"WATCHDOG=1" in states, "a watchdog that is fed")
        asked, told = states[0], [state for state in states if not state.startswith(b"EXTEND_TIMEOUT_USEC=")]
        assert asked == MORE_TIME.encode()
        assert told[:2] == [b"READY=1", b"WATCHDOG=1"]
        before = daemon.rules.current.version
        rig.rules.write_text(RULES.replace("0.5", "0.6"))
        handlers[signal.SIGHUP](signal.SIGHUP, None)
        done = {"outcome": "succeeded"}
        eventually(
            lambda: daemon.metrics.registry.get_sample_value("riskmon_reloads_total", done) == 1.0,
            "a reload after SIGHUP",
        )
        assert daemon.rules.current.version != before
        assert ask(daemon.http.port) == 202
        eventually(
            lambda: daemon.metrics.registry.get_sample_value("riskmon_reloads_total", done) == 2.0,
            "a reload over HTTP",
        )
    finally:
        daemon.stop()
        thread.join(PATIENCE)
        hearing.join(2 * PATIENCE)
    assert states[-1] == b"STOPPING=1"


def test_a_configuration_that_is_gone_is_a_failed_reload(rig: Rig) -> None:
    """A file that cannot be read is a problem to report, never the end of the daemon."""
    rig.file.unlink()
    with pytest.raises(ConfigError):
        load(rig.file, {})
    rig.reload.reload_requested()
    assert rig.count("failed") == 1.0
