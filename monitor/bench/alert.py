"""`riskmon bench alert`: from a leak in the traffic to a real Alertmanager's API, and through its outage."""

import itertools
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import sqlalchemy as sa

from monitor.clock import Clock, Deadline, SystemClock
from monitor.config import load
from monitor.daemon.daemon import Daemon, wait_in_thread
from monitor.demo.broker import EmbeddedBroker
from monitor.demo.traffic import TrafficGenerator, publish
from monitor.errors import ConfigError, Retryable
from monitor.ledger import schema
from monitor.outcome.alerts import ALERTMANAGER, GROUP_BY
from monitor.output import as_json as to_json
from monitor.telemetry.logging import configure

TOPIC: Final = "llm.traces"
RULE: Final = "PersonalDataLeak"
PLANTED: Final = "planted-"  # apps whose traces leak
RATE: Final = 20.0  # traces per second of other traffic
RESOLVE_SECONDS: Final = 5.0
PATIENCE: Final = 120.0
TICK: Final = 0.02
SEED: Final = 7
_CONFIG: Final = f"""
route: {{receiver: none, group_by: [{", ".join(GROUP_BY)}], group_wait: 0s}}
receivers: [{{name: none}}]
"""


class AlertOptions(NamedTuple):
    """Options of the command: leaks measured one by one, leaks sent at once, seconds without Alertmanager."""

    leaks: int
    burst: int
    outage: float
    as_json: bool


def run(path: Path | None, options: AlertOptions) -> None:
    """Measure and print. Raises ConfigError without an Alertmanager on the PATH, Retryable after too long."""
    configure("error")
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="riskmon-bench-") as scratch, EmbeddedBroker(clock) as broker:
        broker.create_topic(TOPIC, 4)
        alertmanager = _Alertmanager(Path(scratch), clock)
        config = load(path)
        deliver = {"alertmanager": {"url": alertmanager.url, "resolve_seconds": RESOLVE_SECONDS}}
        config = config.model_validate(
            config.model_dump(exclude={"deliver"})
            | {
                "data_dir": Path(scratch) / "data",
                "kafka": broker.kafka(TOPIC),
                "deliver": deliver | {"log": False, "feedback_topic": "", "max_backoff_seconds": 5.0},
                "http": {"port": 0},
            }
        )
        daemon = Daemon(config, clock=clock)
        thread, failures = wait_in_thread(daemon)
        stop = threading.Event()
        others = threading.Thread(
            target=publish,
            args=(broker.bootstrap, TOPIC, RATE, None, TrafficGenerator(SEED), stop),
            daemon=True,
        )
        try:
            with _producer(broker.bootstrap) as send:
                bench = _Bench(daemon, alertmanager, send, clock)
                alertmanager.start()
                bench.wait(lambda: all(daemon.ready().values()), "the daemon is ready")
                others.start()
                report = bench.measure(options)
        finally:
            stop.set()
            daemon.stop()
            thread.join()
            alertmanager.stop()
        if failures:
            raise failures[0]
    click.echo(to_json(report) if options.as_json else _told(report))


class _Alertmanager:
    """A real Alertmanager on a free port, which can be stopped and started again with its state."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        program = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
        if program is None:
            raise ConfigError(
                "no Alertmanager is on the PATH; install one, e.g. Debian's prometheus-alertmanager"
            )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        config = folder / "alertmanager.yml"
        config.write_text(_CONFIG, encoding="utf-8")
        self._command = [
            program,
            f"--config.file={config}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            "--log.level=error",
        ]
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = Deadline(self._clock, PATIENCE)
        while self.ask("status") is None:
            if deadline.expired() or self._process.poll() is not None:
                raise Retryable("Alertmanager did not start")
            self._clock.sleep(TICK)

    def stop(self) -> None:
        """Stop it. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, what: str, **query: str) -> Any:
        """Return the answer of its API; None without one."""
        url = f"{self.url}/api/v2/{what}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own URL, http
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def shows(self, app: str) -> list[Any]:
        """Return the active alerts of an app."""
        return self.ask("alerts", filter=f'app="{app}"', active="true") or []


