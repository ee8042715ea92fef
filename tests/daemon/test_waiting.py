"""A daemon waits for its ledger; systemd hears of it, and a stop ends it whenever it comes."""

import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
from ledgers import VAULT

from monitor.clock import SystemClock
from monitor.config import Config
from monitor.daemon import build
from monitor.daemon.daemon import Daemon
from monitor.daemon.waiting import Waiting
from monitor.errors import Retryable
from monitor.ledger import schema as t
from monitor.ledger.reader import Faults
from monitor.ledger.store import MIGRATION_SECONDS, Ledger
from monitor.sources.memory import MemoryLog, MemorySource
from monitor.testing import ManualClock


def test_systemd_is_asked_for_time_before_each_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough for a migration, which cannot ask; and it hears what is waited for, until that is over."""
    faults, writable = Faults(), list[bool]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(0.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def heard() -> list[str]:
            found = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.append(listener.recv(200).decode())
            return found

        attempts: list[list[str]] = []

        def step() -> None:
            attempts.append(heard())
            if len(attempts) < 3:
                raise Retryable("a test", "the database is tired")

        assert Waiting(ManualClock(), faults, writable.append).done(step)
        last = heard()
    seconds = [float(said[-1].removeprefix("EXTEND_TIMEOUT_USEC=")) / 1e6 for said in attempts]
    assert min(seconds) > 2 * MIGRATION_SECONDS
    assert attempts[1][0] == attempts[2][0] == "STATUS=waits for the ledger: the database is tired"
    assert last == ["STATUS="]
    assert (writable, faults.cause) == ([False, False, True], "")


def test_a_stop_while_the_ledger_is_opened_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late in opening it comes: no model is loaded, nothing goes on record, all is closed."""
    off: dict[str, Any] = {name: {"enabled": False} for name in Config().enabled_detectors()}
    config = Config.model_validate(
        {
            "data_dir": tmp_path,
            "http": {"port": 0},
            "detectors": off,
            "receiver": {"enabled": True, "port": 0},
        }
    )
    clock = SystemClock()
    daemon = Daemon(config, clock=clock, source=MemorySource(MemoryLog({("t", 0): []}), clock, finite=False))
    built = build.build_engine

    def stopped_meanwhile(*arguments: Any, **named: Any) -> Any:
        daemon.stop()
        return built(*arguments, **named)

    monkeypatch.setattr(build, "build_engine", stopped_meanwhile)
    assert daemon.run().consumed == 0
    ledger = Ledger.open(config.ledger_url(), VAULT, clock, "d")
    with contextlib.closing(ledger), ledger.view() as connection:
        assert connection.execute(t.chain.select()).all() == []
