"""The HTTP surface: right answers, and no way for a slow or hostile client to do harm."""

import io
import json
import random
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import structlog
from patience import unhindered
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser

from monitor import __version__
from monitor.console.http import KEPT, MAX_CONNECTIONS, HttpServer, Scrape
from monitor.errors import ConfigError
from monitor.telemetry.metrics import Metrics


class Health:
    """Health that a test sets."""

    def __init__(self) -> None:
        self.alive = True
        self.conditions: dict[str, bool] = {"partitions_assigned": True, "ledger_writable": True}
        self.broken = False

    def live(self) -> bool:
        """As set."""
        if self.broken:
            raise RuntimeError("canary-http")
        return self.alive

    def ready(self) -> Mapping[str, bool]:
        """As set."""
        return self.conditions


class Console:
    """A running server with what it serves."""

    def __init__(self, request_seconds: float = 10.0) -> None:
        self.metrics = Metrics(known={"topic": ["t"]})
        self.health = Health()
        self.causes: dict[str, str] = {}
        self.server = HttpServer(
            "127.0.0.1",
            0,
            self.metrics.registry,
            self.health,
            request_seconds,
            causes=lambda: self.causes,
        )
        self.server.start()

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, body and headers."""
        url = f"http://127.0.0.1:{self.server.port}{path}"
        request = urllib.request.Request(url, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own URL, http
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), dict(error.headers)

    def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as peer:
            try:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: peer.recv(65536), b""))
            except OSError:
                return b""


@pytest.fixture
def console() -> Iterator[Console]:
    """A running server."""
    running = Console()
    yield running
    running.server.stop()


def test_metrics_in_the_classic_form_by_default(console: Console) -> None:
    """A client that asks for nothing gets text format 0.0.4 without exemplars."""
    console.metrics.inc("records_consumed", 3, topic="t")
    status, body, headers = console.get("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'riskmon_records_consumed_total{topic="t"} 3.0\n' in body
    assert "# EOF" not in body


def test_metrics_in_openmetrics_when_asked(console: Console) -> None:
    """Prometheus' Accept header gets OpenMetrics 1.0 that its strict parser takes."""
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    status, body, headers = console.get("/metrics", Accept=accept)
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "application/openmetrics-text")
    parse: Any = parser.text_string_to_metric_families
    assert any(family.name == "riskmon_records_consumed" for family in parse(body))


@pytest.mark.parametrize("seconds", [0.001, 0.03, 2.0])
def test_metrics_asked_for_in_a_loop_are_written_for_a_tenth_of_the_time(seconds: float) -> None:
    """Within ten times as long as it took, the same text is the answer; then it is written anew."""
    now, wrote = 0.0, 0.0

    def write(_: CollectorRegistry) -> bytes:
        nonlocal now, wrote
        now, wrote = now + seconds, wrote + seconds
        return str(now).encode()

    scrape = Scrape(CollectorRegistry(), write, lambda: now)
    first = scrape.text()
    now += KEPT * seconds * 0.99
    assert scrape.text() == first
    now += KEPT * seconds * 0.02
    assert scrape.text() != first
    for _ in range(1000):
        now += seconds / 7
        scrape.text()
    assert wrote <= now / KEPT


def test_a_page_of_another_name_reads_nothing(console: Console) -> None:
    """A browser that was led here by another name gets neither metrics nor health; the remedy is named."""
    for path in ("/metrics", "/livez", "/nothing"):
        status, body, _ = console.get(path, Host=f"evil.example.com:{console.server.port}")
        assert status == 421
        assert "http.allowed_hosts" in body
    assert console.get("/livez", Host="riskmon-1:9469")[0] == 200


