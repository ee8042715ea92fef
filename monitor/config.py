"""Configuration: one YAML file, every setting also by a `RISKMON_…` variable, checked before anything starts.

The variable of a setting is its path joined by underscores: `kafka.group_id` is `RISKMON_KAFKA_GROUP_ID`.
Variables win over the file. Lists and mappings are written as YAML: `RISKMON_KAFKA_TOPICS='[a, b]'`.
"""

import difflib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from monitor.errors import ConfigError
from monitor.events import checked_topic
from monitor.spool import spool_topic
from monitor.strict_yaml import load_yaml

PREFIX = "RISKMON_"
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


Topic = Annotated[str, AfterValidator(checked_topic)]
OptionalTopic = Annotated[str, AfterValidator(lambda name: name and checked_topic(name))]

Profile: TypeAlias = Literal["default", "full", "offline"]
"""`default`: each tier looks at what the one before is unsure of, and at a random share of the rest. `full`:
every tier looks at every trace. `offline`: as `default`, with the bundled tiers only."""


class _Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KafkaConfig(_Section):
    """Where traces are read from."""

    bootstrap_servers: list[str] = Field(["localhost:9092"], description="Brokers, host:port.")
    topics: list[Topic] = Field(
        ["llm.traces"], description="Topics to judge, by name; may be empty where `receiver` is enabled."
    )
    group_id: str = Field("riskmon", description="Consumer group; daemons that share it share the work.")
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="Where to begin on a partition that neither Kafka nor the ledger knows."
    )
    max_poll_records: Count = Field(1000, description="Records taken from the client in one poll.")
    session_timeout_ms: Count = Field(45_000, description="Silence after which the group drops a member.")
    heartbeat_interval_ms: Count = Field(
        3_000, description="Heartbeat period; a third of the session at most."
    )
    max_poll_interval_ms: Count = Field(300_000, description="Longest pause between polls.")
    unreachable_seconds: Positive = Field(
        30.0, description="Time without any broker after which the daemon is not ready."
    )
    rejoin_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Time without a live membership of the group, while a broker is connected, after which "
        "the client is built anew; 0 means max_poll_interval_ms and session_timeout_ms together.",
    )
    fetch_max_bytes: Count = Field(16 * 2**20, description="Bytes fetched per broker and request.")
    max_partition_fetch_bytes: Count = Field(
        4 * 2**20, description="Bytes fetched per partition and request."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Transport security."
    )
    sasl_mechanism: str | None = Field(
        None, description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI or AWS_MSK_IAM."
    )
    sasl_username: str | None = Field(None, description="SASL user name.")
    sasl_password: SecretStr | None = Field(None, description="SASL password.")
    ssl_cafile: Path | None = Field(None, description="Certificate authorities, PEM.")
    ssl_certfile: Path | None = Field(None, description="Client certificate, PEM.")
    ssl_keyfile: Path | None = Field(None, description="Client key, PEM.")
    ssl_password: SecretStr | None = Field(None, description="Password of the client key.")
    client: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Further kafka-python consumer settings, passed as they are."
    )

    @property
    def rejoin_within(self) -> float:
        """`rejoin_seconds`, or where that is 0 the longest that a rebalance takes, and a session."""
        return self.rejoin_seconds or (self.max_poll_interval_ms + self.session_timeout_ms) / 1000

    def connection(self) -> dict[str, Any]:
        """Keyword arguments that every kafka-python client of ours needs to reach the brokers."""
        extras = {key: value for key, value in self.client.items() if key.startswith(("ssl_", "sasl_"))}
        return extras | {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password and self.sasl_password.get_secret_value(),
            "ssl_cafile": self.ssl_cafile and str(self.ssl_cafile),
            "ssl_certfile": self.ssl_certfile and str(self.ssl_certfile),
            "ssl_keyfile": self.ssl_keyfile and str(self.ssl_keyfile),
            "ssl_password": self.ssl_password and self.ssl_password.get_secret_value(),
        }


Format = Literal["native", "otlp_json", "otlp_proto", "otlp_proto_logs", "openai", "litellm", "kong", "auto"]


