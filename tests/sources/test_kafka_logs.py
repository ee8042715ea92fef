"""Logs of Apache Kafka that turn out to be another one, and positions that its own tools see."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from apache_kafka import ApacheKafka
from engines import assess, build_engine, decode_time
from patience import PATIENCE, eventually

from monitor.clock import SystemClock
from monitor.config import KafkaConfig
from monitor.ledger import queries
from monitor.ledger import schema as t
from monitor.ledger.store import Ledger
from monitor.ports import Incident
from monitor.privacy.vault import Vault
from monitor.sources import kafka_logs
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafka_client import FETCH_WAIT_MS
from monitor.sources.kafka_logs import UNSEEN_SECONDS
from monitor.testing import RecordingObserver, ScriptedDetectors

pytestmark = [
    # The library reads its schemas in a way Python 3.11 and 3.12 warn about,
    pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning"),
    # and leaves sockets whose connection was refused to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.slow,
]

_names = (f"log-{number}" for number in itertools.count())


class Installation:
    """A topic, a ledger, and daemons on them without processes, one at a time."""

    def __init__(self, kafka: ApacheKafka, *, partitions: int = 1, **configs: Any) -> None:
        self.kafka = kafka
        self.topic = next(_names)
        self.configs = configs
        kafka.create_topic(self.topic, partitions, **configs)
        self.ledger = Ledger.open("sqlite://", Vault(bytes(32)), SystemClock(), "d0")
        self.observer = RecordingObserver()
        self.source: KafkaSource | None = None
        self.written = 0
        self.nameless = False
        self.named: list[bool] = []

    def start(self, **settings: Any) -> None:
        """Start a daemon; one that ran before leaves its group, with the positions it has committed."""
        self.stop()
        own = self.kafka.kafka(self.topic, group_id=f"group-{self.topic}", **settings)
        config = KafkaConfig.model_validate(own)
        self.source = KafkaSource(
            config,
            SystemClock(),
            client_id="t",
            log=structlog.get_logger(),
            on_topic=lambda _, known: self.named.append(known),
        )
        if self.nameless:
            self.source._settings["api_version"] = (2, 7)  # metadata as a broker of that age gives it
        self.detectors = ScriptedDetectors(assess, batch_size=50)
        latest = config.start == "latest"
        self.engine = build_engine(
            self.source,
            self.detectors,
            self.ledger,
            SystemClock(),
            decode=decode_time,
            observer=self.observer,
            latest=latest,
        )

    def stop(self) -> None:
        """Drain and leave."""
        if self.source is not None:
            self.detectors.finish_all()
            self.engine.drain()
            self.source = None

    def produce(self, count: int, partition: int = 0, **producer: Any) -> None:
        """Write records, each of a time of its own."""
        from kafka import KafkaProducer

        # Of several addresses the client tries one at a time, and a dead one again and again.
        patient = {"bootstrap_timeout_ms": int(PATIENCE * 1000)} | producer
        with KafkaProducer(bootstrap_servers=self.kafka.bootstrap, linger_ms=5, **patient) as client:
            sent = []
            for _ in range(count):
                self.written += 1
                time = 1_700_000_000_000 + self.written
                sent.append(client.send(self.topic, b"1", partition=partition, timestamp_ms=time))
            for future in sent:
                future.get(PATIENCE)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Turn until a condition holds."""

        def turned() -> bool:
            self.engine.turn()
            self.detectors.finish_all()
            return bool(condition())

        eventually(turned, what)

    def judge(self, records: int) -> None:
        """Turn until as many records are on record, and their positions with Kafka."""
        self.until(lambda: self.judged() >= records, f"{records} records, not {self.judged()}")
        self.until(lambda: self.engine.positions() == self.engine._committed, "commits")

    def judged(self) -> int:
        """Flags on record; each record has one."""
        with self.ledger.view() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(t.flags)).scalar_one())

    def check(self, *, gaps: int = 0) -> Any:
        """Assert that each record written has one flag, and that the audit holds; returns its report."""
        with self.ledger.view() as connection:
            traces = Counter(connection.execute(sa.select(t.flags.c.trace_id)).scalars())
        assert set(traces.values()) <= {1}
        report = queries.verify(self.ledger)
        assert (report.problems, len(report.gaps)) == ([], gaps)
        return report

    def caught_up(self) -> bool:
        """Whether Kafka's own tool knows the position of the one partition, and that it is the end."""
        return self.kafka.group_lag(f"group-{self.topic}") == {(self.topic, 0): 0}

    def recreate(self, partitions: int = 1) -> None:
        """Delete the topic and make it anew."""
        self.kafka.delete_topic(self.topic)
        self.kafka.create_topic(self.topic, partitions, **self.configs)

    def counted(self, incident: Incident) -> int:
        """How often it happened."""
        return sum(each is incident for each, _, _ in self.observer.incidents)