class _Bench:
    """The measurements, one after another."""

    def __init__(
        self, daemon: Daemon, alertmanager: _Alertmanager, send: Callable[[str], None], clock: Clock
    ) -> None:
        self._daemon, self._alertmanager, self._send, self._clock = daemon, alertmanager, send, clock

    def measure(self, options: AlertOptions) -> dict[str, Any]:
        """Run them all."""
        seconds = [self._leak(f"{PLANTED}{number}") for number in range(options.leaks)]
        last = f"{PLANTED}{options.leaks - 1}"
        resolved = self._timed(lambda: not self._alertmanager.shows(last), "the alert is resolved")
        for _ in range(options.burst):
            self._send(PLANTED + "burst")
        self._drained(options.leaks + options.burst)
        groups = self._alertmanager.ask("alerts/groups", filter=f'app="{PLANTED}burst"') or []
        outage = self._outage(options)
        return {
            "leaks": options.leaks,
            "seconds_median": round(statistics.median(seconds), 3),
            "seconds_max": round(max(seconds), 3),
            "resolve_seconds": RESOLVE_SECONDS,
            "resolved_after_seconds": round(resolved, 1),
            "burst": {"leaks": options.burst, "groups": len(groups)},
            "outage": outage,
        }

    def _leak(self, app: str) -> float:
        self._send(app)
        return self._timed(lambda: bool(self._alertmanager.shows(app)), f"the alert of {app} is shown")

    def _outage(self, options: AlertOptions) -> dict[str, Any]:
        self._alertmanager.stop()
        began, sent = Deadline(self._clock, options.outage), 0
        while not began.expired():
            self._send(PLANTED + "outage")
            sent += 1
            self._clock.sleep(0.1)
        self._alertmanager.start()
        took = self._drained(options.leaks + options.burst + sent)
        groups = self._alertmanager.ask("alerts/groups", filter=f'app="{PLANTED}outage"') or []
        return {
            "seconds": options.outage,
            "leaks": sent,
            "delivered_after_seconds": round(took, 1),
            "lost": options.leaks + options.burst + sent - self._planted(),
            "groups": len(groups),
        }

    def _planted(self) -> int:
        """Return the number of delivered alerts of planted leaks."""
        flags, outbox = schema.flags.c, schema.outbox.c
        query = (
            sa.select(sa.func.count())
            .select_from(schema.flags.join(schema.outbox, outbox.key == flags.id))
            .where(flags.rule == RULE, flags.app.startswith(PLANTED))
            .where(outbox.destination == ALERTMANAGER, outbox.state == "delivered")
        )
        with self._daemon.ledger.begin() as connection:
            return int(connection.execute(query).scalar_one())

    def _drained(self, planted: int) -> float:
        return self._timed(lambda: self._planted() >= planted, f"{planted} alerts are delivered")

    def _timed(self, holds: Callable[[], bool], what: str) -> float:
        began = self._clock.monotonic()
        self.wait(holds, what)
        return self._clock.monotonic() - began

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds. Raises Retryable when it takes too long."""
        deadline = Deadline(self._clock, PATIENCE)
        while not holds():
            if deadline.expired():
                raise Retryable(f"not within {PATIENCE:.0f} s: {what}")
            self._clock.sleep(TICK)


@contextmanager
def _producer(bootstrap: str) -> Iterator[Callable[[str], None]]:
    """Give what sends a trace of an app that leaks a social security number."""
    from kafka import KafkaProducer

    numbers = itertools.count()
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)

    def send(app: str) -> None:
        number = next(numbers)
        trace = {
            "id": f"{PLANTED}{number}",
            "time": SystemClock().now(),
            "app": app,
            "environment": "production",
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "Which number is on my file?"}],
            "response": f"Your social security number is 536-90-{4000 + number % 1000}.",
        }
        producer.send(TOPIC, json.dumps(trace).encode())

    try:
        yield send
    finally:
        producer.close(timeout=5)


def _told(report: dict[str, Any]) -> str:
    burst, outage = report["burst"], report["outage"]
    resolved, after = report["resolved_after_seconds"], outage["delivered_after_seconds"]
    return f"""\
leaks, one by one            {report["leaks"]}
from traffic to Alertmanager {report["seconds_median"]} s in the median, {report["seconds_max"]} s at most
resolved                     {resolved} s later, {report["resolve_seconds"]} s configured
leaks at once                {burst["leaks"]} in {burst["groups"]} group
Alertmanager away            for {outage["seconds"]} s with {outage["leaks"]} leaks: {outage["lost"]} lost,
                             all there {after} s later in {outage["groups"]} group"""
