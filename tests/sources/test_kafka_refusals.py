"""What Apache Kafka refuses: named with its remedy by check, doctor and run, and waited for."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import structlog
from click.testing import CliRunner
from contracts.source import Seen, poll_until
from daemons import Daemon, cheap, value_of
from patience import PATIENCE, eventually
from secured_kafka import PASSWORD, Authority, SecuredKafka
from structlog.testing import capture_logs

from monitor.cli import riskmon
from monitor.clock import Deadline, SystemClock
from monitor.config import DetectorsConfig, KafkaConfig
from monitor.errors import ConfigError
from monitor.events import Denial, Right
from monitor.sources.kafka import KafkaSource
from monitor.sources.kafka_diagnosis import Outage
from monitor.telemetry.logging import PER_MINUTE

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:(read|open)_text is deprecated:DeprecationWarning"),
    # kafka-python leaves the socket of a failed handshake to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
]
_NUMBERS = itertools.count()
Section: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A broker of these tests' own."""
    with SecuredKafka(tmp_path_factory.mktemp("secured")) as running:
        yield running


def topic_of(kafka: SecuredKafka, partitions: int = 1) -> str:
    """Make a topic of a name not used before."""
    name = f"topic-{next(_NUMBERS)}"
    kafka.create_topic(name, partitions)
    return name


def produce(kafka: SecuredKafka, topic: str, *values: bytes) -> None:
    """Write as somebody who may."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=kafka.inner)
    for value in values:
        producer.send(topic, value)
    producer.flush()
    producer.close()


def source_of(section: Section, denials: list[tuple[Denial, bool]] | None = None) -> KafkaSource:
    """A source as the daemon has it."""
    told = [] if denials is None else denials
    return KafkaSource(
        KafkaConfig(**section),
        SystemClock(),
        client_id="test",
        log=structlog.get_logger(),
        on_denial=lambda denial, begins: told.append((denial, begins)),
    )


def wrong_password(kafka: SecuredKafka, _: Path) -> Section:
    """A password that is not the user's."""
    return kafka.login("t", sasl_password="wrong")


def wrong_mechanism(kafka: SecuredKafka, _: Path) -> Section:
    """A mechanism that the broker does not offer."""
    return kafka.login("t", sasl_mechanism="SCRAM-SHA-512")


def login_without_need(kafka: SecuredKafka, _: Path) -> Section:
    """A login where the broker knows none."""
    return kafka.login("t", bootstrap_servers=[kafka.inner])


def no_login(kafka: SecuredKafka, _: Path) -> Section:
    """Plain text where the broker wants a login."""
    return {"bootstrap_servers": [kafka.bootstrap], "topics": ["t"]}


def plain_to_tls(kafka: SecuredKafka, _: Path) -> Section:
    """Plain text where the broker wants TLS."""
    return {"bootstrap_servers": [kafka.addresses["TLS"]], "topics": ["t"]}


def tls_to_plain(kafka: SecuredKafka, _: Path) -> Section:
    """TLS where the broker speaks plain text."""
    return kafka.tls("TLS", "t", bootstrap_servers=[kafka.inner])


def another_authority(kafka: SecuredKafka, folder: Path) -> Section:
    """An authority that did not sign the broker's certificate."""
    return kafka.tls("TLS", "t", ssl_cafile=str(Authority(folder, "other").certificate))


def another_host(kafka: SecuredKafka, _: Path) -> Section:
    """A broker with the certificate of another host."""
    return kafka.tls("STRANGE", "t")


def outdated(kafka: SecuredKafka, _: Path) -> Section:
    """A broker whose certificate has run out."""
    return kafka.tls("EXPIRED", "t")


def no_certificate(kafka: SecuredKafka, _: Path) -> Section:
    """No certificate where the broker wants one."""
    return kafka.tls("MUTUAL", "t")


def unknown_certificate(kafka: SecuredKafka, folder: Path) -> Section:
    """A certificate that nobody the broker knows has signed."""
    files = Authority(folder, "stranger").issue("client")
    return kafka.tls("MUTUAL", "t", ssl_certfile=str(files.certificate), ssl_keyfile=str(files.key))


def nobody_there(_: SecuredKafka, __: Path) -> Section:
    """A port at which nothing listens."""
    return {"bootstrap_servers": ["127.0.0.1:1"], "topics": ["t"]}


def no_such_name(_: SecuredKafka, __: Path) -> Section:
    """A name that does not resolve."""
    return {"bootstrap_servers": ["broker.invalid:9092"], "topics": ["t"]}


