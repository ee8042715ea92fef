"""Real daemons on a real broker: `riskmon run` as processes of their own, to be killed and stopped.

A `Rig` is one installation: topics of its own, a folder with ledger and key file, a configuration per daemon.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from cheap_detectors import EVERY, is_bad, trace_id
from checkout import PYTHONPATH, ROOT
from click.testing import CliRunner, Result
from patience import PATIENCE, eventually

from monitor.cli import riskmon
from monitor.config import DetectorsConfig
from monitor.rules.ruleset import flag_id
from monitor.trace import Origin

FULL = bool(os.environ.get("CI"))
TRACES = 20_000 if FULL else 2_000
RULE = "BadTrace"
TOKEN = "canary-token-of-sixteen"
RECEIVER = {"enabled": True, "port": 0, "token": TOKEN, "grpc": {"enabled": True, "port": 0}}
"""Settings of a receiver."""

_RULES = f"""
groups:
  - name: e2e
    rules:
      - alert: {RULE}
        expr: toxicity.score >= 0.5
        labels: {{severity: warning}}
        annotations: {{summary: "The test planted it."}}
        actions: [audit, alert, review, feedback]
"""


class Message(NamedTuple):
    """What the broker keeps of a record."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def value_of(number: int) -> bytes:
    """The n-th trace as a record's value."""
    body = {"id": trace_id(number), "time": 1_700_000_000 + number, "app": "shop", "response": "Hello."}
    return json.dumps(body).encode()


def cheap(seconds: float = 0.0) -> dict[str, dict[str, Any]]:
    """Two cheap detectors, each of which takes this long for a trace."""
    return {
        name: {"factory": "cheap_detectors:build", "options": {"name": name, "seconds": seconds}}
        for name in ("toxicity", "hallucination")
    }


class Daemon:
    """One `riskmon run` process; `start` may be called again once it has ended."""

    def __init__(self, name: str, config: Path) -> None:
        self.name = name
        self.config = config
        self.log = config.with_suffix(".log")
        self._began = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, without waiting for anything."""
        environment = os.environ | {"PYTHONPATH": PYTHONPATH}
        with self.log.open("ab") as log:
            self._began = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "monitor", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=ROOT,
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, running or ended."""
        assert self._process is not None
        return self._process

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def events(self) -> list[dict[str, Any]]:
        """What it has logged since it was started last."""
        lines = self.log.read_bytes()[self._began :].splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    def health(self) -> dict[str, bool]:
        """Conditions of readiness, none before it listens."""
        assert self.alive, f"{self.name} has ended: {self.log.read_text(encoding='utf-8')[-3000:]}"
        started = [event for event in self.events() if event.get("event") == "started"]
        if not started:
            return {}
        return self._conditions(started[-1]["port"])

    def _conditions(self, port: int) -> dict[str, bool]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE) as answer:
                body = answer.read()
        except urllib.error.HTTPError as unready:
            with unready:
                body = unready.read()
        conditions: dict[str, bool] = json.loads(body)["conditions"]
        return conditions

    def ready(self) -> bool:
        """Whether all conditions hold."""
        conditions = self.health()
        return bool(conditions) and all(conditions.values())

    def metric(self, name: str) -> float:
        """Sum of a metric's samples over all labels."""
        return sum(self.samples(name))

    def samples(self, name: str, label: str = "") -> list[float]:
        """Values of a metric's samples that have a label, written as `name="value"`."""
        port = next(event["port"] for event in self.events() if event.get("event") == "started")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith((name + "{", name + " ")) and label in line]
        return [float(line.rpartition(" ")[2]) for line in found]

    def receiver_port(self, protocol: str = "http") -> int:
        """Where its receiver of a protocol listens, as soon as it says so."""

        def look() -> int:
            assert self.alive, self.log.read_text(encoding="utf-8")[-3000:]
            receiving = [event for event in self.events() if event.get("event") == "receiving"]
            return next((event["port"] for event in receiving if event["protocol"] == protocol), 0)

        return eventually(look, "a receiver")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def workers(self) -> list[int]:
        """Process ids of its detector workers (Linux)."""
        process = self.process.pid
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        return [child for child, line in lines.items() if b"monitor.detect.worker" in line]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> tuple[int, float]:
        """SIGTERM; returns exit code and how many seconds it took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        return code, time.monotonic() - began


class Broker(Protocol):
    """What a rig needs of a broker: Apache Kafka or the embedded one."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int) -> None: ...

    def kafka(self, topic: str, **others: Any) -> dict[str, Any]: ...


