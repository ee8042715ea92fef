"""A daemon is as patient at its start as later: it lives, is not ready, says why, and goes on when it can."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from checkout import PYTHONPATH, ROOT
from external import small_disk
from patience import PATIENCE, eventually
from postgres_servers import Network, Server

from monitor.clock import SystemClock
from monitor.config import Config
from monitor.daemon.daemon import Daemon, wait_in_thread
from monitor.errors import ConfigError
from monitor.sources.memory import MemoryLog, MemorySource


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that these tests may set up as they like."""
    with Server.running() as running:
        yield running


@pytest.fixture
def network(server: Server) -> Iterator[Network]:
    """A way to it."""
    with Network(server.port) as way:
        yield way


def settings(folder: Path, url: str = "") -> dict[str, Any]:
    """Return a configuration that needs nothing but a ledger."""
    off: dict[str, Any] = {name: {"enabled": False} for name in Config().enabled_detectors()}
    return {
        "instance": "one",
        "data_dir": str(folder),
        "ledger": {"url": url, "verify_seconds": 0.0},
        "kafka": {"topics": []},
        "receiver": {"enabled": True, "port": 0},
        "detectors": off,
        "pool": {"workers": 1},
        "deliver": {"feedback_topic": ""},
        "http": {"port": 0},
    }


def ledger_url(server: Server, network: Network) -> str:
    """Return the URL of a new ledger that is reached over the network."""
    name = f"t{uuid.uuid4().hex}"
    server.sql(f"CREATE DATABASE {name}")
    return server.url(database=name, port=network.port)


def get(port: int, page: str) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as unready:
        with unready:
            return unready.code, json.load(unready)


def waits(daemon: Daemon, cause: str) -> None:
    """Check that a daemon waits for its ledger, and says why."""

    def told() -> bool:
        return daemon.http.port and get(daemon.http.port, "readyz")[1].get("causes") == {
            "ledger_writable": cause
        }  # type: ignore[return-value] # truth is enough

    eventually(told, cause)
    assert get(daemon.http.port, "livez") == (200, {"live": True})
    status, body = get(daemon.http.port, "readyz")
    assert (status, body["failing"]) == (503, ["ledger_writable", "started"])
    assert daemon.metrics.registry.get_sample_value("riskmon_ledger_writable") == 0.0


class Trouble(NamedTuple):
    """What keeps a ledger away, and the cause that is told."""

    begin: Callable[[Server, Network], Any]
    end: Callable[[Server, Network], Any]
    cause: str


def _set(server: Server, value: str) -> None:
    server.sql(f"ALTER SYSTEM SET default_transaction_read_only = {value}", "SELECT pg_reload_conf()")
    time.sleep(0.2)


def _cut(network: Network, *, cut: bool) -> None:
    network.cut = cut
    network.hang_up()


TROUBLES = {
    "away": Trouble(
        lambda _, network: _cut(network, cut=True),
        lambda _, network: _cut(network, cut=False),
        "the database cannot be reached",
    ),
    "silent": Trouble(
        lambda _, network: network.fall_silent(),
        lambda _, network: network.speak(),
        "the database does not answer in time",
    ),
    "read-only": Trouble(
        lambda server, _: _set(server, "on"),
        lambda server, _: _set(server, "off"),
        "the database takes no writes",
    ),
}


@contextlib.contextmanager
def started(config: dict[str, Any]) -> Iterator[tuple[Daemon, threading.Thread]]:
    """Run a daemon in this process until the block ends; it must have ended without a failure."""
    clock = SystemClock()
    source = MemorySource(MemoryLog({("t", 0): []}), clock, finite=False)
    daemon = Daemon(Config.model_validate(config), clock=clock, source=source)
    thread, failures = wait_in_thread(daemon)
    try:
        yield daemon, thread
    finally:
        daemon.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert failures == []


@pytest.mark.parametrize("name", TROUBLES)
def test_a_server_in_trouble_is_waited_for(
    server: Server, network: Network, tmp_path: Path, name: str
) -> None:
    """At the start too; the daemon goes on as soon as the trouble is over."""
    trouble = TROUBLES[name]
    url = ledger_url(server, network)
    trouble.begin(server, network)
    try:
        with started(settings(tmp_path, url)) as (daemon, _):
            waits(daemon, trouble.cause)
            trouble.end(server, network)
            eventually(lambda: get(daemon.http.port, "readyz")[0] == 200, "a ready daemon")
            assert daemon.metrics.registry.get_sample_value("riskmon_ledger_writable") == 1.0
    finally:
        trouble.end(server, network)


