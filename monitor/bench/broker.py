"""The brokers that benchmarks measure on: the embedded one, or a Kafka that runs already."""

import contextlib
from types import TracebackType
from typing import Any, Protocol, Self

from monitor.clock import Clock
from monitor.demo.broker import SESSION_MS, EmbeddedBroker
from monitor.errors import ConfigError

BOOTSTRAP_MS = 5_000


class Broker(Protocol):
    """A broker for benchmarks, as a context manager; on exit it removes what it made."""

    bootstrap: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic that does not exist yet."""

    def kafka(self, topic: str, **others: Any) -> dict[str, Any]:
        """Return `kafka` of a configuration that reads the topic."""


def broker(bootstrap: str | None, clock: Clock) -> Broker:
    """Return the Kafka at `host:port,…`, without it an embedded broker."""
    return EmbeddedBroker(clock) if bootstrap is None else ExternalBroker(bootstrap)


class ExternalBroker:
    """A Kafka that takes clients in plain text; topics and groups made here are deleted at the end.

    Entering raises ConfigError when it does not answer.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._topics: list[str] = []
        self._groups: list[str] = []
        self._admin: Any = None

    def __enter__(self) -> Self:
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaError

        try:
            self._admin = KafkaAdminClient(
                bootstrap_servers=self.bootstrap.split(","), bootstrap_timeout_ms=BOOTSTRAP_MS
            )
        except (KafkaError, ValueError) as error:
            raise ConfigError(
                f"--bootstrap-servers {self.bootstrap}: no Kafka answers in plain text"
                f" ({type(error).__name__}); give host:port of one that does"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from kafka.errors import GroupIdNotFoundError

        with contextlib.closing(self._admin):
            if self._topics:
                self._admin.delete_topics(self._topics)
            for group in self._groups:
                with contextlib.suppress(GroupIdNotFoundError):  # no consumer joined it
                    self._admin.delete_groups([group])

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic, with one replica, and wait until it can be written."""
        self._admin.create_topics(
            {name: {"num_partitions": partitions, "replication_factor": 1}}, wait_for_metadata=True
        )
        self._topics.append(name)

    def kafka(self, topic: str, **others: Any) -> dict[str, Any]:
        """Return `kafka` of a configuration whose member reads `topic` and joins its group in seconds."""
        own = {"bootstrap_servers": self.bootstrap.split(","), "topics": [topic]}
        kafka = own | {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": SESSION_MS // 6} | others
        self._groups.append(kafka["group_id"])
        return kafka
