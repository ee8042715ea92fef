"""The compose file run natively: its own configurations, commands and environments, without containers.

What must differ is written down here and nowhere else: where a host name leads (`Stack.addresses`), where
a path of a container is (`Stack.inside`), and what each program is told beyond its command (`Stack.told`).
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import pytest
import yaml
from apache_kafka import ApacheKafka
from checkout import ROOT
from compose import DOCKER, compose_file
from external import need, postgresql
from patience import PATIENCE, eventually
from processes import fetch_json, free_port

from monitor.demo.broker import SESSION_MS

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

REPLICAS: Final = ("riskmon-1", "riskmon-2")
NOT_HERE: Final = {
    "grafana",
    "otel-collector",
}  # no Debian package; nothing that runs here asks them anything
IMAGE: Final = "riskmon:local"
LEAK: Final = "The card on file is 4111 1111 1111 1111."
LEAKS: Final = 12
RECORDED: Final = "riskmon_records_recorded_total"
CONFIG: Final = "/etc/riskmon/riskmon.yaml"

# An address: a URL, or a host with a port. Whatever else stands in the files is no host.
_ADDRESS = re.compile(
    r"(?P<before>[a-z]+://(?:\w+@)?)?(?P<host>[a-z][a-z0-9.-]*)(?P<port>:\d+)?(?P<after>/.*)?", re.ASCII
)


def localised(value: Any, addresses: Mapping[str, str]) -> Any:
    """Return a configuration with each address in it replaced; fails on a host that the mapping lacks."""
    if isinstance(value, dict):
        return {key: localised(inner, addresses) for key, inner in value.items()}
    if isinstance(value, list):
        return [localised(inner, addresses) for inner in value]
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or not (found["before"] or found["port"]):
        return value
    name = found["host"] + (found["port"] or "")
    assert name in addresses, f"{value}: the stack has no {name}; it has {', '.join(sorted(addresses))}"
    return f"{found['before'] or ''}{addresses[name]}{found['after'] or ''}"


def test_only_known_hosts_are_replaced() -> None:
    """Addresses are found in lists and URLs and replaced with what surrounds them; an unknown host fails."""
    known = {"kafka:29092": "127.0.0.1:1", "postgres": "127.0.0.1:2"}
    config = {"servers": ["kafka:29092"], "url": "postgresql://riskmon@postgres/riskmon", "every": "15s"}
    assert localised(config, known) == {
        "servers": ["127.0.0.1:1"],
        "url": "postgresql://riskmon@127.0.0.1:2/riskmon",
        "every": "15s",
    }
    for strange in ("kafka:9092", "http://grafana", "http://kafka:29093/x"):
        with pytest.raises(AssertionError, match="the stack has no"):
            localised([strange], known)


class Stack:
    """The services of the compose file as processes of this machine; leaving ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.services: dict[str, Any] = compose_file()["services"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ending = ExitStack()
        # Both replicas are to be in the first assignment: one that comes later may be given just the
        # partitions of the topic that is empty here, because what the first one has stays with it.
        self.broker = ApacheKafka(properties={"group.initial.rebalance.delay.ms": "10000"})
        # Containers' ports on this machine, by service.
        self.ports = {name: free_port() for name in (*REPLICAS, "prometheus", "alertmanager", "postgres")}
        self.addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as failing:
            failing.callback(self._ending.close)
            self._ending.enter_context(self.broker)
            self._ending.enter_context(postgresql("listen_addresses=127.0.0.1", port=self.ports["postgres"]))
            failing.pop_all()
        self._ending.callback(self._end)
        self._know_addresses()
        self._make_database()
        self._make_topics()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _know_addresses(self) -> None:
        """Where what the services call each other is here; ports are those that the compose file tells."""
        kafka = self.services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        [internal] = re.findall(r"INTERNAL://(\S+?),", kafka)
        self.addresses = {internal: self.broker.bootstrap, "postgres": f"127.0.0.1:{self.ports['postgres']}"}
        for name in (*REPLICAS, "prometheus", "alertmanager"):
            self.addresses[f"{name}:{self.inner_port(name)}"] = f"127.0.0.1:{self.ports[name]}"

    def inner_port(self, name: str) -> str:
        """The port on which a service listens in its container."""
        [published] = self.services[name]["ports"]
        return str(published.split(":")[2])

    def url(self, name: str) -> str:
        """Where a service is reached."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def _make_database(self) -> None:
        import psycopg

        settings = self.services["postgres"]["environment"]
        where = {"host": "127.0.0.1", "port": self.ports["postgres"], "user": settings["POSTGRES_USER"]}
        with psycopg.connect(**where, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {settings['POSTGRES_DB']}")

    def _make_topics(self) -> None:
        [script] = self.services["topics"]["command"]
        [names] = re.findall(r"for topic in (.+?);", script)
        [partitions] = re.findall(r"--partitions (\d+)", script)
        for topic in names.split():
            self.broker.create_topic(topic, int(partitions))

    def inside(self, name: str, path: str) -> Path:
        """Where a path in a service's container is here; what is mounted is put there when it starts."""
        return self.folder / name / path.removeprefix("/")

    def _mount(self, name: str) -> None:
        for volume in self.services[name].get("volumes", []):
            source, target = volume.split(":")[:2]
            here = self.inside(name, target)
            here.parent.mkdir(parents=True, exist_ok=True)
            if not source.startswith("."):
                shared = self.folder / "volumes" / source
                shared.mkdir(parents=True, exist_ok=True)
                here.symlink_to(shared)
            elif (DOCKER / source).is_dir():
                here.symlink_to((DOCKER / source).resolve())
            else:
                loaded = yaml.safe_load((DOCKER / source).read_text(encoding="utf-8"))
                here.write_text(yaml.safe_dump(localised(loaded, self.addresses)), encoding="utf-8")

    def command(self, name: str) -> list[str]:
        """The service's own command, its paths as they are here."""
        words = []
        for word in self.services[name]["command"]:
            option, equals, value = word.partition("=")
            if equals and value.startswith("/"):
                words.append(f"{option}={self.inside(name, value)}")
            else:
                words.append(str(self.inside(name, word)) if word.startswith("/") else word)
        return words

    def environment(self, name: str) -> dict[str, str]:
        """The image's variables, then the service's, PostgreSQL chosen as the compose file's head says."""
        head = (DOCKER / "compose.yaml").read_text(encoding="utf-8").partition("\nname:")[0]
        [ledger] = re.findall(r"RISKMON_LEDGER_URL=(\S+)", head)
        image = dict(re.findall(r"(RISKMON_\w+)=(\S+)", (DOCKER / "Dockerfile").read_text(encoding="utf-8")))
        own = self.services[name].get("environment", {})
        found = {
            **image,
            **{key: value.replace("${RISKMON_LEDGER_URL:-}", ledger) for key, value in own.items()},
        }
        assert not [value for value in found.values() if "$" in value]
        found = localised(found, self.addresses)
        return {key: str(self.inside(name, v)) if v.startswith("/") else v for key, v in found.items()}

    def told(self, name: str) -> tuple[list[str], list[str], dict[str, str]]:
        """What a service needs here that its container gave it: program, further options and variables."""
        if self.services[name]["image"] == IMAGE:
            variables = {
                "RISKMON_HTTP_HOST": "127.0.0.1",
                "RISKMON_HTTP_PORT": str(self.ports.get(name, 0)),
                "RISKMON_POOL_WORKERS": "1",  # two replicas and all that is around them share one machine
                # Else a replica that is killed keeps its partitions for longer than the test waits.
                "RISKMON_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS),
                "RISKMON_KAFKA_HEARTBEAT_INTERVAL_MS": str(SESSION_MS // 6),
                "PYTHONPATH": str(ROOT),
            }
            return [sys.executable, "-m", "monitor"], [], variables
        listen = f"--web.listen-address=127.0.0.1:{self.ports[name]}"
        if name == "alertmanager":
            # Alone, it needs no port for its peers.
            return (
                [need("prometheus-alertmanager", "alertmanager")],
                [listen, "--cluster.listen-address="],
                {},
            )
        # What fires before it has found Alertmanager is lost, and is else sent again only a minute later.
        return [need("prometheus")], [listen, "--rules.alert.resend-delay=5s"], {}

    def words(self, name: str, command: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
        """A service's whole command line, or another one of its program, and the environment it runs in."""
        program, options, variables = self.told(name)
        told = [*program, *(command or self.command(name)), *options]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RISKMON_")}
        return told, {**clean, **self.environment(name), **variables}

    def start(self, *names: str) -> None:
        """Start services."""
        for name in names:
            self._mount(name)
            words, environment = self.words(name)
            with self.log(name).open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    words, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def log(self, name: str) -> Path:
        """What a service prints."""
        return self.folder / f"{name}.log"

    def ask(self, name: str, path: str) -> Any:
        """What a service answers, None while it does not; fails once it has ended."""
        ended = self.processes[name].poll()
        assert ended is None, f"{name} ended with {ended}: {self.log(name).read_text()[-3000:]}"
        try:
            return fetch_json(self.url(name) + path)
        except OSError:
            return None

    def stop(self, name: str) -> None:
        """Stop a service as Docker does; it must end in time and well."""
        self.processes[name].send_signal(signal.SIGTERM)
        grace = float(self.services[name].get("stop_grace_period", "10s").removesuffix("s"))
        assert self.processes[name].wait(grace) == 0, self.log(name).read_text()[-3000:]

    def rows(self, query: str) -> list[Any]:
        """Ask the ledger that the replicas share."""
        import psycopg

        url = self.environment(REPLICAS[0])["RISKMON_LEDGER_URL"]
        with psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()

    def owners(self) -> list[str]:
        """Who has claimed partitions; nobody while there is no ledger."""
        ready = [self.ask(name, "/readyz") for name in REPLICAS]
        return [owner for (owner,) in self.rows("SELECT owner FROM positions")] if all(ready) else []

    def recorded(self) -> float:
        """How many records both replicas have put on record."""
        return sum(self.metric(name, RECORDED) for name in REPLICAS)

    def metric(self, name: str, metric: str) -> float:
        """A metric of a replica, summed over its labels."""
        with urllib.request.urlopen(f"{self.url(name)}/metrics", timeout=PATIENCE) as answer:  # noqa: S310 - our own URL
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def leak(number: int) -> bytes:
    """A trace that gives out a card number; all of them are the same finding."""
    trace = {
        "id": f"leak-{number}",
        "app": "stack-bot",
        "environment": "production",
        "model": "m-1",
        "messages": [{"role": "user", "content": "Which card do I pay with?"}],
        "response": LEAK,
    }
    return json.dumps(trace).encode()


def plant(bootstrap: str, topic: str) -> None:
    """Write the leaks and one record that nobody can decode, over all partitions."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap)
    partitions = itertools.cycle(sorted(producer.partitions_for(topic)))
    for value in [*map(leak, range(LEAKS)), b"{"]:
        producer.send(topic, value, partition=next(partitions))
    producer.flush(timeout=30)
    producer.close(timeout=5)


def written(bootstrap: str, topics: Sequence[str]) -> int:
    """How many records the topics have got."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    try:
        names = [TopicPartition(topic, n) for topic in topics for n in consumer.partitions_for_topic(topic)]
        return sum(consumer.end_offsets(names).values())
    finally:
        consumer.close()


@contextmanager
def traffic(stack: Stack) -> Iterator[None]:
    """Run the traffic of the compose file meanwhile, and end it."""
    stack.start("traffic")
    yield
    assert stack.processes["traffic"].poll() is None, stack.log("traffic").read_text()[-3000:]
    stack.stop("traffic")


@pytest.mark.monitoring
@pytest.mark.slow
def test_the_compose_file_works_natively(tmp_path: Path) -> None:
    """Two replicas share traffic and ledger, are scraped and ruled on; a planted leak is one alert group."""
    for program in (("prometheus",), ("prometheus-alertmanager", "alertmanager")):
        need(*program)
    with Stack(tmp_path) as stack:
        around = {"kafka", "topics", "postgres", "prometheus", "alertmanager", "traffic"}
        assert set(stack.services) == {*around, *REPLICAS, *NOT_HERE}
        stack.start("prometheus", "alertmanager", *REPLICAS)
        config = yaml.safe_load(stack.inside("riskmon-1", CONFIG).read_text())
        topics = config["kafka"]["topics"]

        eventually(lambda: set(stack.owners()) == set(REPLICAS), "both replicas have partitions")
        with traffic(stack):
            plant(stack.broker.bootstrap, topics[0])
            check_prometheus(stack)
            eventually(lambda: leaks(stack), "the leak is shown by Alertmanager")
            eventually(lambda: stack.recorded() > 10 * LEAKS, "traffic is recorded")
            for name in REPLICAS:
                eventually(lambda n=name: stack.metric(n, RECORDED) > 0, f"{name} records")  # type: ignore[misc] # bound now
        check_sums(stack, topics)
        check_leaks(stack)
        assert written(stack.broker.bootstrap, [config["deliver"]["feedback_topic"]]) >= LEAKS
        for name in (*REPLICAS, "prometheus", "alertmanager"):
            stack.stop(name)
        told = ["audit", "verify", "--json", "--config", str(stack.inside(REPLICAS[0], CONFIG))]
        words, environment = stack.words(REPLICAS[0], told)
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def check_prometheus(stack: Stack) -> None:
    """Both replicas are scraped, every shipped rule is loaded, and the watchdog reaches Alertmanager."""

    def up() -> dict[str, str]:
        answer = stack.ask("prometheus", "/api/v1/targets")
        targets = answer["data"]["activeTargets"] if answer else []
        return {target["labels"]["instance"]: target["health"] for target in targets}

    replicas = {f"127.0.0.1:{stack.ports[name]}": "up" for name in REPLICAS}
    eventually(lambda: up() == replicas, "both replicas are scraped")
    groups = stack.ask("prometheus", "/api/v1/rules")["data"]["groups"]
    shipped = [path.read_text() for path in (ROOT / "rules" / "prometheus").glob("*.rules.yml")]
    assert sum(len(group["rules"]) for group in groups) == sum(
        text.count("        expr: ") for text in shipped
    )

    def watched() -> Any:
        found = stack.ask("alertmanager", f"/api/v2/alerts?{only(alertname='RiskmonWatchdog')}")
        return [alert["receivers"] for alert in found or []] == [[{"name": "watchdog"}]]

    eventually(watched, "Prometheus' watchdog is shown by Alertmanager")


def only(**labels: str) -> str:
    """A query for alerts with these labels."""
    return urllib.parse.urlencode([("filter", f'{name}="{value}"') for name, value in labels.items()])


def leaks(stack: Stack) -> list[Any]:
    """Groups of the planted leak in Alertmanager."""
    query = only(alertname="PersonalDataLeak", app="stack-bot")
    found: list[Any] = stack.ask("alertmanager", f"/api/v2/alerts/groups?{query}") or []
    return found


def check_leaks(stack: Stack) -> None:
    """All leaks are delivered, and are one alert in one group that is paged at once."""
    waiting = "SELECT count(*) FROM outbox WHERE state = 'waiting' AND destination = 'alertmanager'"
    eventually(lambda: stack.rows(waiting) == [(0,)], "all alerts are delivered")
    assert stack.rows("SELECT count(*) FROM flags WHERE rule = 'PersonalDataLeak' AND app = 'stack-bot'") == [
        (LEAKS,)
    ]
    [group] = eventually(lambda: leaks(stack), "the leak is shown by Alertmanager")
    assert group["receiver"] == {"name": "page"}
    assert group["labels"] == {
        "alertname": "PersonalDataLeak",
        "app": "stack-bot",
        "environment": "production",
    }
    assert len(group["alerts"]) == 1


def check_sums(stack: Stack, topics: Sequence[str]) -> None:
    """Over both replicas: consumed = recorded + dead-lettered, which is all that was written."""
    total = written(stack.broker.bootstrap, topics)

    def sums() -> dict[str, float]:
        names = ("consumed", "released", "recorded", "dead_lettered")
        return {
            name: sum(stack.metric(r, f"riskmon_records_{name}_total") for r in REPLICAS) for name in names
        }

    def done() -> bool:
        found = sums()
        return found["recorded"] + found["dead_lettered"] >= total

    eventually(done, "all that was written is on record")
    found = sums()
    assert found["consumed"] - found["released"] == total
    assert found["recorded"] + found["dead_lettered"] == total
    assert found["dead_lettered"] == 1
