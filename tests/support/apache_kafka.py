"""Apache Kafka itself, in KRaft mode, from the jars that its project publishes.

Maven fetches them once per version into the tests' cache (`cache.py`). Without Java or Maven a test is
skipped, or in CI fails.
"""

import base64
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cache import cached
from external import need

from monitor.demo.broker import DIE_WITH_PARENT, SESSION_MS

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

KAFKA_VERSION: Final = os.environ.get("TEST_KAFKA_VERSION") or "4.3.1"
OLDER_VERSION: Final = "3.9.1"
"""The oldest that is tried; `make soak` alone runs it."""

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_ATTEMPTS: Final = 5
# Below the ports that a system gives to outgoing connections: one of those could otherwise hold the port of a
# broker that is down for a moment, the client's own try to reach it included.
_PORTS: Final = range(10_000, 32_000)

_JAVA: Final = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_POM: Final = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>riskmon</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{version}</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


class ApacheKafka:
    """Runs a broker that is its own controller while its `with` block does; all it keeps goes with it.

    `properties` are lines of server.properties that are added or replace those here. Clients reach the
    listener CLIENT, whose `protocol` may be SASL_PLAINTEXT, SSL or SASL_SSL; its settings are then the
    caller's (`listener.name.client.…`), except that `users` (name: password) may log in with PLAIN and
    SCRAM-SHA-256. `admin` and the broker itself use a listener in plain text of their own, as
    User:ANONYMOUS, whom an authorizer must let do everything: `super.users` says so.

    `advertised` is the address that clients are told instead of its own, such as a proxy's. `java` are
    options of its virtual machine; by default it starts from the archive of its classes.

    With `joins`, it is one more broker of that one's cluster. `{"process.roles": "controller"}` makes it a
    controller alone, which others join and which stays when each of them is killed.
    """

    def __init__(
        self,
        version: str = KAFKA_VERSION,
        properties: Mapping[str, str] | None = None,
        *,
        protocol: str = "PLAINTEXT",
        users: Mapping[str, str] | None = None,
        joins: "ApacheKafka | None" = None,
        advertised: str = "",
        java: Sequence[str] | None = None,
    ) -> None:
        self.version = version
        self._java = _with_classes(version) if java is None else java
        self.bootstrap = ""
        """`127.0.0.1:port` of CLIENT once entered; the same after `start`."""
        self._properties = dict(properties or {})
        self._protocol = protocol
        self._users = dict(users or {})
        self._joins = joins
        self._advertised = advertised
        self._members = 1
        self._number = 1
        self._cluster = base64.urlsafe_b64encode(b"riskmon" + os.urandom(9)).decode().rstrip("=")
        self._voters = ""
        self._inner = ""
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._joins is not None:
            first = self._joins
            first._members += 1
            self._number, self._cluster, self._voters = first._members, first._cluster, first._voters
        for _ in range(_ATTEMPTS):
            self._folder = Path(tempfile.mkdtemp(prefix="riskmon-kafka-"))
            self._prepare()
            try:
                self.start()
            except ConnectionError:
                if "Address already in use" not in self.log:
                    raise
                self.__exit__(None, None, None)  # another program was faster: other ports
            else:
                return self
        raise ConnectionError(f"no ports for Apache Kafka after {_ATTEMPTS} tries")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    @property
    def pid(self) -> int:
        """Process id; of the last process once it has ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All it has written to its log."""
        path = self._folder / "kafka.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def configuration(self) -> Path:
        """Its server.properties, which may be edited while it is stopped."""
        return self._folder / "server.properties"

    def start(self) -> None:
        """Start it on the same data and ports, and wait until it answers; nothing while it runs.

        Raises ConnectionError with the end of its log when it does not.
        """
        if not self.alive:
            self._launch()

    def _launch(self) -> None:
        command = _command(self.version, "kafka.Kafka", str(self.configuration), java=self._java)
        if sys.platform == "linux":  # it dies with the thread that starts it, however that ends
            command = [sys.executable, "-ISc", DIE_WITH_PARENT, str(os.getpid()), *command]
        with (self._folder / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while self.alive and time.monotonic() < end:
            if self._answers():
                return
            time.sleep(0.05)
        self.kill()
        raise ConnectionError(f"Apache Kafka {self.version} did not start: {self.log[-3000:]}")

    def stop(self) -> None:
        """End it in good order, as its service manager would."""
        if self.alive:
            assert self._process is not None
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """End it as a power cut of the process would; what it wrote stays in the system's cache."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def admin(self, **others: Any) -> "KafkaAdminClient":
        """Make an administrator's client, to be closed or used as a context."""
        from kafka.admin import KafkaAdminClient

        return KafkaAdminClient(bootstrap_servers=self._inner, **others)

    def create_topic(self, name: str, partitions: int, *, replicas: int = 1, **configs: str) -> None:
        """Create a topic and wait until each partition has a leader; one that exists is left as it is.

        `configs` are its settings, with underscores for points.
        """
        from kafka.errors import TopicAlreadyExistsError

        settings = {key.replace("_", "."): value for key, value in configs.items()}
        topic = {"num_partitions": partitions, "replication_factor": replicas, "configs": settings}
        with self.admin() as admin, contextlib.suppress(TopicAlreadyExistsError):
            admin.create_topics({name: topic}, wait_for_metadata=True)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until the broker no longer names it."""
        with self.admin() as admin:
            admin.delete_topics([name])
            end = time.monotonic() + _START_SECONDS
            while name in admin.list_topics():
                assert time.monotonic() < end, f"topic {name} was deleted and is still there"
                time.sleep(0.02)

    def add_partitions(self, name: str, total: int) -> None:
        """Give a topic `total` partitions, and wait until each has a leader."""
        with self.admin() as admin:
            admin.create_partitions({name: total})
            end = time.monotonic() + _START_SECONDS
            while True:
                (topic,) = admin.describe_topics([name])
                leaders = [partition["leader_id"] for partition in topic["partitions"]]
                if len(leaders) == total and min(leaders) >= 0:
                    return
                assert time.monotonic() < end, f"topic {name} has the leaders {leaders} of {total} partitions"
                time.sleep(0.02)

    def kafka(self, topic: str, **others: Any) -> dict[str, Any]:
        """Return `kafka` of a configuration whose member reads `topic` and joins its group in seconds."""
        own = {"bootstrap_servers": [self.bootstrap], "topics": [topic]}
        return own | {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": SESSION_MS // 6} | others

    def group_lag(self, group: str) -> dict[tuple[str, int], int | None]:
        """Lag by (topic, partition) as `kafka-consumer-groups --describe` gives it; None for no position.

        Empty while the tool cannot tell, such as of a group whose coordinator is just being found.
        """
        tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
        asked = ["--bootstrap-server", self._inner, "--describe", "--group", group]
        said = subprocess.run(
            _command(self.version, tool, *asked), check=False, capture_output=True, text=True, timeout=60
        ).stdout
        rows = [line.split() for line in said.splitlines()]
        header = next((row for row in rows if row[:2] == ["GROUP", "TOPIC"]), [])
        if not header:
            return {}
        topic, partition, lag = (header.index(name) for name in ("TOPIC", "PARTITION", "LAG"))
        return {
            (row[topic], int(row[partition])): None if row[lag] == "-" else int(row[lag])
            for row in rows
            if row[:1] == [group] and len(row) == len(header)
        }

    def _prepare(self) -> None:
        """Choose ports, write server.properties, and format the folder of the data."""
        client, inner, controller = free_ports(3)
        self.bootstrap, self._inner = f"127.0.0.1:{client}", f"127.0.0.1:{inner}"
        if self._joins is None:
            self._voters = f"{self._number}@127.0.0.1:{controller}"
        roles = "broker,controller" if self._joins is None else "broker"
        roles = self._properties.get("process.roles", roles)
        listeners = {"broker": f"CLIENT://{self.bootstrap},INNER://{self._inner}"}
        listeners["controller"] = f"CONTROLLER://127.0.0.1:{controller}"
        lines = {
            "process.roles": roles,
            "node.id": str(self._number),
            "controller.quorum.voters": self._voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(listeners[role] for role in roles.split(",")),
            "listener.security.protocol.map": (
                f"CLIENT:{self._protocol},INNER:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "log.dirs": str(self._folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "message.max.bytes": str(32 * 2**20),  # tests send records over every limit of ours
            "auto.create.topics.enable": "false",
            "log.retention.ms": "-1",  # tests write records of years ago
            "super.users": "User:ANONYMOUS",
        }
        if self._advertised:
            lines["advertised.listeners"] = f"CLIENT://{self._advertised},INNER://{self._inner}"
        if "broker" in roles:
            lines["inter.broker.listener.name"] = "INNER"
        add_scram = []
        if self._users:
            logins = " ".join(f'user_{name}="{password}"' for name, password in self._users.items())
            module = "org.apache.kafka.common.security"
            mechanism = "listener.name.client.{}.sasl.jaas.config".format
            lines["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256"
            lines[mechanism("plain")] = f"{module}.plain.PlainLoginModule required {logins};"
            lines[mechanism("scram-sha-256")] = f"{module}.scram.ScramLoginModule required;"
            for name, password in self._users.items():
                add_scram += ["--add-scram", f"SCRAM-SHA-256=[name={name},password={password}]"]
        lines |= self._properties
        text = "".join(f"{key}={value}\n" for key, value in lines.items())
        self.configuration.write_text(text, encoding="utf-8")
        format_data = ["format", "-t", self._cluster, "-c", str(self.configuration), *add_scram]
        done = subprocess.run(
            _command(self.version, "kafka.tools.StorageTool", *format_data, java=self._java),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _answers(self) -> bool:
        """Whether it serves clients; a controller alone has none, so that a listening one will do."""
        from kafka.errors import KafkaError

        roles = self._properties.get("process.roles", "broker")
        address = self._inner if "broker" in roles else self._voters.partition("@")[2]
        host, _, port = address.partition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            return False
        if "broker" not in roles:
            return True
        try:
            with self.admin(bootstrap_timeout_ms=5000) as admin:
                return bool(admin.describe_cluster()["cluster_id"] == self._cluster)
        except KafkaError:
            return False


def jars(version: str) -> Path:
    """Folder with the jars of this version; the first who asks fetches them, others wait meanwhile."""

    def fetch(folder: Path) -> None:
        maven = need("mvn")
        with tempfile.TemporaryDirectory(prefix="riskmon-maven-") as project:
            Path(project, "pom.xml").write_text(_POM.format(version=version), encoding="utf-8")
            done = subprocess.run(
                [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"],
                cwd=project,
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, f"Maven could not fetch Kafka {version}: {done.stdout[-3000:]}"

    return cached(f"kafka-{version}", fetch)


def _with_classes(version: str) -> list[str]:
    """Options with which a broker starts from an archive of its classes, which saves it loading them.

    A broker that runs for a moment writes the archive, once per version. Java ignores one that another
    release of Java wrote.
    """
    name = "classes.jsa"

    def write(folder: Path) -> None:
        with ApacheKafka(version, java=[f"-XX:ArchiveClassesAtExit={folder / name}"]) as kafka:
            kafka.create_topic("any", 1)
            kafka.stop()

    return [f"-XX:SharedArchiveFile={cached(f'kafka-{version}-classes', write) / name}"]


def _command(version: str, main: str, *arguments: str, java: Sequence[str] = ()) -> list[str]:
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [need("java"), *_JAVA, *java, quiet, "-cp", f"{jars(version)}/*", main, *arguments]


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port = _any_port()
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


def _any_port() -> int:
    # Not from the generator that pytest-randomly seeds: two workers would choose the same.
    return random.SystemRandom().choice(_PORTS)