B = TypeVar("B", bound=Broker)


class Rig(Generic[B]):
    """Daemons on a broker that share a ledger, a topic, a feedback topic and a group; leaving kills them all.

    `detectors` are sections of the enabled ones, by default two cheap ones; the rest are off.
    Further `settings` are sections of the configuration.
    """

    def __init__(
        self,
        folder: Path,
        broker: B,
        *,
        partitions: int = 4,
        detectors: dict[str, dict[str, Any]] | None = None,
        **settings: dict[str, Any],
    ) -> None:
        own = uuid.uuid4().hex[:8]
        self.topic, self.feedback, self.group = f"traces-{own}", f"feedback-{own}", f"riskmon-{own}"
        self.folder = folder
        self.partitions = partitions
        self.broker = broker
        self.daemons: list[Daemon] = []
        self.produced = 0
        self._next = [0] * partitions
        self._producer: Any = None
        self._settings = settings
        self._detectors = detectors or cheap()

    def __enter__(self) -> Self:
        from kafka import KafkaProducer

        (self.folder / "rules.yaml").write_text(_RULES, encoding="utf-8")
        self.broker.create_topic(self.topic, self.partitions)
        self.broker.create_topic(self.feedback, 1)
        self._producer = KafkaProducer(
            bootstrap_servers=self.broker.bootstrap, linger_ms=20, max_request_size=32 * 2**20
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in self.daemons:
            if daemon.alive:
                daemon.kill()
        self._producer.close(timeout=5)

    @property
    def database(self) -> Path:
        """The ledger's file."""
        return self.folder / "data" / "ledger.db"

    @property
    def config(self) -> str:
        """Configuration of the first daemon, for commands."""
        return str(self.daemons[0].config)

    def daemon(self, name: str = "one", **settings: dict[str, Any]) -> Daemon:
        """Make a daemon, with these settings besides the rig's, and start it."""
        own = {
            "instance": name,
            "data_dir": str(self.folder / "data"),
            "kafka": self.broker.kafka(self.topic, group_id=self.group),
            "pool": {"workers": 1},
            "detectors": {
                detector: self._detectors.get(detector, {"enabled": False})
                for detector in DetectorsConfig.model_fields
            },
            "rules": {"paths": [str(self.folder / "rules.yaml")]},
            "deliver": {"feedback_topic": self.feedback, "log": True, "timeout_seconds": 2.0},
            "http": {"port": 0},
        }
        for section, changes in (*self._settings.items(), *settings.items()):
            own[section] = {**own.get(section, {}), **changes}  # type: ignore[dict-item] # sections are mappings
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(own), encoding="utf-8")  # JSON is YAML
        daemon = Daemon(name, path)
        self.daemons.append(daemon)
        return daemon.start()

    def produce(self, values: Iterable[bytes | None]) -> list[tuple[int, int]]:
        """Write records in turn to all partitions; returns (partition, offset) of each."""
        placed = []
        futures = []
        for value in values:
            partition = self.produced % self.partitions
            key = b"tombstone" if value is None else None  # the client refuses a record without either
            futures.append(self._producer.send(self.topic, value, key=key, partition=partition))
            placed.append((partition, self._next[partition]))
            self._next[partition] += 1
            self.produced += 1
        self._producer.flush(timeout=PATIENCE)
        assert [future.get(PATIENCE).offset for future in futures] == [offset for _, offset in placed]
        return placed

    def publish(self, topic: str, values: Iterable[bytes]) -> None:
        """Write records to the first partition of another topic."""
        futures = [self._producer.send(topic, value, partition=0) for value in values]
        self._producer.flush(timeout=PATIENCE)
        assert all(future.get(PATIENCE).offset >= 0 for future in futures)

    def produce_traces(self, count: int) -> None:
        """Write the next `count` traces, numbered on from those before."""
        self.produce([value_of(number) for number in range(self.produced, self.produced + count)])

    def consumed_topic(self, topic: str) -> list[Message]:
        """Read a topic from begin to end."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self.broker.bootstrap, auto_offset_reset="earliest")
        messages: list[Message] = []
        try:
            names = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            consumer.assign(names)
            ends = consumer.end_offsets(names)

            def read() -> bool:
                for records in consumer.poll(100).values():
                    messages.extend(Message(r.partition, r.offset, r.key, r.value) for r in records)
                return all(consumer.position(name) >= end for name, end in ends.items())

            eventually(read, f"all of {topic}")
        finally:
            consumer.close()
        return messages

    def rows(self, query: str) -> list[Any]:
        """Ask the ledger's file without taking its write lock; nothing while there is none."""
        if not self.database.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError:  # no tables yet
                return []

    def pause(self, daemon: Daemon) -> None:
        """Stop a process, but not in a transaction: SQLite's write lock would stop the other ones too."""
        while True:
            daemon.signal(signal.SIGSTOP)
            with contextlib.closing(sqlite3.connect(self.database, timeout=2.0)) as ledger:
                try:
                    ledger.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    daemon.signal(signal.SIGCONT)
                    time.sleep(0.1)  # stopped again at once it would never end its transaction
                else:
                    return

    def done(self) -> int:
        """Records before the positions of all partitions."""
        return sum(offset for (offset,) in self.rows("SELECT next_offset FROM positions"))

    def finish(self, seconds: float = PATIENCE) -> None:
        """Wait until everything produced is on record."""
        try:
            eventually(lambda: self.done() == self.produced, "all records on record", seconds)
        except AssertionError as late:
            positions = self.rows("SELECT partition, next_offset, owner FROM positions")
            tails = [daemon.log.read_text(encoding="utf-8")[-1500:] for daemon in self.daemons]
            raise AssertionError(f"{late}; {self.produced} produced; {positions}", *tails) from None

    def deliver(self, *destinations: str, seconds: float = PATIENCE) -> None:
        """Wait until nothing waits in the outbox for these destinations."""
        names = ", ".join(f"'{name}'" for name in destinations)
        query = f"SELECT count(*) FROM outbox WHERE state = 'waiting' AND destination IN ({names})"  # noqa: S608 - names are the test's own
        eventually(lambda: self.rows(query) == [(0,)], f"delivery to {names}", seconds)

    def command(self, *words: str) -> Result:
        """Run a `riskmon` command on this installation, in this process."""
        return CliRunner().invoke(riskmon, [*words, "--config", self.config], catch_exceptions=False)

    def verify(self) -> dict[str, Any]:
        """`riskmon audit verify --json`."""
        report: dict[str, Any] = json.loads(self.command("audit", "verify", "--json").stdout)
        return report

    def letters(self) -> list[dict[str, Any]]:
        """`riskmon dlq list --json`."""
        listed = self.command("dlq", "list", "--json", "--limit", "1000000").stdout
        return [json.loads(line) for line in listed.splitlines()]

    def oracle(self, numbers: Sequence[int] | None = None) -> set[str]:
        """Ids of the flags that records numbered like their traces must raise."""
        numbers = range(self.produced) if numbers is None else numbers
        return {
            flag_id(Origin(self.topic, number % self.partitions, number // self.partitions, 0), RULE)
            for number in numbers
            if is_bad(number)
        }

    def check_effects(self, expected: set[str]) -> None:
        """Assert that flags, feedback, outbox and feedback topic hold exactly these, each once.

        Only the topic may hold one twice: delivery is at least once, under the same key.
        """
        flags = [one for (one,) in self.rows("SELECT id FROM flags")]
        assert sorted(flags) == sorted(expected)
        on_chain = [
            json.loads(body)["id"] for (body,) in self.rows("SELECT body FROM chain WHERE kind = 'flag'")
        ]
        assert sorted(on_chain) == sorted(expected)
        assert sorted(one for (one,) in self.rows("SELECT id FROM feedback")) == sorted(expected)
        outbox = self.rows("SELECT destination, key, state FROM outbox ORDER BY destination, key")
        assert outbox == [
            (destination, key, "delivered") for destination in ("feedback", "log") for key in sorted(expected)
        ]
        bodies: dict[bytes | None, set[bytes | None]] = {}
        for message in self.consumed_topic(self.feedback):
            bodies.setdefault(message.key, set()).add(message.value)
        assert bodies.keys() == {key.encode() for key in expected}
        assert all(len(values) == 1 for values in bodies.values()), "repeats differ"


def bad_numbers(count: int) -> int:
    """How many of the first `count` traces are to be flagged."""
    return (count + EVERY - 1) // EVERY
