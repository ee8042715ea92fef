"""Membership of the group on Apache Kafka: no join is lost, and a daemon that is no member says so."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from patience import eventually

from monitor.sources.kafka_client import repair_join

pytestmark = [
    # The library reads its schemas in a way Python 3.11 and 3.12 warn about.
    pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def topic(apache_kafka: ApacheKafka) -> str:
    """A topic with one partition, of a name not used before."""
    name = f"membership-{uuid.uuid4().hex[:8]}"
    apache_kafka.create_topic(name, 1)
    return name


class LostJoinError(Exception):
    """A join was begun and answered, and nobody takes it."""


@contextmanager
def bare_consumer(kafka: ApacheKafka, topic: str) -> Iterator[Any]:
    """The library's consumer as it is, subscribed to a topic of which it has been given the one partition."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, group_id=f"group-{topic}", enable_auto_commit=False
    )
    try:
        # Else the first assignment knows no partition, and the join that follows may be lost already.
        eventually(lambda: consumer._coordinator._metadata_snapshot.get(topic), "the topic in the metadata")
        assert polled_until(consumer, lambda: len(consumer.assignment()) == 1, polls=400)
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)


def polled_until(consumer: Any, done: Callable[[], bool], polls: int = 40) -> bool:
    """Whether it comes to hold within some polls of 50 ms."""
    for _ in range(polls):
        consumer.poll(timeout_ms=50)
        if done():
            return True
    return False


@pytest.mark.parametrize(
    "repair",
    [
        pytest.param(repair_join, id="repaired"),
        pytest.param(
            lambda _: None,
            id="library alone",
            marks=pytest.mark.xfail(
                strict=True, raises=LostJoinError, reason="docs/kafka-python-lost-rejoin.md"
            ),
        ),
    ],
)
def test_a_join_for_new_partitions_is_taken(
    apache_kafka: ApacheKafka, topic: str, repair: Callable[[Any], None]
) -> None:
    """A join that only changed metadata called for is taken by a later poll, although its own poll timed out.

    Fails on kafka-python alone. Once it does not, this half of the repair can go.
    """
    with bare_consumer(apache_kafka, topic) as consumer:
        coordinator = consumer._coordinator
        repair(consumer)
        apache_kafka.add_partitions(topic, 3)

        def noticed() -> bool:
            consumer._client.cluster.request_update()
            return bool(coordinator.need_rejoin())

        eventually(noticed, "the new partitions in the metadata")
        consumer.poll(timeout_ms=0)  # begins the join, and its time is up before the group can answer
        join = coordinator._join_task
        assert join is not None
        eventually(lambda: join.is_done, "the group's answer to the join")
        if not polled_until(consumer, lambda: len(consumer.assignment()) == 3):
            raise LostJoinError
        assert coordinator.stable()
