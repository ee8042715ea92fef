"""Delivery of feedback items to Apache Kafka."""

import gc
import json
import logging
import threading
import uuid
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from apache_kafka import ApacheKafka
from flags import flag_row
from patience import PATIENCE, eventually, unhindered

from monitor.clock import SystemClock
from monitor.deliver.kafka import KafkaSender
from monitor.deliver.results import Delivered, Reason, Rejected, Result, Retry
from monitor.feedback.items import feedback_item
from monitor.records import Leased

# kafka-python reads its schemas by functions that Python 3.11 and 3.12 call deprecated.
pytestmark = pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture
def topic(apache_kafka: ApacheKafka) -> str:
    """A feedback topic of the test's own."""
    name = f"feedback-{uuid.uuid4().hex[:8]}"
    apache_kafka.create_topic(name, 2)
    return name


def sender(address: str, topic: str, timeout: float = PATIENCE, **client: Any) -> KafkaSender:
    """A sender to the feedback topic."""
    return KafkaSender([address], topic, client, timeout, SystemClock())


def rows(names: Sequence[str]) -> list[Leased]:
    """Leased feedback items."""
    return [Leased(i, "feedback", n, feedback_item(flag_row(n)).body, 0, 0.0) for i, n in enumerate(names)]


def consumed(address: str, topic: str, n: int) -> list[Any]:
    """The first `n` records of the feedback topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False
    )
    found: list[Any] = []
    with closing(consumer):
        consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])

        def enough() -> bool:
            for records in consumer.poll(timeout_ms=200).values():
                found.extend(records)
            return len(found) >= n

        eventually(enough, f"{n} records")
    return found


class NoBroker:
    """A producer without connections, to be given sends."""

    def __init__(self) -> None:
        self.ended = False
        self._sender = self

    def close(self, timeout: float) -> None:
        """See KafkaProducer."""
        assert timeout <= 1.0

    def force_close(self) -> None:
        """See the producer's sender."""
        self.ended = True


def io_threads() -> set[threading.Thread]:
    """Threads of Kafka clients."""
    return {t for t in threading.enumerate() if "kafka" in t.name.lower()}


def test_items_arrive_keyed_and_as_cloud_events(apache_kafka: ApacheKafka, topic: str) -> None:
    """Each item is one record, keyed by flag id, with the attributes of a CloudEvent."""
    batch = rows([f"f{i}" for i in range(50)])
    with closing(sender(apache_kafka.bootstrap, topic)) as out:
        assert out.send(batch) == [Delivered()] * 50
        assert out.send(batch[:1]) == [Delivered()]  # a repeat: same key, same bytes
    records = consumed(apache_kafka.bootstrap, topic, 51)
    first: dict[bytes, Any] = {}
    for record in records:
        first.setdefault(record.key, record)
        assert record.value == first[record.key].value
    assert sorted(first) == sorted(row.key.encode() for row in batch)
    for row in batch:
        record = first[row.key.encode()]
        assert json.loads(record.value) == row.body
        assert dict(record.headers) == {
            "ce_specversion": b"1.0",
            "ce_id": row.key.encode(),
            "ce_type": b"riskmon.feedback.v1",
            "ce_source": b"/riskmon",
            "content-type": b"application/json",
        }
    assert {record.partition for record in records} == {0, 1}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_broker_that_is_away_costs_time_but_no_row(caplog: pytest.LogCaptureFixture) -> None:
    """While the broker is away sends fail within their time; when it is back the same rows arrive."""
    # kafka-python leaves the socket of a refused connection to the collector; captured records, which hold
    # the error and its frames, would keep it from there until some later test.
    caplog.set_level(logging.CRITICAL, "kafka")
    before = io_threads()
    batch = rows(["a", "b"])
    with ApacheKafka() as kafka, closing(sender(kafka.bootstrap, "feedback", timeout=1.0)) as out:
        kafka.create_topic("feedback", 2)
        kafka.stop()
        with unhindered():
            assert out.send(batch) == [Retry(Reason.TIMEOUT)] * 2
        kafka.start()
        eventually(lambda: out.send(batch) == [Delivered()] * 2, "the delivery")
        assert {record.key for record in consumed(kafka.bootstrap, "feedback", 2)} >= {b"a", b"b"}
        kafka.kill()
        with unhindered():
            outcome = out.send(batch)  # the producer is open, and the broker gone under it
        assert all(isinstance(result, Retry) for result in outcome)
    eventually(lambda: io_threads() <= before, "the end of the producer's threads")
    gc.collect()