@pytest.fixture
def install(apache_kafka: ApacheKafka) -> Iterator[Callable[..., Installation]]:
    """Makes installations on the shared broker, and ends them."""
    made: list[Installation] = []

    def make(kafka: ApacheKafka = apache_kafka, **keywords: Any) -> Installation:
        made.append(Installation(kafka, **keywords))
        return made[-1]

    yield make
    for each in made:
        each.stop()
        each.ledger.close()


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("length", [30, 150])
def test_a_topic_made_anew_is_read_from_its_start(
    install: Callable[..., Installation], length: int, *, running: bool
) -> None:
    """Shorter or longer than before, seen or not, all of it is judged, as new; so is what comes later."""
    here = install()
    here.start()
    here.produce(100)
    here.judge(100)
    if not running:
        here.stop()
    here.recreate()
    here.produce(length)
    if not running:
        here.start()
    here.judge(100 + length)
    here.start()
    here.produce(90)
    here.judge(190 + length)
    report = here.check()
    assert report.records == 190 + length
    assert len(report.incarnations) == here.counted(Incident.RECREATED) == 1
    here.until(here.caught_up, "the commit")


@pytest.mark.parametrize("length", [30, 150])
def test_a_topic_made_anew_between_two_fetches_is_read_from_its_start(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """The broker refuses a fetch of the topic as it was, even where no fetch was under way when it went."""
    monkeypatch.setattr(kafka_logs, "UNSEEN_SECONDS", float("inf"))
    here = install()
    here.start()
    here.produce(100)
    here.judge(100)
    time.sleep(2 * FETCH_WAIT_MS / 1000)  # so that the last fetch is answered
    here.recreate()
    here.produce(length)
    here.judge(100 + length)
    report = here.check()
    assert report.records == 100 + length
    assert len(report.incarnations) == here.counted(Incident.RECREATED) == 1


def test_a_topic_made_anew_with_fewer_partitions_is_read_whole(install: Callable[..., Installation]) -> None:
    """Its one partition is new, and so are those that are added again later."""
    here = install(partitions=3)
    here.start()
    for partition in range(3):
        here.produce(30, partition)
    here.judge(90)
    here.recreate(partitions=1)
    here.produce(50)
    here.judge(140)
    here.kafka.add_partitions(here.topic, 3)
    here.produce(40, 1)
    here.produce(10, 2)
    here.judge(190)
    assert here.check().records == 190


def test_without_ids_a_topic_is_told_by_the_record_before_the_position(
    install: Callable[..., Installation],
) -> None:
    """A broker that gives no ids is named, a restart repeats nothing, and a longer topic is read whole."""
    here = install()
    here.nameless = True
    here.start()
    here.produce(40)
    here.judge(40)
    here.start()
    here.produce(10)
    here.judge(50)
    here.stop()
    here.recreate()
    here.produce(80)
    here.start()
    here.judge(130)
    assert here.check().records == 130
    assert set(here.named) == {False}
    assert here.counted(Incident.RECREATED) == 1


def test_what_was_written_while_a_topic_is_made_anew_is_judged_once(
    install: Callable[..., Installation],
) -> None:
    """A topic that is deleted and written anew again and again, under a reader, loses and repeats nothing."""
    here = install()
    here.start()
    here.produce(5)
    here.judge(5)
    for nth in range(5):
        here.recreate()
        here.produce(20 + 5 * nth)  # longer each time, so that the old position always exists
        time.sleep(UNSEEN_SECONDS)  # as long as no topic is made anew and written to in practice
        here.judge(here.written)
    assert here.check().records == here.written


def test_a_move_to_the_start_of_a_new_topic_loses_no_alert(install: Callable[..., Installation]) -> None:
    """What stands at old offsets is new, whatever an operator does to have it judged."""
    here = install()
    here.start()
    here.produce(40)
    here.judge(40)
    here.stop()
    here.recreate()
    here.produce(30)
    here.ledger.move(here.topic, 0, 0, "the topic was made anew")
    here.start()
    here.judge(70)
    assert here.check().records == 70


def test_a_log_cut_off_by_an_unclean_election_is_read_from_the_cut() -> None:
    """Two brokers; what one alone had is lost: while running, and across a restart, what is new is judged."""
    quick = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
    unclean = quick | {"unclean.leader.election.enable": "true"}
    safe = unclean | {"offsets.topic.replication.factor": "2"}  # for the group, that is
    with (
        ApacheKafka(properties=unclean | {"process.roles": "controller"}) as controller,
        ApacheKafka(properties=safe, joins=controller) as first,
        ApacheKafka(properties=safe, joins=controller) as second,
    ):
        here = Installation(first, replicas=2)
        here.kafka = _Both(first, second)  # type: ignore[assignment] # as much of a broker as is asked for
        for restarted in (False, True):
            _cut_off(here, first, second, restarted=restarted)
        report = here.check()
        assert len(report.incarnations) == 2
        assert here.counted(Incident.TRUNCATED) == 2
        here.stop()
        here.ledger.close()


class _Both:
    """Two brokers as one address."""

    def __init__(self, first: ApacheKafka, second: ApacheKafka) -> None:
        self._first = first
        self.bootstrap = [first.bootstrap, second.bootstrap]

    def kafka(self, topic: str, **others: Any) -> dict[str, Any]:
        return self._first.kafka(topic, **others) | {"bootstrap_servers": self.bootstrap}


def _cut_off(here: Installation, first: ApacheKafka, second: ApacheKafka, *, restarted: bool) -> None:
    """Judge some, lose what the leader alone has, write more than was lost, and judge that."""
    here.start()
    here.produce(20)
    here.judge(here.judged() + 20)
    leader, follower = eventually(lambda: _in_step(here, first, second), "a follower that has all of it")
    follower.kill()
    eventually(lambda: _replicas(leader, here.topic) == 1, "the follower is out")
    here.produce(30, request_timeout_ms=60_000)
    here.judge(here.judged() + 30)
    if restarted:
        here.stop()
    leader.kill()
    follower.start()
    eventually(lambda: _replicas(follower, here.topic) == 1, "an unclean election")
    here.produce(50, request_timeout_ms=60_000)
    if restarted:
        here.start()
    here.judge(here.judged() + 50)
    leader.start()
    eventually(lambda: _replicas(follower, here.topic) == 2, "both are back")


def _in_step(here: Installation, first: ApacheKafka, second: ApacheKafka) -> tuple[ApacheKafka, ...]:
    """Leader and follower, while there is one of each."""
    with first.admin() as admin:
        (topic,) = admin.describe_topics([here.topic])
    partition = topic["partitions"][0]
    if partition["leader_id"] < 0 or len(partition["isr_nodes"]) < 2:
        return ()
    return (first, second) if partition["leader_id"] == first._number else (second, first)


def _replicas(broker: ApacheKafka, topic: str) -> int:
    """How many replicas are in step, as a live broker says; 0 without a leader that lives."""
    from kafka.errors import KafkaError

    try:
        with broker.admin(bootstrap_timeout_ms=3000) as admin:
            (found,) = admin.describe_topics([topic])
    except KafkaError:
        return 0
    partition = found["partitions"][0]
    leads = partition["leader_id"] >= 0 and not partition["error_code"]
    alone = len(partition["isr_nodes"]) > 1 or partition["leader_id"] == broker._number
    return len(partition["isr_nodes"]) if leads and alone else 0


def test_latest_holds_for_what_existed_at_the_first_start(install: Callable[..., Installation]) -> None:
    """A partition that is added later is read from its first record, also by a daemon that starts later."""
    here = install()
    here.produce(20)
    here.start(start="latest")
    here.until(here.engine.positions, "the partition")
    here.produce(10)
    here.judge(10)
    here.kafka.add_partitions(here.topic, 2)
    here.produce(30, 1)
    here.judge(40)
    here.stop()
    here.kafka.add_partitions(here.topic, 3)
    here.produce(30, 2)
    here.start(start="latest")
    here.judge(70)
    assert here.check().records == 70


def test_aborted_records_and_markers_are_passed(install: Callable[..., Installation]) -> None:
    """Kafka's own tools see no lag behind them, and retention over them while stopped is no gap."""
    from kafka import KafkaProducer, TopicPartition

    here = install()
    here.start()
    with KafkaProducer(bootstrap_servers=here.kafka.bootstrap, transactional_id=here.topic) as producer:
        producer.init_transactions()
        for nth in range(10):
            producer.begin_transaction()
            for _ in range(5):
                here.written += 1
                producer.send(here.topic, b"1", timestamp_ms=1_700_000_000_000 + here.written)
            producer.flush()
            (producer.abort_transaction if nth % 2 else producer.commit_transaction)()
    here.judge(25)
    end = 60  # records, aborted ones, and a marker per transaction
    here.until(lambda: here.engine.positions() == {(here.topic, 0): end}, "the end")
    here.until(lambda: here.engine._committed == {(here.topic, 0): end}, "the commit")
    here.stop()
    eventually(here.caught_up, "the commit")
    with here.kafka.admin() as admin:
        admin.delete_records({TopicPartition(here.topic, 0): end})
    here.start()
    here.produce(3)
    here.judge(28)
    assert here.check().records == 28


def test_a_move_is_followed_although_nothing_comes(install: Callable[..., Installation]) -> None:
    """A daemon that is idle reads again from where an operator has put the position."""
    here = install()
    here.start()
    here.produce(20)
    here.judge(20)
    before = here.engine.totals.recorded
    here.ledger.move(here.topic, 0, 5, "better rules")
    here.until(lambda: here.engine.totals.recorded == before + 15, "15 records once more")
    here.check()
    assert here.judged() == 20


def test_a_new_ledger_over_an_old_group_has_the_gap_on_record(install: Callable[..., Installation]) -> None:
    """What retention took since the group's commit is in metric and audit."""
    from kafka import TopicPartition

    here = install()
    here.start()
    here.produce(20)
    here.judge(20)
    here.stop()
    here.produce(20)
    with here.kafka.admin() as admin:
        admin.delete_records({TopicPartition(here.topic, 0): 30})
    here.ledger.close()
    here.ledger = Ledger.open("sqlite://", Vault(bytes(32)), SystemClock(), "d0")
    here.start()
    here.judge(10)
    assert here.check(gaps=1).gaps == [f"{here.topic}/0 offsets [20, 30): retention"]
    assert here.counted(Incident.GAP) == 1


def test_tombstones_of_a_compacted_topic_are_no_dead_letters(install: Callable[..., Installation]) -> None:
    """They are passed over."""
    from kafka import KafkaProducer

    here = install(cleanup_policy="compact")
    here.start()
    with KafkaProducer(bootstrap_servers=here.kafka.bootstrap) as producer:
        for key in (b"a", b"b"):
            producer.send(here.topic, None, key=key)
            producer.send(here.topic, b"1", key=key, timestamp_ms=1_700_000_000_000 + ord(key))
    here.judge(2)
    assert (here.check().records, queries.letters(here.ledger)) == (4, [])


def test_positions_know_topic_and_epoch(install: Callable[..., Installation]) -> None:
    """The ledger keeps the topic's id and the leader's epoch, and Kafka's commit has that epoch, too."""
    from kafka import TopicPartition

    here = install()
    here.start()
    here.produce(3)
    here.judge(3)
    here.stop()
    with here.ledger.view() as connection:
        row = connection.execute(sa.select(t.positions)).one()
    with here.kafka.admin() as admin:
        (topic,) = admin.describe_topics([here.topic])
        group = f"group-{here.topic}"
        offsets = admin.list_group_offsets([group])[group]
    assert (row.topic_id, row.leader_epoch) == (str(topic["topic_id"]), 0)
    assert offsets[TopicPartition(here.topic, 0)].leader_epoch == 0
