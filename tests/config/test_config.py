"""Configuration: every setting by file and by variable, strict YAML, errors that say what to do."""

import itertools
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from monitor.config import Config, SecretUrl, load, settings
from monitor.errors import ConfigError
from monitor.strict_yaml import MAX_FILE_BYTES, load_yaml

ALL = list(settings())
VALUES: dict[str, tuple[str, Any]] = {
    "deliver.webhooks": ("[{url: 'https://example.org'}]", None),
    "kafka.start": ("latest", "latest"),
    "kafka.security_protocol": ("SASL_SSL", "SASL_SSL"),
    "kafka.session_timeout_ms": ("45001", 45_001),
    "kafka.rejoin_seconds": ("45.1", 45.1),
    "ingest.format": ("native", "native"),
    "ingest.formats": ("{t: native}", {"t": "native"}),
    "kafka.client": ("{check_crcs: false}", {"check_crcs": False}),
    "telemetry.evaluations_headers": ("{x: k}", {"x": SecretStr("k")}),
    "telemetry.allow": ("{app: [a]}", {"app": ["a"]}),
    "profile": ("full", "full"),
    "telemetry.log_level": ("debug", "debug"),
    "ledger.sample_ratio": ("0.25", 0.25),
    "budgets.freshness": ("0.25", 0.25),
    "budgets.loss": ("0.25", 0.25),
    "budgets.unscored": ("0.25", 0.25),
    "budgets.flagged": ("[{detector: pii, ratio: 0.01}]", None),
}


def annotation_of(path: str) -> Any:
    """The type a setting is declared with."""
    annotation: Any = Config
    for part in path.split("."):
        annotation = annotation.model_fields[part].annotation
    return annotation


def other_value(path: str) -> tuple[str, Any]:
    """A text for a setting's variable, and the value it stands for; not the default."""
    if path in VALUES:
        return VALUES[path]
    annotation = annotation_of(path)
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    kind = next(typing.get_origin(option) or option for option in options if option is not type(None))
    return {
        bool: ("false", False) if value_at(Config(), path) else ("true", True),
        int: ("7", 7),
        float: ("7.5", 7.5),
        str: ("1234", "1234"),
        Path: ("/some/where", Path("/some/where")),
        SecretStr: ("1" * 16, SecretStr("1" * 16)),
        SecretUrl: ("1234", SecretUrl("1234")),
        list: ("[a, b]", ["a", "b"]) if "paths" not in path else ("[a]", [Path("a")]),
        dict: ("{x: 1}", {"x": 1}),
    }[kind]


def value_at(config: BaseModel, path: str) -> Any:
    """The value of a setting."""
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize(("path", "variable"), [(path, variable) for path, variable, _, _ in ALL])
def test_every_setting_has_its_variable(path: str, variable: str) -> None:
    """The variable of a setting changes it and no other; a number where text is due stays text."""
    text, expected = other_value(path)
    config = load(None, {variable: text, "OTHER": "x"})
    value = value_at(config, path)
    assert value == expected or expected is None
    assert value != value_at(Config(), path) or path == "ingest.format"
    for other, _, _, _ in ALL:
        assert other == path or value_at(config, other) == value_at(Config(), other)


