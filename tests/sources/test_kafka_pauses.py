"""Partitions that are paused and resumed one by one on a real broker: none stands still afterwards."""

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from patience import PATIENCE

from monitor.clock import Deadline, SystemClock
from monitor.errors import ConfigError
from monitor.sources.kafka_repairs import repair_fetcher

pytestmark = [
    # The library reads its schemas in a way Python 3.11 and 3.12 warn about.
    pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

PARTITIONS = 3
RECORDS = 40  # in each partition


class StandsStillError(Exception):
    """A partition with records left was resumed, and nothing of it is delivered."""


@pytest.fixture(scope="module")
def topic(apache_kafka: ApacheKafka) -> str:
    """A topic with records in all its partitions."""
    from kafka import KafkaProducer

    name = f"pauses-{uuid.uuid4().hex[:8]}"
    apache_kafka.create_topic(name, PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=apache_kafka.bootstrap)
    for partition in range(PARTITIONS):
        for number in range(RECORDS):
            producer.send(name, b"%d" % number, partition=partition)
    producer.close()
    return name


class Reader:
    """A consumer of all partitions of a topic, and the offsets that it delivered."""

    def __init__(self, consumer: Any, topic: str) -> None:
        from kafka import TopicPartition

        self.names = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        self.consumer = consumer
        self.seen: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        consumer.assign(self.names)
        for name in self.names:
            consumer.seek(name, 0)

    def poll(self, most: int) -> None:
        """Note what one poll delivers."""
        for name, records in self.consumer.poll(timeout_ms=100, max_records=most).items():
            self.seen[name.partition] += [record.offset for record in records]

    def finish(self, seconds: float) -> None:
        """Read all partitions to their ends. Raises StandsStillError where one does not go on."""
        self.consumer.resume(*self.names)
        end = Deadline(SystemClock(), seconds)
        while any(len(offsets) < RECORDS for offsets in self.seen.values()):
            if end.expired():
                raise StandsStillError(self.seen)
            self.poll(RECORDS)
        assert self.seen == {partition: list(range(RECORDS)) for partition in range(PARTITIONS)}


@contextmanager
def reader(kafka: ApacheKafka, topic: str, repair: Callable[[Any], None]) -> Iterator[Reader]:
    """A consumer of no group, with the repair."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=None, enable_auto_commit=False)
    try:
        repair(consumer)
        yield Reader(consumer, topic)
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)


@pytest.mark.parametrize(
    ("repair", "seconds"),
    [
        pytest.param(repair_fetcher, PATIENCE, id="repaired"),
        pytest.param(
            lambda _: None,
            2.0,
            id="library alone",
            marks=pytest.mark.xfail(
                strict=True, raises=StandsStillError, reason="docs/kafka-python-paused-partition.md"
            ),
        ),
    ],
)
def test_a_partition_that_was_paused_amid_a_batch_is_read_on(
    apache_kafka: ApacheKafka, topic: str, repair: Callable[[Any], None], seconds: float
) -> None:
    """It is, although another one was read to its end meanwhile.

    Fails on kafka-python alone. Once it does not, this repair can go.
    """
    with reader(apache_kafka, topic, repair) as read:
        first, *others = read.names
        read.consumer.pause(*others)
        while not read.seen[first.partition]:
            read.poll(1)
        read.consumer.pause(first)
        read.consumer.resume(others[0])
        while len(read.seen[others[0].partition]) < RECORDS:
            read.poll(RECORDS)
        read.finish(seconds)


@pytest.mark.parametrize("seed", range(8))
def test_pauses_lose_and_double_nothing(apache_kafka: ApacheKafka, topic: str, seed: int) -> None:
    """Whatever is paused, resumed, sought and read in whatever order: each record comes once, in order."""
    chance = random.Random(seed)
    with reader(apache_kafka, topic, repair_fetcher) as read:
        for _ in range(60):
            name = chance.choice(read.names)
            step = chance.choice([read.consumer.pause, read.consumer.resume])
            step(name)
            if chance.random() < 0.1:  # as after a rebalance, or a look-up of its end
                read.consumer.seek(name, chance.randrange(RECORDS))
                read.consumer.seek(name, len(read.seen[name.partition]))
            read.poll(chance.choice([1, 3, 10, RECORDS]))
        read.finish(PATIENCE)


NEEDED = ("_parse_fetched_data", "beginning_or_end_offset", "fetched_records", "_next_partition_records")


@pytest.mark.parametrize("missing", NEEDED)
def test_a_release_that_cannot_be_repaired_is_refused(missing: str) -> None:
    """A kafka-python whose fetcher lacks what a repair needs is refused by the name of it."""
    consumer = SimpleNamespace(_fetcher=SimpleNamespace(**dict.fromkeys(set(NEEDED) - {missing})))
    with pytest.raises(ConfigError, match=rf"has no {missing}; install kafka-python"):
        repair_fetcher(consumer)
