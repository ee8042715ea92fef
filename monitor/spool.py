"""The spool: received bodies that wait to be judged, in topics of the daemon that received them."""

from typing import NamedTuple


def spool_topic(signal: str, instance: str) -> str:
    """Return the topic of the bodies one daemon received and has not judged.

    `signal` is `traces` or `logs` of OTLP, or `generations` of Grafana's Agent Observability SDKs.

    Each instance reads and writes only its own topics, so offsets have no gaps and no instance waits for
    another. Kafka does not allow such a name, so it never collides with a Kafka topic.
    """
    return f"otlp.{signal}@{instance}"


def is_spool(topic: str) -> bool:
    """Return whether a topic belongs to a spool, see `spool_topic`."""
    return topic.startswith("otlp.") and "@" in topic


class Received(NamedTuple):
    """A body that a client sent, on its way into the spool. `time` is when it came, Unix seconds.

    A body that is too much for one record has `rest`, further ones; all are written, or none is.
    """

    topic: str
    time: float
    content_type: str
    value: bytes
    rest: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Return the bytes of all its records."""
        return len(self.value) + sum(map(len, self.rest))


class SpoolUsage(NamedTuple):
    """Bodies waiting in a spool's topic: offsets from `begin` to before `end`, and their total bytes."""

    begin: int
    end: int
    bytes: int
