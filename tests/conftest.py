"""What holds for every test."""

import gc
import logging
import os
import socket
import threading
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import external
import pytest
import structlog
from apache_kafka import ApacheKafka
from hypothesis import HealthCheck, settings
from ledgers import Database

from monitor.ledger.store import Ledger

# A failure found in CI must be repeatable from its log alone; and a shared machine keeps no time, CI or not.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", _PATIENT)
settings.register_profile("ci", _PATIENT, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")

pytest.register_assert_rewrite("engine_machine")

_SOCKETS_LEFT: set[str] = set()  # the tests since the last collection that may have left some


def pytest_configure(config: pytest.Config) -> None:
    """Run from the top of the repository, wherever pytest was started: tests name its files relatively."""
    os.chdir(config.rootpath)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, whatever the order else: two workers then end together."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing may be missing: a skipped test is a failed one."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _logging_is_put_back() -> Iterator[None]:
    """Logging is set per process, and commands run inside tests set it: each test starts as the first."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("kafka.net", "kafka.cluster"):  # see monitor.sources.kafka_diagnosis.quieten
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _sockets_are_collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what kafka-python left while its warning is ignored, or a later test would be blamed.

    Kept log records would hold on to it. Those of a fixture are kept until its last test has ended, so the
    first test after it collects once more.
    """
    marks = request.node.iter_markers("filterwarnings")
    if not any("unclosed <s" in str(argument) for mark in marks for argument in mark.args):
        if _SOCKETS_LEFT:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            _SOCKETS_LEFT.clear()
        yield
        return
    _SOCKETS_LEFT.add(request.node.nodeid)
    logger = logging.getLogger("kafka")
    quiet = logging.NullHandler()
    logger.addHandler(quiet)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.removeHandler(quiet)
    gc.collect()


@pytest.fixture(autouse=True)
def _what_uses_programs_of_monitoring_is_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Or a test would hold with the version that happens to be installed, and nobody would try the newest."""
    external.refused.update(() if request.node.get_closest_marker("monitoring") else external.MONITORING)
    yield
    external.refused.clear()


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka]:
    """Apache Kafka, shared: names of topics and groups are to be a test's own, and nothing may end it."""
    with ApacheKafka() as kafka:
        yield kafka


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Run a PostgreSQL for the tests that need one; yields the folder of its socket."""
    with external.postgresql() as folder:
        yield folder


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Return a place for a new ledger: in SQLite, unless a mark of `ledgers` asks for others."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return Database.postgresql(request.getfixturevalue("postgresql_server"))
    return Database.sqlite(tmp_path)


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    """Open a new ledger."""
    with database.opened() as opened:
        yield opened


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Refuse every attempt to reach another machine; list those not made by an earlier test's thread."""
    attempts: list[Any] = []
    earlier = set(threading.enumerate()) - {threading.current_thread()}

    def refuse(*args: Any, **_: Any) -> None:
        if threading.current_thread() not in earlier:
            attempts.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield attempts
    assert attempts == []