class ReceiverConfig(_Section):
    """OTLP over HTTP, beside or instead of Kafka."""

    enabled: bool = Field(default=False, description="Whether it listens.")
    host: str = Field("127.0.0.1", description="Address to listen on; loopback by default.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(4318, description="Port; 0 takes a free one.")
    token: SecretStr | None = Field(None, description="Bearer token that clients must send; none by default.")
    max_body_bytes: Count = Field(8 * 2**20, description="Largest body, decompressed; larger ones get 413.")
    max_spool_bytes: Count = Field(
        2**30, description="Bytes that may wait to be judged; beyond them clients get 429 and repeat."
    )
    max_spool_records: Count = Field(100_000, description="Bodies that may wait to be judged.")
    retry_after_seconds: Count = Field(5, description="When a client that got 429 or 503 should try again.")


class IngestConfig(_Section):
    """Bounds on what is decoded. A record beyond them is dead-lettered."""

    format: Format = Field("native", description="Decoder of every topic not named in `formats`.")
    formats: dict[str, Format] = Field(default_factory=dict, description="Decoder per topic.")
    max_record_bytes: Count = Field(2 * 2**20, description="Largest record that is decoded.")
    max_depth: Count = Field(
        64, description="Deepest nesting of JSON, and of an OTLP value, that is decoded."
    )
    max_spans: Count = Field(10_000, description="Most spans or events of one OTLP record.")
    document_keys: list[str] = Field(
        default_factory=lambda: ["content", "text", "page_content", "document.content", "chunk"],
        description="Keys under which a retrieved document's text may stand, the first that is there counts.",
    )


class AssemblyConfig(_Section):
    """How spans are joined into traces. Native traces and those of gateways arrive whole."""

    settle_seconds: Positive = Field(
        1.0, description="How long spans may still come after the root of their trace."
    )
    timeout_seconds: Positive = Field(
        30.0, description="Silence after which a trace without a root is judged as it is."
    )
    max_seconds: Positive = Field(600.0, description="Age at which a trace is judged, whatever still comes.")
    max_traces: Count = Field(10_000, description="Incomplete traces kept; beyond, the oldest are judged.")
    max_bytes: Count = Field(64 * 2**20, description="Bytes of incomplete traces kept, likewise.")


class PoolConfig(_Section):
    """Worker processes that run the detectors."""

    workers: Annotated[int, Field(ge=0)] = Field(0, description="Worker processes; 0 means one per core.")
    timeout_seconds: Positive = Field(30.0, description="Longest time one detector may take for one batch.")
    startup_seconds: Positive = Field(180.0, description="Longest time a worker may take to load its models.")
    max_batch: Count = Field(256, description="Most traces in a batch.")
    target_batch_seconds: Positive = Field(0.2, description="The batch size adapts to take this long.")
    max_worker_bytes: Count = Field(
        4 * 2**30, description="Resident memory over which a worker is replaced after its batch."
    )


class DetectorConfig(_Section):
    """One detector."""

    enabled: bool = Field(default=True, description="Whether it runs.")
    factory: str = Field("", description="`package.module:callable` that builds it; empty: the built-in one.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")


class DetectorsConfig(_Section):
    """The six kinds of risk."""

    hallucination: DetectorConfig = Field(default_factory=DetectorConfig, description="Unsupported answers.")
    pii: DetectorConfig = Field(default_factory=DetectorConfig, description="Personal data and secrets.")
    toxicity: DetectorConfig = Field(default_factory=DetectorConfig, description="Abusive text.")
    injection: DetectorConfig = Field(
        default_factory=DetectorConfig, description="Attempts to take over the model."
    )
    drift: DetectorConfig = Field(default_factory=DetectorConfig, description="Change of traffic over time.")
    agent: DetectorConfig = Field(
        default_factory=DetectorConfig, description="Agent runs: loops, failures, budgets, policies."
    )


class RulesConfig(_Section):
    """Rule packs."""

    paths: list[Path] = Field(
        default_factory=list,
        description="Files or folders of rules; empty: the packs that come with riskmon.",
    )
    reload_seconds: Positive = Field(5.0, description="How often the files are looked at for changes.")


class LedgerConfig(_Section):
    """The one copy of truth."""

    url: str = Field(
        "",
        description="`sqlite:///…` or `postgresql://user@host/name`; empty: `ledger.db` in `data_dir`.",
    )
    excerpt_chars: Count = Field(2000, description="Longest redacted excerpt kept of a flagged text.")
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.001, description="Share of unflagged traces whose assessments are kept too."
    )
    verify_seconds: Annotated[float, Field(ge=0)] = Field(
        3600.0,
        description="How often the daemon verifies the audit chain; 0: only `riskmon audit verify` does.",
    )


