"""The broker that tests of the daemon run on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from apache_kafka import ApacheKafka
from checkout import PYTHONPATH
from patience import eventually

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def _written(kafka: ApacheKafka, topic: str, value: bytes) -> int:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    try:
        offset: int = producer.send(topic, value, partition=0).get(30).offset
        return offset
    finally:
        producer.close()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_broker_that_was_ended_comes_back_with_its_records(end: str) -> None:
    """Killed or stopped, and started again, it has the same address and goes on after its last record."""
    with ApacheKafka() as kafka:
        address, pid = kafka.bootstrap, kafka.pid
        kafka.create_topic("kept", 1)
        assert _written(kafka, "kept", b"before") == 0
        getattr(kafka, end)()
        assert not kafka.alive
        kafka.start()
        assert kafka.bootstrap == address
        assert kafka.pid != pid
        assert _written(kafka, "kept", b"after") == 1


def test_a_session_shares_one_broker(apache_kafka: ApacheKafka) -> None:
    """Topics can be made, widened and deleted, and a group's lag is what Kafka's own tool says."""
    from kafka import TopicPartition
    from kafka.errors import CoordinatorNotAvailableError
    from kafka.structs import OffsetAndMetadata

    topic, group = "shared-topic", "shared-group"
    apache_kafka.create_topic(topic, 1)
    apache_kafka.create_topic(topic, 1)
    apache_kafka.add_partitions(topic, 3)
    for _ in range(2):
        _written(apache_kafka, topic, b"x")

    def committed() -> bool:
        with apache_kafka.admin() as admin:
            try:
                admin.alter_group_offsets(group, {TopicPartition(topic, 0): OffsetAndMetadata(1, "", -1)})
            except CoordinatorNotAvailableError:  # the first group of a broker waits for its topic
                return False
        return True

    # An answer to the first may be an error that the client does not raise: until it is there, once more.
    eventually(lambda: committed() and apache_kafka.group_lag(group) == {(topic, 0): 1}, "a lag of one")
    apache_kafka.delete_topic(topic)
    with apache_kafka.admin() as admin:
        assert topic not in admin.list_topics()


@pytest.mark.skipif(sys.platform != "linux", reason="a death signal is Linux's")
def test_the_broker_dies_with_the_test_run(tmp_path: Path) -> None:
    """A run of tests that is killed leaves no broker behind."""
    told = tmp_path / "pid"
    program = f"""
import pathlib, time
from apache_kafka import ApacheKafka
with ApacheKafka() as kafka:
    pathlib.Path({str(told)!r}).write_text(str(kafka.pid))
    time.sleep(600)
"""
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as run:
        try:
            eventually(lambda: told.exists() and told.read_text(), "the broker started")
        finally:
            run.kill()
    process = Path("/proc") / told.read_text()
    eventually(lambda: not process.exists(), "the broker is gone")
