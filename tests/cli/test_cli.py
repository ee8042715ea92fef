"""The command line: exit codes, machine-readable output, and what each command does."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click
import jsonschema
import pytest
import sqlalchemy as sa
from apache_kafka import ApacheKafka
from click.testing import CliRunner
from external import need_module
from ledgers import stocked, transaction

from monitor import __version__, cli
from monitor.cli import main
from monitor.clock import SystemClock
from monitor.config import Config, load, settings
from monitor.demo.traffic import TrafficGenerator
from monitor.events import Assigned
from monitor.ledger import schema as t
from monitor.ledger.claims import Claim
from monitor.ledger.spool import LedgerSpool
from monitor.ledger.store import Ledger
from monitor.outcome.transaction import Claimed
from monitor.privacy.vault import Vault
from monitor.progress import Mark
from monitor.records import DeadLetter
from monitor.spool import Received, spool_topic

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

HELP_SECONDS = 0.5


class Answer(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)


Call = Callable[..., Answer]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process, its data in a fresh folder; keyword arguments are variables."""
    for name in [name for name in os.environ if name.startswith("RISKMON_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RISKMON_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: object, **variables: str) -> Answer:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["riskmon", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        for name in variables:
            monkeypatch.delenv(name)
        return Answer(code, *capfd.readouterr())

    return run


class Stock(NamedTuple):
    """A ledger with three flagged traces, two dead letters (one of them no text) and where it is."""

    config: Config
    ledger: Ledger


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    """A ledger as a daemon leaves it, where `call` looks for it."""
    config = load(None, {"RISKMON_DATA_DIR": str(tmp_path / "data")})
    letters = [("invalid_json", b"{broken"), ("invalid_utf8", b"\xff\x00")]
    ledger = stocked(config, [("How?", "Grüße")] * 3, letters, "k")
    yield Stock(config, ledger)
    ledger.close()


def test_every_command_is_listed_with_its_own_words() -> None:
    """The help lists each module that holds a command, with the beginning of what that says of itself."""
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    holding = {name for name in modules if hasattr(import_module(f"monitor.cli.{name}"), "command")}
    assert holding == set(cli.COMMANDS)
    listed = CliRunner().invoke(cli.riskmon, ["--help"], terminal_width=120).output
    for name, line in cli.COMMANDS.items():
        own = cli.riskmon.get_command(click.Context(cli.riskmon), name)
        assert own is not None
        assert (own.help or "").startswith(line.split(";")[0].rstrip("."))
        assert line in listed


def test_help_answers_at_once() -> None:
    """`riskmon --help` takes less than half a second of processor time, interpreter included."""
    code = (
        "import os, runpy, sys\nsys.argv = ['riskmon', '--help']\n"
        "try:\n    runpy.run_module('monitor', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "times = os.times()\nprint(times.user + times.system)\n"
    )
    took = []
    for _ in range(5):
        output = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        assert "Judge LLM traces from Kafka or OTLP/HTTP" in output
        took.append(float(output.splitlines()[-1]))
    assert statistics.median(took) < HELP_SECONDS


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["version"], 0), (["--help"], 0), (["nonsense"], 2), (["audit", "verify"], 78), (["run", "--nope"], 2)],
)
def test_exit_codes_of_the_process(tmp_path: Path, arguments: list[str], code: int) -> None:
    """The process itself ends with the code: 0, 2 for wrong usage, 78 for configuration."""
    environment = {**os.environ, "RISKMON_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "monitor", *arguments]
    ended = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
    assert ended.returncode == code
    assert b"Traceback" not in ended.stderr


def test_version(call: Call) -> None:
    """The version, for people and machines."""
    assert call("version") == (0, f"riskmon {__version__}\n", "")
    assert call("version", "--json").json() == {"version": __version__}


@pytest.mark.parametrize("command", [["run"], ["audit", "verify"], ["scan", "-"], ["dlq", "list"]])
def test_an_unknown_variable_stops_every_command(call: Call, command: list[str]) -> None:
    """A mistyped variable is named with the nearest setting; nothing starts."""
    answer = call(*command, RISKMON_KAFKA_TOPIC="x")
    assert answer.code == 78
    assert "did you mean RISKMON_KAFKA_TOPICS?" in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("kafka: [", "not valid YAML"),
        ("kafka: {topic: [a]}", "kafka.topic: no such setting"),
        ("rules: {paths: [/no/such/rules]}", "/no/such/rules"),
        ("deliver: {webhooks: [{url: 'http://example.org/'}]}", "deliver.webhooks"),
        ("ledger: {url: nonsense}", "ledger.url"),
        ("detectors: {pii: {factory: 'no.such:thing'}}", "detectors.pii.factory"),
        ("detectors: {pii: {options: {spacy_model: no_such}}}", "spacy_model"),
        (
            "kafka: {bootstrap_servers: ['127.0.0.1:1']}",
            "127.0.0.1:1 cannot be used: connection refused;",
        ),
        (
            "kafka: {bootstrap_servers: [nonsense]}",
            "nonsense cannot be used: name unknown; the name",
        ),
    ],
)
def test_what_cannot_run_is_found_by_check(call: Call, tmp_path: Path, yaml: str, message: str) -> None:
    """`check` exits 78 for whatever would keep the daemon from working, and says what it is."""
    path = tmp_path / "riskmon.yaml"
    path.write_text(yaml, encoding="utf-8")
    answer = call("check", "--config", path, "--json")
    assert answer.code == 78
    report = answer.json()
    assert report["ok"] is False
    failed = [finding["detail"] for finding in report["findings"] if finding["state"] == "failed"]
    assert any(message in detail for detail in failed), failed