def test_a_row_too_large_for_kafka_is_parked_alone(apache_kafka: ApacheKafka, topic: str) -> None:
    """A row beyond the request limit is rejected; its neighbours are delivered."""
    batch = rows(["a", "big", "b"])
    batch[1].body["prompt"] = [{"role": "user", "content": "x" * 2_000_000}]
    with closing(sender(apache_kafka.bootstrap, topic)) as out:
        assert out.send(batch) == [Delivered(), Rejected(Reason.TOO_LARGE), Delivered()]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("TopicAuthorizationFailedError", Retry(Reason.UNAUTHORIZED)),
        ("ClusterAuthorizationFailedError", Retry(Reason.UNAUTHORIZED)),
        ("SaslAuthenticationFailedError", Retry(Reason.UNAUTHORIZED)),
        ("UnknownTopicOrPartitionError", Retry(Reason.NOT_FOUND)),
        ("InvalidTopicError", Retry(Reason.NOT_FOUND)),
        ("PolicyViolationError", Retry(Reason.REFUSED)),
        ("NotEnoughReplicasError", Retry(Reason.BROKER)),
        ("KafkaTimeoutError", Retry(Reason.TIMEOUT)),
        ("MessageSizeTooLargeError", Rejected(Reason.TOO_LARGE)),
        ("RecordListTooLargeError", Rejected(Reason.TOO_LARGE)),
        ("InvalidRecordError", Rejected(Reason.INVALID)),
    ],
)
def test_only_the_size_and_form_of_a_record_set_it_aside(error: str, expected: Result) -> None:
    """A right withdrawn, a topic that is away and a policy are mended some day; the row waits for it."""
    from kafka import errors

    class Failing(NoBroker):
        """A producer whose sends fail, once a broker has answered."""

        def send(self, *_: object, **__: object) -> Any:
            from kafka import TopicPartition
            from kafka.producer.future import FutureProduceResult, FutureRecordMetadata

            produced = FutureProduceResult(TopicPartition("feedback", 0))
            future = FutureRecordMetadata(produced, 0, 0, None, 0, 0, 0)
            produced.failure(getattr(errors, error)())
            return future

    out = sender("127.0.0.1:1", "feedback")
    out._producer = Failing()
    assert out.send(rows(["a"])) == [expected]


def test_a_row_that_the_broker_refuses_takes_no_neighbour_with_it() -> None:
    """A broker refuses a request whole: its rows are sent again one by one, and only the bad one is left."""

    class Picky(NoBroker):
        """A producer whose requests fail while one row is among them."""

        def __init__(self) -> None:
            super().__init__()
            self.sent: list[str] = []

        def send(self, _topic: str, key: bytes, **_: object) -> Any:
            self.sent.append(key.decode())
            producer, place = self, len(self.sent) - 1

            class Future:
                def get(self, timeout: float) -> None:
                    from kafka.errors import InvalidRecordError

                    assert timeout > 0
                    request = producer.sent[:3] if place < 3 else producer.sent[place : place + 1]
                    if "bad" in request:
                        raise InvalidRecordError

            return Future()

    producer, out = Picky(), sender("127.0.0.1:1", "feedback")
    out._producer = producer
    assert out.send(rows(["a", "bad", "b"])) == [Delivered(), Rejected(Reason.INVALID), Delivered()]
    assert producer.sent == ["a", "bad", "b", "a", "bad", "b"]


def test_missing_metadata_is_waited_for_once_per_send() -> None:
    """If the topic's metadata cannot be had, the first row waits for it and the others do not."""
    from kafka.errors import KafkaTimeoutError

    class NoMetadata(NoBroker):
        """A producer whose topic is unknown."""

        asked = 0

        def send(self, *_: object, **__: object) -> None:
            self.asked += 1
            raise KafkaTimeoutError

    producer, out = NoMetadata(), sender("127.0.0.1:1", "feedback")
    out._producer = producer
    assert out.send(rows(["a", "b", "c"])) == [Retry(Reason.TIMEOUT)] * 3
    assert (producer.asked, producer.ended) == (1, True)


def test_the_client_never_logs_an_item(
    caplog: pytest.LogCaptureFixture, apache_kafka: ApacheKafka, topic: str
) -> None:
    """Even with everything logged at DEBUG, the client's log holds no value of a record."""
    with caplog.at_level(logging.DEBUG), closing(sender(apache_kafka.bootstrap, topic)) as out:
        assert out.send(rows(["a"])) == [Delivered()]
    assert any(record.name.startswith("kafka.producer") for record in caplog.records)
    assert "kanarienvogel" not in caplog.text


def test_construction_needs_no_broker_and_no_client() -> None:
    """A sender is built without a connection; closing one that never sent does nothing."""
    before = io_threads()
    out = sender("127.0.0.1:1", "feedback")
    out.close()
    out.close()
    assert io_threads() <= before