def test_settings_are_distinct_and_explained() -> None:
    """No two settings share a variable, and each says what it is."""
    variables = [variable for _, variable, _, _ in ALL]
    assert len(set(variables)) == len(variables) > 60
    assert all(description.endswith(".") for _, _, _, description in ALL)


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    """What is in both is taken from the environment; what is only in the file stays."""
    path = tmp_path / "riskmon.yaml"
    path.write_text("kafka: {group_id: file, topics: [file]}\n", encoding="utf-8")
    config = load(path, {"RISKMON_KAFKA_GROUP_ID": "variable"})
    assert (config.kafka.group_id, config.kafka.topics) == ("variable", ["file"])


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """A file of comments only is no error."""
    path = tmp_path / "riskmon.yaml"
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert load(path, {}) == Config()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RISKMON_KAFKA_TOPIC": "x"}, "did you mean RISKMON_KAFKA_TOPICS?"),
        ({"RISKMON_ZZZZZZ_QQQQQ": "x"}, "riskmon check --settings"),
        ({"RISKMON_HTTP_PORT": "70000"}, "http.port: "),
        ({"RISKMON_HTTP_PORT": "many"}, "http.port: "),
        ({"RISKMON_KAFKA_TOPICS": "[a"}, "RISKMON_KAFKA_TOPICS:1:"),
        ({"RISKMON_KAFKA_TOPICS": "[]"}, "kafka.topics: "),
        ({"RISKMON_KAFKA_TOPICS": r"[a, 'llm\..*']"}, "patterns are not supported: name every topic"),
        ({"RISKMON_KAFKA_TOPICS": "['']"}, "kafka.topics.0: "),
        ({"RISKMON_DELIVER_FEEDBACK_TOPIC": "feed*"}, "deliver.feedback_topic: "),
        ({"RISKMON_DELIVER_VERDICTS_TOPIC": "."}, "deliver.verdicts_topic: "),
        ({"RISKMON_INSTANCE": "two words"}, "instance: "),
        ({"RISKMON_KAFKA_HEARTBEAT_INTERVAL_MS": "20000"}, "at most a third of kafka.session_timeout_ms"),
        ({"RISKMON_LEDGER_SAMPLE_RATIO": "1.5"}, "ledger.sample_ratio: "),
        ({"RISKMON_LEDGER_SAMPLE_RATIO": ".nan"}, "ledger.sample_ratio: "),
        ({"RISKMON_SHUTDOWN_DEADLINE_SECONDS": "0"}, "shutdown.deadline_seconds: "),
    ],
)
def test_a_wrong_variable_is_explained(environ: dict[str, str], message: str) -> None:
    """The error names the setting or the variable, and what to do."""
    with pytest.raises(ConfigError) as error:
        load(None, environ)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kafka: {topic: [a]}", "kafka.topic: no such setting; did you mean kafka.topics?"),
        ("kafka: {topic_pattern: a.*}", "kafka.topic_pattern: no such setting; did you mean kafka.topics?"),
        ("kafak: {}", "kafak: no such setting; did you mean kafka?"),
        ("qqqqqqqqqq: 1", "qqqqqqqqqq: no such setting; remove it"),
        ("- a list", "must be a mapping of settings, not a list"),
        ("kafka: []", "kafka: "),
        ("a: &x 1\nb: *x", "line 2: YAML aliases are not allowed"),
        ("a: !!python/object:os.system {}", "line 1: YAML tags"),
        ("http: {port: 1}\nhttp: {port: 2}", "line 2: key 'http' occurs twice"),
        ("http: {port: 1, port: 2}", "key 'port' occurs twice"),
        ("? [a, b]\n: 1", "line 1: a key must be plain text"),
        ("http:\n\tport: 1", "riskmon.yaml:2:1: not valid YAML"),
        ("a: 2026-02-31", "holds a number or date that does not exist"),
        ("[" * 5_000, "not valid YAML"),
        ("# " + "x" * MAX_FILE_BYTES, f"larger than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    """The error names the place and the remedy."""
    path = tmp_path / "riskmon.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load(path, {})
    assert message in str(error.value)


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    """Who fixes a file need not run the check once per mistake."""
    path = tmp_path / "riskmon.yaml"
    path.write_text("http: {port: -1}\npool: {workers: -1, colour: red}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load(path, {})
    named = sorted(line.partition(":")[0] for line in str(error.value).splitlines())
    assert named == ["http.port", "pool.colour", "pool.workers"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_file_is_explained(tmp_path: Path, content: bytes | None) -> None:
    """A missing or binary file is a configuration error."""
    path = tmp_path / "riskmon.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"riskmon.yaml: cannot be read .*give a readable UTF-8 file"):
        load(path, {})


SECRETS = [path for path, _, _, _ in ALL if SecretStr in typing.get_args(annotation_of(path))]


def test_secrets_are_never_shown() -> None:
    """Neither the configuration's text nor its JSON tells a secret, but the adapters get it."""
    variables = {
        variable: "{x: hunter-22-canary}" if default == {} else "hunter-22-canary"
        for path, variable, default, _ in ALL
        if path in SECRETS
    }
    hook = "[{url: 'https://example.org', secret: hunter-22-canary}]"
    config = load(None, variables | {"RISKMON_DELIVER_WEBHOOKS": hook})
    assert len(SECRETS) >= 3
    shown = itertools.chain([repr(config), str(config), config.model_dump_json()])
    assert "canary" not in "".join(shown)
    assert config.kafka.connection()["sasl_plain_password"] == "hunter-22-canary"
    assert config.kafka.connection()["ssl_password"] == "hunter-22-canary"


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {sasl_password: [hunter-22-canary]}",
        "kafka: {sasl_password: {a: hunter-22-canary}}",
        "deliver: {webhooks: [{url: 'https://example.org', secret: {a: hunter-22-canary}}]}",
        "deliver: {webhooks: [{secret: hunter-22-canary}]}",
        "deliver: {alertmanager: {passwort: hunter-22-canary}}",
    ],
)
def test_errors_do_not_tell_values(tmp_path: Path, text: str) -> None:
    """A secret in the wrong place is not repeated in the message."""
    path = tmp_path / "riskmon.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load(path, {})
    assert "canary" not in str(error.value)