def test_a_model_that_was_changed_is_found(call: Call, tmp_path: Path) -> None:
    """A checkpoint whose digest is another one is never loaded: exit 78."""
    for library in ("detoxify", "torch", "transformers"):
        need_module(library)
    checkpoint = tmp_path / "toxic.ckpt"
    checkpoint.write_bytes(b"not what was pinned")
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "bert"}', encoding="utf-8")
    options = json.dumps({"checkpoint": str(checkpoint), "config": str(tmp_path), "sha256": "0" * 64})
    answer = call("check", "--offline", "--json", RISKMON_DETECTORS_TOXICITY_OPTIONS=options)
    assert answer.code == 78
    failed = [finding for finding in answer.json()["findings"] if finding["state"] == "failed"]
    (finding,) = failed
    assert "toxicity.options.sha256" in finding["detail"]
    assert "pin the digest" in finding["detail"]


def test_a_model_that_is_gone_is_found_and_keeps_nobody_from_starting(call: Call, tmp_path: Path) -> None:
    """`check` exits 0 and names the setting, and what is missed without that tier."""
    options = {"checkpoint": str(tmp_path / "gone.ckpt"), "config": str(tmp_path), "sha256": "0" * 64}
    variable = {"RISKMON_DETECTORS_TOXICITY_OPTIONS": json.dumps(options)}
    answer = call("check", "--offline", "--json", **variable)
    assert answer.code == 0
    missing = {f["subject"]: f["detail"] for f in answer.json()["findings"] if f["state"] == "missing"}
    assert missing["model"].startswith("detectors.toxicity.options.checkpoint: ")
    assert "toxicity tier 2" in missing


@contextlib.contextmanager
def default_topic(kafka: ApacheKafka) -> Iterator[None]:
    """The topic that riskmon reads without a configuration, for as long as the block runs."""
    kafka.create_topic("llm.traces", 1)
    yield
    kafka.delete_topic("llm.traces")


def test_check_finds_everything_in_order(call: Call, apache_kafka: ApacheKafka) -> None:
    """With a broker that answers, exit 0, and one finding per subject with its state and detail."""
    servers = json.dumps([apache_kafka.bootstrap])
    before = call("check", "--json", RISKMON_KAFKA_BOOTSTRAP_SERVERS=servers)
    with default_topic(apache_kafka):
        answer = call("check", "--json", RISKMON_KAFKA_BOOTSTRAP_SERVERS=servers)
        text = call("check", RISKMON_KAFKA_BOOTSTRAP_SERVERS=servers)
    assert (before.code, answer.code, text.code) == (0, 0, 0)
    findings = {finding["subject"]: finding for finding in answer.json()["findings"]}
    assert {"configuration", "rules", "pii tier 0", "toxicity tier 0", "deliver", "ledger"} <= findings.keys()
    assert "in a worker alone: " in findings["patterns"]["detail"]
    assert {finding["state"] for finding in findings.values()} <= {"ok", "missing"}
    assert all(finding["detail"] for finding in findings.values() if finding["state"] == "missing")
    missing = {f["subject"]: f["state"] for f in before.json()["findings"]}
    assert (missing["topic llm.traces"], findings["topic llm.traces"]["state"]) == ("missing", "ok")
    assert findings["unread partitions"]["state"] == "ok"
    assert text.out.endswith("riskmon can run\n")


