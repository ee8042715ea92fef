"""`riskmon bench telemetry`: cost of hanging scrapers and a hanging OTLP endpoint."""

import contextlib
import itertools
import json
import logging
import socket
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from monitor.bench.arms import Arm
from monitor.bench.traces import traces
from monitor.clock import Clock, Deadline, SystemClock
from monitor.config import (
    Config,
    DeliverConfig,
    DetectorsConfig,
    HttpConfig,
    LedgerConfig,
    SecretUrl,
    load,
)
from monitor.console.http import MAX_CONNECTIONS, REQUEST_SECONDS
from monitor.daemon.daemon import Daemon, wait_in_thread
from monitor.demo.broker import EmbeddedBroker
from monitor.errors import Retryable
from monitor.ledger.queries import verify
from monitor.output import as_json as to_json
from monitor.telemetry.logging import configure

TOPIC: Final = "bench"
PARTITIONS: Final = 4
NOOP: Final = {
    name: {"factory": "monitor.detect.noop:build", "options": {"name": name}}
    for name in DetectorsConfig.model_fields
}
# Each hanging one holds a connection for 10 of every 15 s, so a third more are open than the daemon keeps.
SCRAPERS: Final = MAX_CONNECTIONS * 2
SCRAPE_SECONDS: Final = 15.0  # between two scrapes of one scraper, as in Prometheus' configuration here
PUSH_SECONDS: Final = 5.0
TEXTS: Final = 2000  # traces, sent again and again
AHEAD_SECONDS: Final = 2.0  # of work that always waits
AHEAD_LEAST: Final = 500
START_SECONDS: Final = 120.0
TICK_SECONDS: Final = 0.01
SEED: Final = 11


class TelemetryOptions(NamedTuple):
    """Options of the command: `seconds` of each arm in each of the `rounds`.

    `noop` replaces the configured detectors by no-op ones, so that the engine is the bottleneck.
    `evaluations` also exports an event per assessment, which costs time in the endpoint as well.
    """

    noop: bool
    evaluations: bool
    seconds: float
    rounds: int
    as_json: bool


class _Run(NamedTuple):
    """One arm of one round. `lost` records were sent, and are neither recorded nor dead letters.

    `rate` is records per second; `cpu` the CPU seconds of this process per record, workers not among them.
    """

    rate: float
    cpu: float
    records: int
    lost: int
    sound: bool
    scrapes: int
    requests: int


def run(path: Path | None, options: TelemetryOptions) -> None:
    """Measure and print. Raises ConfigError for a configuration that cannot be used.

    Both arms have the same scrapers, and an OTLP endpoint for spans and metrics (`Options.evaluations`), in a
    process of their own. In one arm they read and answer; in the other scrapers ask and read nothing, and the
    endpoint answers nothing. Each arm is timed in each round, in turns, while more work waits than is done.
    """
    configure("error")
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # its time-outs are what is asked for here
    config = load(path)
    if options.noop:
        config = config.model_copy(update={"detectors": DetectorsConfig.model_validate(NOOP)})
    clock = SystemClock()
    arms: dict[bool, list[_Run]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="riskmon-bench-") as scratch:
        bench = _Bench(config, Path(scratch), clock, evaluations=options.evaluations)
        for number in range(options.rounds):
            for hanging in (False, True) if number % 2 == 0 else (True, False):
                arms[hanging].append(bench.run(options.seconds, hanging=hanging))
            last = f"{arms[False][-1].rate:.1f} healthy, {arms[True][-1].rate:.1f} hanging"
            click.echo(f"round {number + 1}/{options.rounds}: {last}", err=True)
    pairs = [*zip(arms[False], arms[True], strict=True)]
    result: dict[str, Any] = {
        "healthy": _summary(arms[False]),
        "hanging": _summary(arms[True]),
        "ratio": _spread([bad.rate / good.rate for good, bad in pairs]),
        "cpu_ratio": _spread([bad.cpu / good.cpu for good, bad in pairs]),
        "lost": sum(arm_run.lost for arm_run in itertools.chain(*arms.values())),
        "audit_sound": all(arm_run.sound for arm_run in itertools.chain(*arms.values())),
        "scrapers": SCRAPERS,
        "noop": options.noop,
        "evaluations": options.evaluations,
        "seconds": options.seconds,
        "rounds": options.rounds,
    }
    if options.as_json:
        click.echo(to_json(result))
        return
    ratio = result["ratio"]
    for name in ("healthy", "hanging"):
        click.echo(f"{name}  {result[name]['records_per_second']:>9.1f} records/s")
    click.echo(f"ratio    {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})")
    click.echo(f"lost     {result['lost']}")


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(ratios), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
    }