def test_another_site_cannot_reload() -> None:
    """A page's form reaches a port of this machine, but it is told by its origin."""
    reloads: list[None] = []
    server = HttpServer(
        "127.0.0.1", 0, Metrics().registry, Health(), reload=lambda: reloads.append(None),
        allowed_hosts=["riskmon.example.org"],
    )  # fmt: skip
    server.start()
    url = f"http://127.0.0.1:{server.port}/-/reload"
    statuses = []
    for headers in (
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {},
        {"Host": "riskmon.example.org", "Origin": "http://riskmon.example.org"},
    ):
        request = urllib.request.Request(url, b"", headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own URL, http
                statuses.append(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                statuses.append(error.code)
    server.stop()
    assert statuses == [403, 403, 421, 202, 202]
    assert len(reloads) == 2


@pytest.mark.parametrize("path", ["/livez", "/-/healthy"])
def test_liveness_follows_the_loop(console: Console, path: str) -> None:
    """200 while it turns, 503 when it does not."""
    assert console.get(path)[:2] == (200, '{"live": true}\n')
    console.health.alive = False
    assert console.get(path)[:2] == (503, '{"live": false}\n')


@pytest.mark.parametrize("path", ["/readyz", "/-/ready"])
def test_readiness_names_what_fails(console: Console, path: str) -> None:
    """All conditions are listed; one that does not hold makes it 503 and is named, with its cause."""
    assert console.get(path)[0] == 200
    console.health.conditions["ledger_writable"] = False
    console.causes |= {"ledger_writable": "the database takes no writes", "partitions_assigned": "old"}
    status, body, _ = console.get(path)
    assert (status, json.loads(body)) == (
        503,
        {
            "ready": False,
            "failing": ["ledger_writable"],
            "causes": {"ledger_writable": "the database takes no writes"},
            "conditions": {"partitions_assigned": True, "ledger_writable": False},
        },
    )


def test_version_query_and_head(console: Console) -> None:
    """The version is told, a query string is ignored, HEAD has the headers and no body."""
    assert json.loads(console.get("/version?x=1")[1]) == {"version": __version__}
    status, body, headers = console.get("/version", method="HEAD")
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/../metrics", "/metrics%00", "/admin", "/livez/x", "//metrics"]
)
def test_everything_else_is_not_found(console: Console, path: str) -> None:
    """There are no other pages, and no path tricks lead to one."""
    assert console.get(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(console: Console, method: str) -> None:
    """Nothing here can be written to."""
    status, _, headers = console.get("/metrics", method=method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_garbage_is_answered_or_dropped_and_never_an_error_of_ours(console: Console) -> None:
    """2,000 mutilated requests: no 5xx, and the server answers the next good one."""
    rng = random.Random(9)
    good = b"GET /livez HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
    for _ in range(2_000):
        cut = rng.randrange(len(good))
        junk = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))
        answer = console.raw(good[:cut] + junk + good[cut + rng.randrange(3) :])
        assert not answer.startswith(b"HTTP/1.1 5")
    assert console.get("/livez")[0] == 200


def test_a_header_without_end_is_refused(console: Console) -> None:
    """Beyond 8 KiB of header the answer is 400, or the connection is cut."""
    answer = console.raw(b"GET /metrics HTTP/1.1\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_a_slow_client_is_cut_off() -> None:
    """A connection that dribbles bytes lives for the one deadline of a request, not for ever."""
    console = Console(request_seconds=0.3)

    def dribble(peer: socket.socket) -> None:
        for _ in range(600):  # 30 s
            peer.sendall(b"G")
            time.sleep(0.05)

    try:
        with (
            socket.create_connection(("127.0.0.1", console.server.port), timeout=10) as peer,
            pytest.raises((BrokenPipeError, ConnectionResetError)),
        ):
            dribble(peer)
    finally:
        console.server.stop()


def test_hung_scrapes_do_not_keep_a_probe_out(console: Console) -> None:
    """With three times the allowed number of dead connections open, a probe is answered at once."""
    hung = [
        socket.create_connection(("127.0.0.1", console.server.port), timeout=10)
        for _ in range(3 * MAX_CONNECTIONS)
    ]
    try:
        with unhindered():
            assert console.get("/livez")[0] == 200
        assert len(console.server.places) <= MAX_CONNECTIONS
    finally:
        for peer in hung:
            peer.close()


def test_a_fault_of_health_is_an_answer_without_detail(console: Console) -> None:
    """A probe that raises makes a 500 that says nothing of why, and the log has the type."""
    out = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(out)
    )
    console.health.broken = True
    status, body, _ = console.get("/livez")
    structlog.reset_defaults()
    assert status == 500
    assert "canary-http" not in body
    assert json.loads(out.getvalue())["event"] == "http_fault"


def test_a_taken_port_is_a_configuration_error_with_a_remedy(console: Console) -> None:
    """The message names the setting, the address and what to do."""
    second = HttpServer("127.0.0.1", console.server.port, console.metrics.registry, console.health)
    with pytest.raises(
        ConfigError, match=rf"http.port: cannot listen on 127.0.0.1:{console.server.port} .*free port"
    ):
        second.start()


def test_listening_beyond_loopback_is_logged(console: Console) -> None:
    """An address others can reach is allowed, and said so."""
    with structlog.testing.capture_logs() as logs:
        for host in ("0.0.0.0", "127.0.0.1"):  # noqa: S104 - what is tested
            server = HttpServer(host, 0, console.metrics.registry, console.health)
            server.start()
            server.stop()
    assert [(line["event"], line["host"]) for line in logs] == [("not_loopback", "0.0.0.0")]  # noqa: S104


def test_stop_is_idempotent_and_leaves_no_thread() -> None:
    """After stop the port is closed and the thread is gone; stopping again, or unstarted, is harmless."""
    console = Console()
    port = console.server.port
    idle = socket.create_connection(("127.0.0.1", port), timeout=10)
    console.server.stop()
    console.server.stop()
    idle.close()
    assert "riskmon-http" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    HttpServer("127.0.0.1", 0, console.metrics.registry, console.health).stop()