def test_check_names_agents_of_policies_that_are_hashed_when_read(call: Call, tmp_path: Path) -> None:
    """A glob for names that are hashed is said to match nothing; names without a wildcard are kept."""
    policies = {
        "Math Tutor": {},
        "hotline 0800 123 4567": {},
        "of jane.roe@example.com*": {"allow": ["find 1*"]},
    }
    options = {"agents": policies}
    path = tmp_path / "policies.yaml"
    path.write_text(json.dumps({"detectors": {"agent": {"options": options}}}))
    found = {
        each["subject"]: each for each in call("check", "--json", "--config", str(path)).json()["findings"]
    }
    said = found["agent policies"]
    assert said["state"] == "missing"
    assert "jane.roe@example.com" in said["detail"]
    assert "Math Tutor" not in said["detail"]
    assert "hotline" not in said["detail"]


def test_check_lists_every_setting(call: Call) -> None:
    """Every setting with its variable, default and description, also where nothing is configured."""
    rows = call("check", "--settings", "--json").json()
    assert [(row["setting"], row["variable"]) for row in rows] == [(s[0], s[1]) for s in settings()]
    text = call("check", "--settings").out
    assert all(f"{setting} ({variable}) =" in text for setting, variable, _, _ in settings())


RECEIVING = {"RISKMON_RECEIVER_ENABLED": "true", "RISKMON_INSTANCE": "one"}
WITHOUT_KAFKA = {"RISKMON_KAFKA_TOPICS": "[]", "RISKMON_DELIVER_FEEDBACK_TOPIC": ""}


def spooled(stock: Stock, instance: str, values: list[bytes]) -> LedgerSpool:
    """A spool with what an instance received."""
    vault = Vault.open_or_make(stock.config.data_dir / "riskmon.key")
    topic = spool_topic("traces", instance)
    spool = LedgerSpool(stock.ledger, vault, (topic,), max_records=100, max_bytes=10_000)
    spool.append([Received(topic, 60.0, "application/json", value) for value in values])
    return spool


def test_check_tells_of_the_receiver_and_of_spools_nobody_reads(call: Call, stock: Stock) -> None:
    """Its address, what waits for this instance, and whose name a daemon needs to judge the rest."""
    spooled(stock, "one", [b"{}"] * 2)
    spooled(stock, "gone", [b"{}"])
    answer = call("check", "--json", **RECEIVING, **WITHOUT_KAFKA)
    found = {finding["subject"]: finding for finding in answer.json()["findings"]}
    assert answer.code == 0
    assert "broker" not in found
    assert found["receiver"]["detail"] == "OTLP/HTTP at 127.0.0.1:4318, no token"
    ours, theirs = found["spool otlp.traces@one"], found["spool otlp.traces@gone"]
    assert (ours["state"], ours["detail"]) == (
        "ok",
        "2 bodies, 4 bytes, the oldest of 1970-01-01T00:01:00+00:00",
    )
    assert theirs["state"] == "missing"
    assert "`instance: gone`" in theirs["detail"]