def _summary(runs: Sequence[_Run]) -> dict[str, float]:
    return {
        "records_per_second": round(statistics.median(arm_run.rate for arm_run in runs), 1),
        "cpu_microseconds_per_record": round(1e6 * statistics.median(arm_run.cpu for arm_run in runs), 1),
        "records": sum(arm_run.records for arm_run in runs),
        "scrapes": sum(arm_run.scrapes for arm_run in runs),
        "otlp_requests": sum(arm_run.requests for arm_run in runs),
    }


class _Bench:
    """Runs the daemon among peers that answer, or hang."""

    def __init__(self, config: Config, folder: Path, clock: Clock, *, evaluations: bool) -> None:
        self._config = config
        self._evaluations = evaluations
        self._folder = folder
        self._clock = clock
        self._records = [_without_time(record) for record in traces(TEXTS, SEED)]

    def run(self, seconds: float, *, hanging: bool) -> _Run:
        """Judge for about so many seconds, then everything that was sent."""
        # Each has a broker of its own, which keeps all it was sent in memory.
        with EmbeddedBroker(self._clock) as broker, Arm(Peers, hanging) as peers:
            broker.create_topic(TOPIC, PARTITIONS)
            config = self._configured(broker.bootstrap, f"http://127.0.0.1:{peers.call('port')}")
            daemon = Daemon(config)
            with _running(daemon), self._feeding(daemon, broker.bootstrap) as feeder:
                self._until(lambda: daemon.totals.recorded > 0, feeder, START_SECONDS)
                peers.call("scrape", daemon.http.port)
                self._clock.sleep(min(seconds, SCRAPE_SECONDS))  # until all scrapers have come
                began, busy = self._clock.monotonic(), time.process_time()
                before = daemon.totals.recorded
                self._clock.sleep(seconds)
                done = daemon.totals.recorded - before
                took, used = self._clock.monotonic() - began, time.process_time() - busy
                sent = feeder.stop()
                totals = daemon.totals
                self._until(lambda: totals.recorded + totals.dead_lettered >= sent, feeder, START_SECONDS)
                scrapes, requests = peers.call("counts")
                sound = verify(daemon.ledger).ok
            lost = sent - totals.recorded - totals.dead_lettered
        return _Run(max(done, 1) / took, used / max(1, done), sent, lost, sound, scrapes, requests)

    def _configured(self, bootstrap: str, endpoint: str) -> Config:
        kafka = {
            "bootstrap_servers": [bootstrap],
            "topics": [TOPIC],
            "session_timeout_ms": 6000,  # the embedded broker lets a new group wait for half of it
            "heartbeat_interval_ms": 1000,
        }
        telemetry = {
            "otlp_endpoint": SecretUrl(endpoint),
            "evaluations_endpoint": SecretUrl(endpoint if self._evaluations else ""),
            "otlp_metrics_seconds": PUSH_SECONDS,
        }
        return self._config.model_copy(
            update={
                "instance": "bench",
                "data_dir": self._folder / uuid.uuid4().hex,
                "ledger": LedgerConfig(),
                "deliver": DeliverConfig(log=False, feedback_topic=""),
                "http": HttpConfig(port=0),
                "kafka": self._config.kafka.model_validate(kafka),
                "telemetry": self._config.telemetry.model_copy(update=telemetry),
            }
        )

    def _until(self, holds: Callable[[], bool], feeder: "_Feeder", seconds: float) -> None:
        """Wait for a condition; return when time is up, because what is still missing is the result."""
        deadline = Deadline(self._clock, seconds)
        while not holds() and not deadline.expired():
            feeder.check()
            self._clock.sleep(TICK_SECONDS)

    @contextlib.contextmanager
    def _feeding(self, daemon: Daemon, bootstrap: str) -> Iterator["_Feeder"]:
        feeder = _Feeder(bootstrap, self._records, daemon, self._clock)
        try:
            yield feeder
        finally:
            feeder.stop()