def test_further_client_settings_reach_only_where_they_fit() -> None:
    """TLS and SASL extras of `kafka.client` go to every client, consumer settings do not."""
    config = load(None, {"RISKMON_KAFKA_CLIENT": "{ssl_check_hostname: false, check_crcs: false}"})
    assert config.kafka.connection()["ssl_check_hostname"] is False
    assert "check_crcs" not in config.kafka.connection()


def test_names_and_places_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset, the daemon is named after its host and the ledger lies in the data folder."""
    monkeypatch.setattr("socket.gethostname", lambda: "host-7")
    assert Config().name() == "host-7"
    assert load(None, {"RISKMON_INSTANCE": "a"}).name() == "a"
    assert load(None, {"RISKMON_DATA_DIR": "/x"}).ledger_url() == SecretUrl("sqlite:////x/ledger.db")
    assert load(None, {"RISKMON_LEDGER_URL": "sqlite:///y"}).ledger_url() == SecretUrl("sqlite:///y")


def test_detectors_can_be_switched_off() -> None:
    """Only enabled detectors are listed, in their fixed order."""
    assert list(Config().enabled_detectors()) == [
        "hallucination",
        "pii",
        "toxicity",
        "injection",
        "drift",
        "agent",
    ]
    config = load(None, {"RISKMON_DETECTORS_PII_ENABLED": "no"})
    assert list(config.enabled_detectors()) == ["hallucination", "toxicity", "injection", "drift", "agent"]


def test_yaml_is_parsed_as_written() -> None:
    """Ordinary YAML gives ordinary values."""
    assert load_yaml("a: [1, 2.5, 'x', null, true]\nb: {c: d}", "f") == {
        "a": [1, 2.5, "x", None, True],
        "b": {"c": "d"},
    }


def test_a_budget_names_a_detector_and_a_share() -> None:
    """A detector that does not exist, or a share that is none, is refused with the field."""
    with pytest.raises(ConfigError, match=r"budgets\.flagged: there is no detector 'pi'"):
        load(None, {"RISKMON_BUDGETS_FLAGGED": "[{detector: pi, ratio: 0.01}]"})
    with pytest.raises(ConfigError, match=r"budgets\.flagged\.0\.ratio"):
        load(None, {"RISKMON_BUDGETS_FLAGGED": "[{detector: pii, ratio: 1}]"})