def test_check_tells_of_grpc_and_of_its_library(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be on without HTTP; without grpcio the daemon would not start, and the line says what to do."""
    grpc = {"RISKMON_RECEIVER_GRPC_ENABLED": "true", "RISKMON_RECEIVER_TOKEN": "t" * 16}

    def look() -> tuple[int, dict[str, Any]]:
        answer = call("check", "--json", **grpc, **WITHOUT_KAFKA)
        return answer.code, {finding["subject"]: finding for finding in answer.json()["findings"]}

    code, found = look()
    assert (code, found["gRPC receiver"]["state"]) == (0, "ok")
    assert found["gRPC receiver"]["detail"] == "OTLP/gRPC at 127.0.0.1:4317, with a token"
    assert "receiver" not in found
    monkeypatch.setitem(sys.modules, "grpc", None)
    code, found = look()
    assert (code, found["gRPC receiver"]["state"]) == (78, "failed")
    assert "pip install model-risk-monitor[grpc]" in found["gRPC receiver"]["detail"]


def test_no_topic_and_no_receiver_is_nothing_to_do(call: Call) -> None:
    """A daemon that reads nothing is a mistake, and the message says what to set."""
    answer = call("check", "--offline", **WITHOUT_KAFKA)
    assert answer.code == 78
    assert "receiver.enabled" in answer.out


def test_spools_are_listed_and_dead_letters_go_back_into_theirs(call: Call, stock: Stock) -> None:
    """A letter that was received is requeued into its instance's spool, where a running daemon finds it."""
    spool = spooled(stock, "one", [b"{}"])
    topic = spool.topics[0]
    claim = stock.ledger.claim(Assigned(topic, 0, 0, 0, 1), latest=False)
    assert isinstance(claim, Claim)
    letter = DeadLetter(
        topic=topic,
        partition=0,
        offset=0,
        time=2.0,
        reason="invalid_json",
        detail="",
        key=None,
        value=b"{}",
        headers=(("content-type", b"application/json"),),
    )
    mark = Claimed(claim.epoch, claim.version, Mark(1))
    stock.ledger.record(transaction({(topic, 0): mark}, letters=[letter]))
    assert call("spool", "list", "--json").json() == []
    assert call("dlq", "requeue", "3", **RECEIVING).out == "1 requeued\n"
    (row,) = call("spool", "list", "--json", **RECEIVING).json()
    assert (row["topic"], row["instance"], row["records"], row["ours"]) == (topic, "one", 1, True)
    assert "another instance" in call("spool", "list", RISKMON_INSTANCE="two").out
    spool.usage()
    assert spool.end(topic) == 2
    assert [(record.offset, record.value) for record in spool.read(topic, 1, 9, 99)] == [(1, b"{}")]


def test_the_verdicts_schema_is_printed(call: Call) -> None:
    """It is a valid JSON Schema that names its version."""
    schema = call("schema", "verdict").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$defs"]["Verdict"]["properties"]["schema"]["enum"] == ["riskmon.verdict/1"]


def test_schema_accepts_what_is_documented(call: Call) -> None:
    """The printed schema is valid and takes the documented trace, the least one and the demo's."""
    schema = call("schema").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    documented = {
        "id": "1",
        "time": 1_700_000_000,
        "app": "a",
        "environment": "production",
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "response": "!",
        "context": [{"id": "d", "content": "c"}],
    }
    traffic = TrafficGenerator(1, SystemClock())
    for trace in ({"response": ""}, documented, *(next(traffic).trace for _ in range(300))):
        validator.validate(trace)
    wrongs: tuple[Any, ...] = ({}, {"response": None}, {"response": "", "messages": "?"}, [])
    for wrong in wrongs:
        assert not validator.is_valid(wrong)


def test_shipped_rules_pass_their_tests(call: Call) -> None:
    """Without a path the packs that come with riskmon are tested."""
    answer = call("rules", "test", "--json")
    report = answer.json()
    assert answer.code == 0
    assert report["failed"] == 0
    assert report["passed"] == len(report["tests"]) > 50
    assert call("rules", "test", "rules").out.endswith(" 0 failed\n")


def test_failing_rules_exit_1(call: Call, tmp_path: Path) -> None:
    """A case that does not hold is shown with what was expected and what came."""
    path = tmp_path / "bad.yaml"
    text = Path("tests/data/every_trace.yaml").read_text(encoding="utf-8")
    case = "tests: [{name: never, assessments: {toxicity: {score: 0.9}}, expect: []}]\n"
    path.write_text(f"{text}\n{case}", encoding="utf-8")
    answer = call("rules", "test", path)
    assert answer.code == 1
    assert answer.out.splitlines()[1:] == ["  expected [], got ['EveryTrace']", "0 passed, 1 failed"]
    path.write_text(text.replace("toxicity", "toxicty"), encoding="utf-8")
    broken = call("rules", "test", path)
    assert broken.code == 78
    assert "toxicity" in broken.err


def test_audit_verify(call: Call, stock: Stock) -> None:
    """An untouched ledger verifies; the numbers are those of what was recorded."""
    assert stock.ledger.position("llm.traces", 0) == 5
    answer = call("audit", "verify", "--json")
    report = answer.json()
    assert answer.code == 0
    assert report["ok"] is True
    assert [report[name] for name in ("records", "traces", "dead_letters", "flags")] == [5, 3, 2, 3]
    assert report["positions"] == {"llm.traces/0": 5}
    assert call("audit", "verify").out.splitlines()[-1].startswith("verified: nothing altered")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chain SET body = replace(body, 'traces', 'tracks') WHERE kind = 'coverage'",
        "DELETE FROM flags WHERE id = 'flag-1'",
        "UPDATE flags SET body = replace(body, 'How', 'Who') WHERE id = 'flag-2'",
        "DELETE FROM chain WHERE seq > 4",
    ],
)
def test_tampering_exits_1(call: Call, stock: Stock, statement: str) -> None:
    """Each alteration is a problem, shown with its place."""
    with stock.ledger.begin() as connection:
        assert connection.execute(sa.text(statement)).rowcount > 0
    answer = call("audit", "verify")
    assert answer.code == 1
    assert "PROBLEM: " in answer.out
    assert answer.out.endswith("NOT verified\n")
    assert call("audit", "verify", "--json").code == 1