def test_a_key_is_asked_for_once_the_server_answers(server: Server, network: Network, tmp_path: Path) -> None:
    """A ledger that is away may belong to a key: none is made meanwhile, and a lost one ends the daemon."""
    url = ledger_url(server, network)
    with started(settings(tmp_path / "one", url)) as (daemon, _):
        eventually(lambda: daemon.http.port and get(daemon.http.port, "readyz")[0] == 200, "a ready daemon")
    network.cut = True
    daemon = Daemon(Config.model_validate(settings(tmp_path / "two", url)), clock=SystemClock())
    thread, failures = wait_in_thread(daemon)
    try:
        waits(daemon, "the database cannot be reached")
        assert not (tmp_path / "two").exists()
        network.cut = False
        thread.join(PATIENCE)
        assert not thread.is_alive()
    finally:
        daemon.stop()
        thread.join(PATIENCE)
    assert [type(failure) for failure in failures] == [ConfigError]
    assert "belongs to the key" in str(failures[0])
    assert not (tmp_path / "two").exists()


def test_a_daemon_that_waits_can_be_stopped_and_reloaded(
    server: Server, network: Network, tmp_path: Path
) -> None:
    """It ends within seconds, without an error; a reload is not lost and does no harm."""
    network.cut = True
    with started(settings(tmp_path, ledger_url(server, network))) as (daemon, thread):
        waits(daemon, "the database cannot be reached")
        daemon.reload()
        daemon.stop()
        thread.join(10.0)
        assert not thread.is_alive()


def test_a_full_disk_is_waited_for_and_the_key_with_it(tmp_path: Path) -> None:
    """Where there is no room for a key, there is none later made of half of one."""
    with small_disk(tmp_path / "disk", 1) as disk:
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with started(settings(disk / "data")) as (daemon, _):
            eventually(daemon.causes, "a cause")
            assert get(daemon.http.port, "readyz")[0] == 503
            filler.unlink()
            eventually(lambda: get(daemon.http.port, "readyz")[0] == 200, "a ready daemon")
        assert (disk / "data" / "riskmon.key").stat().st_size == 32


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://x@y/z", "postgresql://riskmon@/postgres?nonsense=1", "sqlite:///{newer}"]
)
def test_a_configuration_that_cannot_be_used_ends_it(tmp_path: Path, url: str) -> None:
    """That, and a ledger of a newer riskmon, are for whoever configures it: exit 78."""
    newer = tmp_path / "newer.db"
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = WAL; CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);"
            "INSERT INTO meta VALUES ('schema', '99')"
        )
    config = Config.model_validate(settings(tmp_path, url.format(newer=newer)))
    with pytest.raises(ConfigError):
        Daemon(config).run()


@pytest.mark.slow
@pytest.mark.alone
def test_a_silent_server_neither_kills_nor_keeps_a_daemon(
    server: Server, network: Network, tmp_path: Path
) -> None:
    """Its loop turns on, so that no watchdog bites, and SIGTERM ends it within the promised 25 s."""
    file = tmp_path / "riskmon.yaml"
    config = settings(tmp_path, ledger_url(server, network))
    config["shutdown"] = {"watchdog_seconds": 12.0}
    file.write_text(json.dumps(config))  # JSON is YAML
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "run", "--config", str(file)],
            stdout=out,
            stderr=out,
            env=os.environ | {"PYTHONPATH": PYTHONPATH},
            cwd=ROOT,
        )
    try:

        def events() -> list[dict[str, Any]]:
            return [json.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]

        def port(event: str) -> int:
            assert process.poll() is None, log.read_text()
            return next((each["port"] for each in events() if each.get("event") == event), 0)

        http, receiver = eventually(lambda: port("started"), "a start"), port("receiving")
        network.fall_silent()
        threading.Thread(target=post, args=(receiver,), daemon=True).start()
        end = time.monotonic() + 18.0
        while time.monotonic() < end:
            assert process.poll() is None, log.read_text()
            assert get(http, "livez")[0] == 200
            time.sleep(1.0)
        assert get(http, "readyz")[0] == 503
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()
        assert time.monotonic() - began < 25.0
        assert any(each.get("event") == "ledger_unavailable" for each in events())
    finally:
        process.kill()
        process.wait()


def post(port: int) -> None:
    """Send a trace to a receiver that cannot keep it."""
    body = b'{"resourceSpans": []}'
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/traces", body, {"Content-Type": "application/json"}
    )
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310 - ours
        pass