class AlertmanagerConfig(_Section):
    """Prometheus Alertmanager, API v2."""

    url: str = Field("", description="Base URL; empty: no Alertmanager.")
    resolve_seconds: Positive = Field(300.0, description="An alert not repeated for this long is resolved.")
    username: str | None = Field(None, description="Basic authentication.")
    password: SecretStr | None = Field(None, description="Basic authentication.")


class WebhookConfig(_Section):
    """A webhook, signed and deduplicable."""

    name: str = Field("webhook", pattern=r"^[a-z0-9_-]{1,32}$", description="Name in metrics and the outbox.")
    url: str = Field(description="https URL; PagerDuty's is https://events.pagerduty.com/v2/enqueue.")
    format: Literal["riskmon", "alertmanager", "slack", "pagerduty"] = Field(
        "riskmon",
        description="Body: ours, Alertmanager's (version 4), Slack's or PagerDuty's (Events v2).",
    )
    routing_key: SecretStr | None = Field(None, description="Integration key of PagerDuty.")
    secret: SecretStr | None = Field(None, description="Key of the HMAC-SHA-256 signature.")
    allow_private: bool = Field(default=False, description="Whether private addresses and http are allowed.")

    @model_validator(mode="after")
    def _pagerduty_has_its_key(self) -> Self:
        if (self.format == "pagerduty") != (self.routing_key is not None):
            raise ValueError("format pagerduty and routing_key belong together; give both or neither")
        return self


class DeliverConfig(_Section):
    """Where alerts and feedback go."""

    alertmanager: AlertmanagerConfig = Field(default_factory=AlertmanagerConfig, description="Alertmanager.")
    webhooks: list[WebhookConfig] = Field(default_factory=list, description="Webhooks.")
    log: bool = Field(default=True, description="Whether alerts are also logged.")
    feedback_topic: OptionalTopic = Field(
        "riskmon.feedback", description="Kafka topic of flagged samples; empty: none."
    )
    verdicts_topic: OptionalTopic = Field("", description="Kafka topic of a verdict per trace; empty: none.")
    timeout_seconds: Positive = Field(10.0, description="Longest time one delivery may take.")
    max_backoff_seconds: Positive = Field(60.0, description="Longest wait between tries.")