REFUSED: Mapping[Callable[[SecuredKafka, Path], Section], tuple[Outage, str]] = {
    wrong_password: (Outage.LOGIN_REFUSED, "kafka.sasl_password"),
    wrong_mechanism: (Outage.MECHANISM_REFUSED, "kafka.sasl_mechanism"),
    login_without_need: (Outage.NO_LOGIN_THERE, "kafka.security_protocol"),
    no_login: (Outage.CLOSED_UNANSWERED, "TLS or a login; check kafka.security_protocol"),
    plain_to_tls: (Outage.TLS_THERE, "the broker speaks TLS there: check kafka.security_protocol"),
    tls_to_plain: (Outage.NO_TLS_THERE, "kafka.security_protocol"),
    another_authority: (Outage.CERTIFICATE_UNTRUSTED, "kafka.ssl_cafile"),
    another_host: (Outage.CERTIFICATE_OF_ANOTHER_HOST, "kafka.bootstrap_servers"),
    outdated: (Outage.CERTIFICATE_OUTDATED, "renew it"),
    no_certificate: (Outage.CLIENT_CERTIFICATE_REFUSED, "kafka.ssl_certfile"),
    unknown_certificate: (Outage.CLIENT_CERTIFICATE_REFUSED, "kafka.ssl_certfile"),
    nobody_there: (Outage.CONNECTION_REFUSED, "nothing listens there"),
    no_such_name: (Outage.NAME_UNKNOWN, "kafka.bootstrap_servers"),
}


def checked(folder: Path, kafka: Section, command: str = "check", **others: Any) -> tuple[int, list[Any]]:
    """Exit code and findings about Kafka of `riskmon check` or `doctor`."""
    path = folder / f"{command}.yaml"
    deliver = {"feedback_topic": "", **others}
    own = {"data_dir": str(folder / "data"), "kafka": kafka, "deliver": deliver, "http": {"port": 1}}
    path.write_text(json.dumps(own), encoding="utf-8")
    done = CliRunner().invoke(riskmon, [command, "--config", str(path), "--json"], catch_exceptions=False)
    about = ("broker", "topic", "right", "feedback", "verdicts")
    findings = json.loads(done.stdout)["findings"]
    return done.exit_code, [each for each in findings if each["subject"].startswith(about)]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda make: make.__name__)