def test_commands_on_no_ledger_explain(call: Call) -> None:
    """Where there is no ledger nothing is made, and the remedy is named."""
    for command in (["audit", "verify"], ["dlq", "list"], ["positions", "list"], ["feedback", "export"]):
        answer = call(*command)
        assert (answer.code, answer.out) == (78, "")
        assert "there is no ledger yet" in answer.err


def test_dead_letters_round_trip(call: Call, stock: Stock, apache_kafka: ApacheKafka) -> None:
    """They are listed without content, shown with it, and requeued to their topic as they were, once."""
    from kafka import KafkaConsumer, TopicPartition

    assert stock.ledger.position("llm.traces", 0) == 5
    listed = [json.loads(line) for line in call("dlq", "list", "--json").out.splitlines()]
    assert [row["reason"] for row in listed] == ["invalid_json", "invalid_utf8"]
    assert "value" not in listed[0]
    assert "2 dead letters" in call("dlq", "list").out
    chosen = call("dlq", "list", "--json", "--reason", "invalid_utf8")
    assert json.loads(chosen.out)["id"] == listed[1]["id"]
    first = call("dlq", "show", listed[0]["id"]).json()
    assert (first["value"], first["key"], first["headers"]) == ("{broken", "k", [["k", "x"]])
    assert call("dlq", "show", listed[1]["id"]).json()["value"] == "base64:/wA="
    assert call("dlq", "show", listed[0]["id"], "--raw").out == "{broken"
    assert call("dlq", "show", 999).code == 78
    assert call("dlq", "requeue").code == 2
    assert call("dlq", "requeue", 1, "--all").code == 2
    with default_topic(apache_kafka):
        servers = json.dumps([apache_kafka.bootstrap])
        sent = call("dlq", "requeue", "--all", RISKMON_KAFKA_BOOTSTRAP_SERVERS=servers)
        again = call("dlq", "requeue", "--all", RISKMON_KAFKA_BOOTSTRAP_SERVERS=servers)
        consumer = KafkaConsumer(bootstrap_servers=apache_kafka.bootstrap, auto_offset_reset="earliest")
        consumer.assign([TopicPartition("llm.traces", 0)])
        records = next(iter(consumer.poll(10_000).values()))
        consumer.close()
    assert (sent.out, again.out) == ("2 requeued\n", "0 requeued\n")
    expected = [(b"k", b"{broken"), (b"k", b"\xff\x00")]
    assert [(r.key, r.value) for r in records] == expected
    assert [list(r.headers) for r in records] == [[("k", b"x")]] * 2
    assert call("audit", "verify").code == 0


def test_an_altered_dead_letter_exits_65(call: Call, stock: Stock) -> None:
    """One that cannot be decrypted is bad data, not a bad configuration, and nothing of it is shown."""
    with stock.ledger.begin() as connection:
        connection.execute(t.dead_letters.update().values(sealed=bytes(64)))
    shown = call("dlq", "show", 1)
    assert (shown.code, shown.out) == (65, "")
    assert "the row was altered" in shown.err


def test_feedback_is_exported(call: Call, stock: Stock, tmp_path: Path) -> None:
    """One JSON line per item to standard output or a file; the count goes to standard error."""
    assert stock.ledger.position("llm.traces", 0) == 5
    answer = call("feedback", "export")
    items = [json.loads(line) for line in answer.out.splitlines()]
    assert [item["id"] for item in items] == ["flag-0", "flag-1", "flag-2"]
    assert answer.err == "3 items\n"
    path = tmp_path / "items.jsonl"
    assert call("feedback", "export", "--output", path).out == ""
    assert path.read_text(encoding="utf-8") == answer.out