class HttpConfig(_Section):
    """Metrics and health."""

    host: str = Field("127.0.0.1", description="Address to listen on; loopback by default.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(9469, description="Port; 0 takes a free one.")
    reload: bool = Field(default=False, description="Whether `POST /-/reload` does what SIGHUP does.")
    review_token: SecretStr | None = Field(
        None,
        description="Password (Basic) or bearer token for `/review`, which lists flags; none: it is off.",
    )


class TelemetryConfig(_Section):
    """What riskmon says about itself."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    max_label_values: Count = Field(50, description="Values a label takes before the rest become `other`.")
    max_series: Count = Field(
        2000, description="About how many series are exported at most, however many names the traffic has."
    )
    allow: dict[str, list[str]] = Field(
        default_factory=dict, description="Label name to the values always kept, e.g. `app: [support-bot]`."
    )
    risk_thresholds: dict[str, float] = Field(
        default_factory=dict,
        description="Detector to the score from which its rate counts a trace as risky; others: 0.5.",
    )
    otlp_endpoint: str = Field("", description="OTLP/HTTP base URL for riskmon's own spans; empty: none.")
    evaluations_endpoint: str = Field(
        "", description="OTLP/HTTP base URL for an evaluation event per assessment; empty: none."
    )
    evaluations_headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="HTTP headers of those requests, e.g. an API key."
    )
    evaluation_span_events: bool = Field(
        default=False, description="Whether riskmon's own spans have the evaluations as events too."
    )
    otlp_metrics_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0, description="How often metrics are sent there too, beside being scraped; 0: never."
    )


Share = Annotated[float, Field(gt=0, lt=1)]


class FlaggedBudget(_Section):
    """How much of some traffic a detector's rules may flag; `*` stands for all of them."""

    detector: str = Field(description="Detector that the flagging rules use.")
    app: str = Field("*", description="Application, or `*`.")
    environment: str = Field("*", description="Environment, or `*`.")
    ratio: Share = Field(description="Share of its judged traces.")


class BudgetsConfig(_Section):
    """Shares that may go wrong in 30 days; `rules/prometheus` alerts when one is spent too fast."""

    freshness: Share = Field(0.01, description="Share of traces judged later than 30 s after their end.")
    loss: Share = Field(0.001, description="Share of records that cannot be judged.")
    unscored: Share = Field(0.01, description="Share of a detector's answers that are time-outs or errors.")
    flagged: list[FlaggedBudget] = Field(
        default_factory=list, description="Flagged shares; the one that names app, then environment, counts."
    )

    def flagged_ratio(self, detector: str, app: str, environment: str) -> float | None:
        """Budget of some traffic, None without. Of several that fit the most exact one, then the last."""
        fitting = [
            (budget.app != "*", budget.environment != "*", place)
            for place, budget in enumerate(self.flagged)
            if budget.detector == detector
            and budget.app in {"*", app}
            and budget.environment in {"*", environment}
        ]
        return self.flagged[max(fitting)[2]].ratio if fitting else None


class ShutdownConfig(_Section):
    """How the daemon ends."""

    deadline_seconds: Positive = Field(
        20.0, description="Shared by all steps of a stop; less than Kubernetes' grace period of 30 s."
    )
    watchdog_seconds: Positive = Field(
        60.0, description="A loop that has not turned for this long is killed."
    )


class Config(_Section):
    """The whole configuration."""

    instance: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Name of this daemon; empty: host name."
    )
    data_dir: Path = Field(Path("data"), description="Folder of the ledger and the key file.")
    kafka: KafkaConfig = Field(default_factory=KafkaConfig, description="Source.")
    receiver: ReceiverConfig = Field(default_factory=ReceiverConfig, description="OTLP over HTTP.")
    ingest: IngestConfig = Field(default_factory=IngestConfig, description="Decoding.")
    assembly: AssemblyConfig = Field(default_factory=AssemblyConfig, description="Joining spans.")
    pool: PoolConfig = Field(default_factory=PoolConfig, description="Worker processes.")
    profile: Profile = Field(
        "default",
        description="`default`: dear tiers see what cheap ones are unsure of; `full`: everything; `offline`:"
        " bundled tiers only.",
    )
    detectors: DetectorsConfig = Field(default_factory=DetectorsConfig, description="Detectors.")
    rules: RulesConfig = Field(default_factory=RulesConfig, description="Rules.")
    ledger: LedgerConfig = Field(default_factory=LedgerConfig, description="Ledger.")
    deliver: DeliverConfig = Field(default_factory=DeliverConfig, description="Delivery.")
    http: HttpConfig = Field(default_factory=HttpConfig, description="Metrics and health.")
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig, description="Logs, labels, spans.")
    budgets: BudgetsConfig = Field(default_factory=BudgetsConfig, description="Error budgets.")
    shutdown: ShutdownConfig = Field(default_factory=ShutdownConfig, description="Ending.")

    @model_validator(mode="after")
    def _heartbeat_fits_the_session(self) -> Self:
        if self.kafka.heartbeat_interval_ms * 3 > self.kafka.session_timeout_ms:
            raise ValueError(
                "kafka.heartbeat_interval_ms must be at most a third of kafka.session_timeout_ms, "
                "so that two lost heartbeats do not end a membership"
            )
        return self

    @model_validator(mode="after")
    def _a_member_may_be_silent_for_a_session(self) -> Self:
        if self.kafka.rejoin_within * 1000 <= self.kafka.session_timeout_ms:
            raise ValueError(
                "kafka.rejoin_seconds must be longer than kafka.session_timeout_ms, "
                "so that a membership that has not ended is not given up"
            )
        return self

    @model_validator(mode="after")
    def _something_is_read(self) -> Self:
        if not self.kafka.topics and not self.receiver.enabled:
            raise ValueError("kafka.topics: name a topic, or let applications send to us: receiver.enabled")
        return self

    @model_validator(mode="after")
    def _budgets_name_detectors(self) -> Self:
        for budget in self.budgets.flagged:
            if budget.detector not in DetectorsConfig.model_fields:
                known = ", ".join(DetectorsConfig.model_fields)
                raise ValueError(
                    f"budgets.flagged: there is no detector {budget.detector!r}; it is one of {known}"
                )
        return self

    def name(self) -> str:
        """Name of this daemon: `instance`, else the host's."""
        return self.instance or socket.gethostname()

    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger.url or f"sqlite:///{self.data_dir / 'ledger.db'}"

    def spool_topics(self) -> dict[str, str]:
        """Signal to topic of what the receiver takes; none where it is off."""
        if not self.receiver.enabled:
            return {}
        return {signal: spool_topic(signal, self.name()) for signal in ("traces", "logs")}

    def bounds(self) -> IngestConfig:
        """How to decode: what the receiver takes must not be too large for it."""
        if not self.receiver.enabled:
            return self.ingest
        largest = max(self.ingest.max_record_bytes, self.receiver.max_body_bytes)
        return self.ingest.model_copy(update={"max_record_bytes": largest})

    def enabled_detectors(self) -> dict[str, DetectorConfig]:
        """Enabled detectors by name, in a fixed order."""
        sections = {name: getattr(self.detectors, name) for name in DetectorsConfig.model_fields}
        return {name: section for name, section in sections.items() if section.enabled}