@contextlib.contextmanager
def _running(daemon: Daemon) -> Iterator[None]:
    thread, failures = wait_in_thread(daemon)
    try:
        yield
    finally:
        daemon.stop()
        thread.join()
    if failures:
        raise failures[0]


class _Feeder:
    """Sends records in a thread of its own, so that about `AHEAD_SECONDS` of work always wait."""

    def __init__(self, bootstrap: str, records: Sequence[bytes], daemon: Daemon, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._records = itertools.cycle(records)
        self._daemon = daemon
        self._clock = clock
        self._sent = 0
        self._stopping = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._send, name="bench-feeder", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Send no more; return how many were sent. Idempotent."""
        self._stopping.set()
        self._thread.join()
        self.check()
        return self._sent

    def check(self) -> None:
        """Raise Retryable when the broker takes no more."""
        if self._failed:
            raise Retryable("the embedded broker took no more traces; try again")

    def _send(self) -> None:
        from kafka import KafkaProducer
        from kafka.errors import KafkaError

        producer = KafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=20, batch_size=2**17)
        began, totals = self._clock.monotonic(), self._daemon.totals
        try:
            while not self._stopping.wait(TICK_SECONDS):
                rate = totals.recorded / (self._clock.monotonic() - began)
                wanted = totals.recorded + max(AHEAD_LEAST, int(rate * AHEAD_SECONDS))
                while self._sent < wanted:
                    producer.send(TOPIC, next(self._records), partition=self._sent % PARTITIONS)
                    self._sent += 1
            producer.flush(timeout=60.0)
        except KafkaError:
            self._failed = True
        finally:
            producer.close(timeout=5.0)


def _without_time(record: bytes) -> bytes:
    """Return a record without its time, so that the broker sets it."""
    trace = json.loads(record)
    del trace["time"]
    return json.dumps(trace).encode()


class Peers:
    """The daemon's peers in telemetry: an OTLP endpoint and scrapers.

    With `hanging`, the endpoint accepts connections and never answers, and scrapers send requests and never
    read.
    """

    def __init__(self, hanging: bool) -> None:  # noqa: FBT001 - a process of its own is given arguments by place
        self._hanging = hanging
        self._requests = 0
        self._scrapes = 0
        self._held: list[socket.socket] = []
        self._clock = SystemClock()
        if hanging:
            listener = socket.create_server(("127.0.0.1", 0))
            self._port: int = listener.getsockname()[1]
            self._spawn(self._hold, listener)
        else:
            server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
            self._port = server.server_port
            self._spawn(server.serve_forever)

    def port(self) -> int:
        """Return the port of the OTLP endpoint."""
        return self._port

    def scrape(self, port: int) -> None:
        """Start `SCRAPERS` scrapers of a daemon, each every `SCRAPE_SECONDS`."""
        for number in range(SCRAPERS):
            self._spawn(self._scrape, port, SCRAPE_SECONDS * number / SCRAPERS)

    def counts(self) -> tuple[int, int]:
        """Return how many scrapes and how many OTLP requests there were."""
        return self._scrapes, self._requests

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _hold(self, listener: socket.socket) -> None:
        while True:
            self._held.append(listener.accept()[0])
            self._requests += 1

    def _scrape(self, port: int, first: float) -> None:
        self._clock.sleep(first)
        while True:
            next_one = Deadline(self._clock, SCRAPE_SECONDS)
            self._scrapes += 1
            with contextlib.suppress(OSError):  # cut off by the daemon, or it has ended
                self._ask(port)
            self._clock.sleep(next_one.remaining())

    def _ask(self, port: int) -> None:
        with socket.socket() as client:
            if self._hanging:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(SCRAPE_SECONDS)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            if self._hanging:
                self._clock.sleep(REQUEST_SECONDS)
                return
            while client.recv(2**16):
                pass

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        peers = self

        class Handler(BaseHTTPRequestHandler):
            """Accepts every POST."""

            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Read it all, and answer 200."""
                self.rfile.read(int(self.headers["Content-Length"]))
                peers._requests += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        return Handler
