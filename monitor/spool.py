"""The spool: bodies that were received and wait to be judged, each in a topic of its daemon's."""

from typing import NamedTuple


def spool_topic(signal: str, instance: str) -> str:
    """Topic of what one daemon received and has not judged: `signal` is `traces` or `logs`.

    Each instance reads and writes only its own, so offsets are without a hole and nobody else is waited for.
    Kafka allows no such name, so it can be no topic of Kafka's.
    """
    return f"otlp.{signal}@{instance}"


def is_spool(topic: str) -> bool:
    """Whether a topic is a spool's, see `spool_topic`."""
    return topic.startswith("otlp.") and "@" in topic


class Received(NamedTuple):
    """A body that a client sent, on its way into the spool. `time` is when it came, Unix seconds."""

    topic: str
    time: float
    content_type: str
    value: bytes


class SpoolUsage(NamedTuple):
    """What waits in a spool's topic: offsets from `begin` to before `end`, and the bytes of their values."""

    begin: int
    end: int
    bytes: int