def settings() -> Iterator[tuple[str, str, Any, str]]:
    """Every leaf setting as (dotted path, environment variable, default, description)."""

    def walk(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, str, Any, str]]:
        for name, field in model.model_fields.items():
            here = (*path, name)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(field.annotation, here)
            else:
                default = field.get_default(call_default_factory=True)
                yield ".".join(here), PREFIX + "_".join(here).upper(), default, field.description or ""

    yield from walk(Config, ())


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file (None: all defaults) and the environment.

    Raises ConfigError with every problem found, each with its field and a remedy.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: cannot be read ({type(error).__name__}); give a readable UTF-8 file"
            ) from None
        loaded = load_yaml(text, str(path))
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: must be a mapping of settings, not a {type(loaded).__name__}")
        data = loaded or {}
    _apply_environment(data, environ)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_explain(problem) for problem in error.errors(include_url=False))
        ) from None


def _apply_environment(data: dict[str, Any], environ: Mapping[str, str]) -> None:
    paths = {variable: path for path, variable, _, _ in settings()}
    for variable, raw in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in paths:
            close = difflib.get_close_matches(variable, paths, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; `riskmon check --settings` lists them all"
            raise ConfigError(f"environment variable {variable} is not a setting{hint}")
        *sections, leaf = paths[variable].split(".")
        node = data
        for section in sections:
            child = node.setdefault(section, {})
            if not isinstance(child, dict):
                raise ConfigError(f"{section}: must be a mapping of settings")
            node = child
        node[leaf] = _parse(paths[variable], raw, variable)


def _parse(path: str, raw: str, variable: str) -> Any:
    annotation: Any = Config
    for part in path.split("."):
        annotation = annotation.model_fields[part].annotation
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    plain_text = any(option in (str, Path, SecretStr) for option in options)
    return raw if plain_text else load_yaml(raw, variable)


def _explain(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = [known for known, _, _, _ in settings()]
        known += sorted({k.rsplit(".", 1)[0] for k in known if "." in k})
        close = difflib.get_close_matches(path, known, n=1)
        return f"{path}: no such setting" + (f"; did you mean {close[0]}?" if close else "; remove it")
    return f"{path or 'configuration'}: {problem['msg']}"