def test_positions_are_listed_and_moved(call: Call, stock: Stock) -> None:
    """A move is on record with its reason; a move to nowhere or to where it stands is refused."""
    (row,) = call("positions", "list", "--json").json()
    assert (row["topic"], row["partition"], row["next_offset"], row["owner"]) == ("llm.traces", 0, 5, "d0")
    assert "llm.traces" in call("positions", "list").out
    moved = call("positions", "move", "llm.traces", 0, 9, "--reason", "corrupt batch")
    assert moved.code == 0
    assert moved.out.startswith("llm.traces/0: 5 -> 9")
    assert stock.ledger.position("llm.traces", 0) == 9
    verified = call("audit", "verify")
    assert "GAP: llm.traces/0 offsets [5, 9): corrupt batch" in verified.out
    assert verified.code == 1
    assert call("positions", "move", "llm.traces", 0, 9, "--reason", "again").code == 78
    assert call("positions", "move", "typo", 0, 1, "--reason", "x").code == 78
    assert call("positions", "move", "llm.traces", 0, 1).code == 2


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with its mode."""
    return {
        str(entry.relative_to(folder)): (entry.stat().st_mode, entry.read_bytes() if entry.is_file() else b"")
        for entry in folder.rglob("*")
    }


READING = {**WITHOUT_KAFKA, "RISKMON_RECEIVER_ENABLED": "true"}
READERS = (
    ("check", "--offline"),
    ("doctor",),
    ("audit", "verify"),
    ("dlq", "list"),
    ("dlq", "show", "1"),
    ("feedback", "export"),
    ("positions", "list"),
    ("spool", "list"),
)


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_command_that_reads_makes_nothing(tmp_path: Path, call: Call, arguments: tuple[str, ...]) -> None:
    """Where no daemon has run, no folder, ledger or key appears; `check` says that a start makes them."""
    answer = call(*arguments, **READING)
    assert tree(tmp_path) == {}
    if arguments[0] == "check":
        assert (answer.code, "is made by the first start" in " ".join(answer.out.split())) == (0, True)


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_lost_key_stays_lost(tmp_path: Path, call: Call, stock: Stock, arguments: tuple[str, ...]) -> None:
    """No command makes another; those that need it, and `check`, exit 78 with the remedy."""
    stock.ledger.close()
    (stock.config.data_dir / "riskmon.key").unlink()
    answer = call(*arguments, **READING)
    assert "data/riskmon.key" not in tree(tmp_path)
    needing = {("check", "--offline"): 78, ("doctor",): 1, ("dlq", "show", "1"): 78}
    if arguments in needing:
        assert answer.code == needing[arguments]
        assert "restore" in answer.out + answer.err
    else:
        assert answer.code == 0, answer


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_path_that_cannot_be_one_is_named(
    call: Call, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NUL ends a path for the system: exit 78 with a sentence, as for a folder that is a file."""
    monkeypatch.delenv("RISKMON_DATA_DIR")
    config = tmp_path / "riskmon.yaml"
    (tmp_path / "file").touch()
    for path, message in [('"a\\0b"', "data_dir: "), (str(tmp_path / "file" / "x"), "file")]:
        config.write_text(f"data_dir: {path}\nkafka: {{topics: []}}\nreceiver: {{enabled: true, port: 0}}\n")
        answer = call(command, "--config", config, RISKMON_DELIVER_FEEDBACK_TOPIC="")
        assert answer.code == 78
        assert message in answer.out + answer.err
        assert "Traceback" not in answer.err


def test_check_warns_of_what_others_can_read(call: Call, tmp_path: Path, stock: Stock) -> None:
    """A readable configuration with secrets, a readable ledger, a folder that anybody may write to."""
    stock.ledger.close()
    config = tmp_path / "riskmon.yaml"
    config.write_text("receiver: {enabled: true, token: 0123456789abcdefx}\ndeliver: {webhooks: []}\n")

    def warned() -> set[str]:
        answer = call("check", "--offline", "--json", "--config", config)
        return {line["subject"] for line in answer.json()["findings"] if line["subject"].endswith("rights")}

    config.chmod(0o640)
    assert warned() == set()
    config.chmod(0o644)
    assert warned() == {"configuration's rights"}
    (stock.config.data_dir / "ledger.db").chmod(0o644)
    stock.config.data_dir.chmod(0o777)
    assert warned() == {"configuration's rights", "ledger's rights", "data_dir's rights"}
    stock.config.data_dir.chmod(0o700)