def test_a_refused_connection_is_named_with_its_remedy(
    kafka: SecuredKafka,
    tmp_path: Path,
    refused: Callable[[SecuredKafka, Path], Section],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`check` and `doctor` fail with the cause and the setting; `run` says the same, and waits."""
    section = refused(kafka, tmp_path)
    reason, remedy = REFUSED[refused]
    for command, code in (("check", 78), ("doctor", 1)):
        exited, (finding,) = checked(tmp_path, section, command)
        assert (exited, finding["state"]) == (code, "failed")
        assert reason.replace("_", " ") in finding["detail"]
        assert remedy in finding["detail"]

    before = set(threading.enumerate())
    monkeypatch.setattr("monitor.sources.kafka_diagnosis.CAUSE_SECONDS", PATIENCE)
    source = source_of(section)
    with capture_logs() as logs:
        deadline = Deadline(SystemClock(), PATIENCE)
        while not any(line["event"] == "kafka_unreachable" for line in logs):
            assert source.poll(0.2, 1) == ()
            assert not deadline.expired()
    (line,) = logs
    assert (line["event"], line["cause"]) == ("kafka_unreachable", reason)
    assert remedy in line["remedy"]
    assert not source.health()["group_member"]
    source.close({}, 1.0)
    # Here, where its warnings are expected, the library drops the sockets of failed handshakes.
    eventually(lambda: set(threading.enumerate()) <= before, "an end of the client's threads")


def test_a_login_that_cannot_be_tried_ends_a_daemon_before_it_starts(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    """No waiting helps a mechanism that the client does not know, or a login without a password: exit 78."""
    for change, message in {
        ("sasl_mechanism", "KERBEROS"): "kafka.sasl_mechanism: KERBEROS; with SASL_PLAINTEXT it is one of",
        ("sasl_mechanism", "OAUTHBEARER"): "kafka.sasl_mechanism: OAUTHBEARER",
        ("sasl_mechanism", None): "kafka.sasl_mechanism: missing",
        ("sasl_password", None): "kafka.sasl_password: missing; PLAIN wants it",
        ("client", ("group_protocol", "consumer")): "kafka.client.group_protocol",
    }.items():
        key, value = change
        section = kafka.login("t") | {key: dict([value]) if isinstance(value, tuple) else value}
        with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
            source_of(section)
        code, (finding,) = checked(tmp_path, section)
        assert code == 78
        assert message in finding["detail"]


def test_one_dead_server_among_good_ones_is_pointed_out_and_no_failure(
    kafka: SecuredKafka, tmp_path: Path
) -> None:
    """As `run` needs one that answers, so does `check`; the dead one is named."""
    topic = topic_of(kafka)
    for servers in (["127.0.0.1:1", kafka.inner], [kafka.inner, "broker.invalid:9092"]):
        code, findings = checked(tmp_path, {"bootstrap_servers": servers, "topics": [topic]})
        dead = next(server for server in servers if server != kafka.inner)
        assert code == 0
        assert [(each["subject"], each["state"]) for each in findings] == [
            (f"broker {dead}", "missing"),
            (f"topic {topic}", "ok"),
        ]


def test_a_server_may_have_an_ipv6_address(kafka: SecuredKafka, tmp_path: Path) -> None:
    """`[::1]:port` is dialled as kafka-python does."""
    if "SIX" not in kafka.addresses:
        pytest.skip("this machine has no IPv6 loopback")
    topic = topic_of(kafka)
    code, (finding,) = checked(tmp_path, {"bootstrap_servers": [kafka.addresses["SIX"]], "topics": [topic]})
    assert (code, finding["state"]) == (0, "ok")


def test_what_is_missing_is_told_from_what_is_denied(kafka: SecuredKafka, tmp_path: Path) -> None:
    """Topics that are read and written, the group: each is said to be denied, with the right, or missing."""
    mine, denied, out = topic_of(kafka), topic_of(kafka), topic_of(kafka)
    kafka.allow("READ", "TOPIC", mine)
    kafka.allow("READ", "TOPIC", "nowhere")
    kafka.allow("READ", "TOPIC", "not-there")
    group = f"group-{mine}"
    section = kafka.login(mine, denied, "nowhere", group_id=group)
    outputs = {"feedback_topic": out, "verdicts_topic": "not-there"}
    code, findings = checked(tmp_path, section, **outputs)
    said = {each["subject"]: (each["state"], each["detail"]) for each in findings}
    assert code == 78
    assert {subject: state for subject, (state, _) in said.items()} == {
        f"right to group {group}": "failed",
        f"topic {mine}": "ok",
        f"topic {denied}": "failed",
        "topic nowhere": "missing",
        "feedback topic": "failed",
        "verdicts topic": "missing",
    }
    for subject, command in {
        f"right to group {group}": f"--operation Read --group {group}",
        f"topic {denied}": f"--operation Read --topic {denied}",
        "feedback topic": f"--operation Write --topic {out}",
    }.items():
        assert said[subject][1].endswith(f"kafka-acls --add --allow-principal User:reader {command}")
    assert said["verdicts topic"][1].startswith("not-there does not exist")

    kafka.allow("READ", "GROUP", group)
    kafka.allow("READ", "TOPIC", denied)
    kafka.allow("WRITE", "TOPIC", out)
    code, findings = checked(tmp_path, section, **outputs)
    states = Counter(each["state"] for each in findings)
    assert (code, states) == (0, {"ok": 3, "missing": 2})
    code, findings = checked(tmp_path, section, "doctor", **outputs)
    assert (code, [each["subject"] for each in findings if each["state"] == "failed"]) == (
        1,
        ["verdicts topic"],
    )


class Rights:
    """Two topics, a group, and a source that reads them as somebody with rights."""

    def __init__(self, kafka: SecuredKafka) -> None:
        self.kafka = kafka
        self.one, self.other = topic_of(kafka), topic_of(kafka)
        self.group = f"group-{self.one}"
        self.denials: list[tuple[Denial, bool]] = []
        self.seen = Seen()
        self.logs: list[Any] = []
        self._source: KafkaSource | None = None

    @property
    def source(self) -> KafkaSource:
        """Opened when it is first wanted."""
        if self._source is None:
            section = self.kafka.login(self.one, self.other, group_id=self.group)
            self._source = source_of(section, self.denials)
        return self._source

    def until(self, done: Callable[[], bool]) -> None:
        """Poll, and begin what is assigned where it was left, as the engine does."""

        def and_seek() -> bool:
            for key in [key for key in self.seen.assigned if key not in begun]:
                begun.append(key)
                self.source.seek(*key, len(self.seen.values(key)))
            return done()

        begun: list[Any] = []
        self.seen.assigned.clear()
        poll_until(self.source, self.seen, and_seek)

    def until_refused(self, denial: Denial) -> None:
        """Poll until two trials of what is denied have been refused."""
        dues: set[float] = set()  # each refusal puts the next trial off

        def tried() -> bool:
            state = self.source._rights._denied.get(denial)
            dues.update([state.due] if state else [])
            return len(dues) > 2

        poll_until(self.source, self.seen, tried)

    def count(self, topic: str) -> int:
        """How many records of a topic came."""
        return len({(record.topic, record.offset) for record in self.seen.records if record.topic == topic})


@pytest.fixture
def rights(kafka: SecuredKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rights]:
    """With a record in each topic, and no right to anything."""
    monkeypatch.setattr("monitor.sources.kafka_rights.TRY_SECONDS", 1.0)
    monkeypatch.setattr("monitor.sources.kafka_rights.TRIAL_SECONDS", 10.0)  # a late refusal is one, too
    made = Rights(kafka)
    for topic in (made.one, made.other):
        produce(kafka, topic, b"first")
    yield made
    made.source.close({}, 5.0)


@pytest.mark.slow
def test_a_topic_without_rights_at_the_start_keeps_no_other_from_being_read(rights: Rights) -> None:
    """It is named, and read as soon as it may be; the other is read all the while."""
    rights.kafka.allow("READ", "GROUP", rights.group)
    rights.kafka.allow("READ", "TOPIC", rights.one)
    denial = Denial(Right.READ_TOPIC, rights.other)
    rights.until(lambda: rights.count(rights.one) == 1 and bool(rights.denials))
    assert rights.denials == [(denial, True)]
    assert not rights.source.health()["kafka_authorized"]
    rights.kafka.allow("READ", "TOPIC", rights.other)
    rights.until(lambda: rights.count(rights.other) == 1 and rights.source.health()["kafka_authorized"])
    assert rights.denials == [(denial, True), (denial, False)]


@pytest.mark.slow
@pytest.mark.parametrize("describe", [False, True], ids=["read only", "describe stays"])
def test_a_topic_that_may_no_longer_be_read_is_waited_for(rights: Rights, *, describe: bool) -> None:
    """Only that topic stops; it is named, tried again, and goes on where it was when the right is back."""
    for kind, name in (("GROUP", rights.group), ("TOPIC", rights.one), ("TOPIC", rights.other)):
        rights.kafka.allow("READ", kind, name)
    if describe:
        rights.kafka.allow("DESCRIBE", "TOPIC", rights.one)
    rights.until(lambda: rights.count(rights.one) == rights.count(rights.other) == 1)
    assert rights.source.health() == dict.fromkeys(rights.source.health(), True)

    rights.kafka.withdraw("READ", "TOPIC", rights.one)
    denial = Denial(Right.READ_TOPIC, rights.one)
    with capture_logs() as logs:
        rights.until(lambda: bool(rights.denials))
        produce(rights.kafka, rights.one, b"second")
        produce(rights.kafka, rights.other, b"second")
        rights.until(lambda: rights.count(rights.other) == 2)
        rights.until_refused(denial)
    assert rights.denials == [(denial, True)]
    assert rights.count(rights.one) == 1
    (line,) = [line for line in logs if line["event"] == "kafka_denied"]
    assert line["remedy"].endswith(f"--allow-principal User:reader --operation Read --topic {rights.one}")

    rights.kafka.allow("READ", "TOPIC", rights.one)
    rights.until(lambda: rights.count(rights.one) == 2 and rights.source.health()["kafka_authorized"])
    assert rights.denials == [(denial, True), (denial, False)]


@pytest.mark.slow
@pytest.mark.parametrize("describe", [False, True], ids=["read only", "describe stays"])
def test_a_group_that_may_no_longer_be_used_is_waited_for(rights: Rights, *, describe: bool) -> None:
    """Nothing is raised: the right is named, and reading goes on when it is back."""
    for kind, name in (("GROUP", rights.group), ("TOPIC", rights.one), ("TOPIC", rights.other)):
        rights.kafka.allow("READ", kind, name)
    if describe:
        rights.kafka.allow("DESCRIBE", "GROUP", rights.group)
    rights.until(lambda: rights.count(rights.one) == rights.count(rights.other) == 1)

    rights.kafka.withdraw("READ", "GROUP", rights.group)
    rights.until(lambda: bool(rights.denials))
    produce(rights.kafka, rights.one, b"second")
    rights.until_refused(Denial(Right.READ_GROUP))
    assert rights.denials == [(Denial(Right.READ_GROUP), True)]
    assert not rights.source.health()["kafka_authorized"]

    rights.kafka.allow("READ", "GROUP", rights.group)
    rights.until(lambda: rights.count(rights.one) == 2 and rights.source.health()["kafka_authorized"])
    assert rights.denials == [(Denial(Right.READ_GROUP), True), (Denial(Right.READ_GROUP), False)]


def daemon_of(folder: Path, kafka: Section) -> Daemon:
    """A real daemon with two cheap detectors."""
    own = {
        "instance": "one",
        "data_dir": str(folder / "data"),
        "kafka": kafka,
        "pool": {"workers": 1},
        "detectors": {name: cheap().get(name, {"enabled": False}) for name in DetectorsConfig.model_fields},
        "deliver": {"feedback_topic": ""},
        "http": {"port": 0},
    }
    path = folder / "one.yaml"
    path.write_text(json.dumps(own), encoding="utf-8")
    return Daemon("one", path).start()


@pytest.mark.slow
def test_a_daemon_names_a_denied_topic_and_judges_the_others(kafka: SecuredKafka, tmp_path: Path) -> None:
    """Metric, condition and log say it; given the right, the daemon is ready and has judged all."""
    allowed, denied = topic_of(kafka), topic_of(kafka)
    for topic in (allowed, denied):
        produce(kafka, topic, *map(value_of, range(10)))
    group = f"group-{allowed}"
    kafka.allow("READ", "GROUP", group)
    kafka.allow("READ", "TOPIC", allowed)
    daemon = daemon_of(tmp_path, kafka.login(allowed, denied, group_id=group))
    try:
        eventually(lambda: daemon.health().get("kafka_authorized") is False, "a condition that says it")
        eventually(lambda: daemon.metric("riskmon_records_recorded_total") == 10, "the other topic")
        assert daemon.samples("riskmon_kafka_denied", f'topic="{denied}"') == [1.0]
        kafka.allow("READ", "TOPIC", denied)
        eventually(daemon.ready, "ready once it is allowed")
        eventually(lambda: daemon.metric("riskmon_records_recorded_total") == 20, "all records")
        assert daemon.samples("riskmon_kafka_denied", f'topic="{denied}"') == [0.0]
        assert daemon.stop()[0] == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()
    told = [event for event in daemon.events() if event["event"] in ("kafka_denied", "kafka_allowed")]
    assert [(event["event"], event["topic"]) for event in told] == [
        ("kafka_denied", denied),
        ("kafka_allowed", denied),
    ]


@pytest.mark.slow
def test_an_outage_is_a_line_at_its_beginning_and_one_at_its_end(tmp_path: Path) -> None:
    """Nothing else is said of connections; of the library's other messages a few a minute pass, filled in."""
    with SecuredKafka(tmp_path) as kafka:
        topic = topic_of(kafka)
        kafka.allow("READ", "GROUP", "riskmon")
        kafka.allow("READ", "TOPIC", topic)
        daemon = daemon_of(tmp_path, kafka.login(topic))
        try:
            eventually(daemon.ready, "ready")
            kafka.kill()
            eventually(lambda: "kafka_unreachable" in names(daemon), "the outage is told of")
            threading.Event().wait(15)
            kafka.start()
            eventually(daemon.ready, "ready again")
            assert daemon.alive
        finally:
            daemon.process.kill()
            daemon.process.wait()
    told = names(daemon)
    assert [told[event] for event in ("kafka_unreachable", "kafka_connected")] == [1, 2]
    (away,) = [event for event in daemon.events() if event["event"] == "kafka_unreachable"]
    assert away["cause"] == Outage.CONNECTION_REFUSED
    foreign = [event for event in daemon.events() if event["event"] == "third_party"]
    assert max(Counter((event["line"]) for event in foreign).values()) <= 2 * PER_MINUTE
    assert not [event for event in foreign if "%s" in event.get("message", "")]
    assert not [event for event in foreign if event["logger"].startswith(("kafka.net", "kafka.cluster"))]
    assert PASSWORD not in daemon.log.read_text().split()


def names(daemon: Daemon) -> Counter[str]:
    """How often each event was logged."""
    return Counter(event["event"] for event in daemon.events())
