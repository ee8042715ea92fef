"""Settings of sources, decoding and assembly."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr

from monitor.config.base import Count, Positive, SecretSetting, Section, Server, Token, Topic


class KafkaConfig(Section):
    """The source of traces."""

    bootstrap_servers: list[Server] = Field(["localhost:9092"], description="Brokers, host:port.")
    topics: list[Topic] = Field(
        ["llm.traces"], description="Topics to judge, by name; may be empty where `receiver` is enabled."
    )
    group_id: str = Field("riskmon", description="Consumer group; daemons that share it share the work.")
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="Where to begin on a partition without a position in Kafka or the ledger."
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
        "the client is replaced; 0 means max_poll_interval_ms and session_timeout_ms together.",
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
    client: dict[str, SecretSetting] = Field(
        default_factory=dict, description="Further kafka-python consumer settings, passed as they are."
    )

    @property
    def rejoin_within(self) -> float:
        """Return `rejoin_seconds`, or if that is 0 the longest duration of a rebalance plus a session."""
        return self.rejoin_seconds or (self.max_poll_interval_ms + self.session_timeout_ms) / 1000

    def extras(self) -> dict[str, str | int | float | bool]:
        """Return `client` as kafka-python takes it, with the passwords that it may hold."""
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self.client.items()
        }

    def connection(self) -> dict[str, Any]:
        """Keyword arguments that every kafka-python client of ours needs to reach the brokers."""
        extras = {key: value for key, value in self.extras().items() if key.startswith(("ssl_", "sasl_"))}
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


Format = Literal[
    "native", "otlp_json", "otlp_proto", "otlp_proto_logs", "openai", "litellm", "kong", "agento11y",
    "agento11y_proto", "auto",
]  # fmt: skip


Port = Annotated[int, Field(ge=0, le=65535)]


MAX_BODY: Final = 40 * 2**20
"""8,192 spans, a Collector's default batch, with prompts of 3 KB: 32.1 MB as protobuf, 36.6 MB as JSON."""
LARGEST_SPAN: Final = 8 * 2**20
"""Bytes of one span that the receiver takes even if `ingest.max_record_bytes` are less."""


class GrpcConfig(Section):
    """OTLP over gRPC, with the receiver's other settings; needs the extra `grpc`."""

    enabled: bool = Field(default=False, description="Enable OTLP over gRPC, with HTTP or without.")
    port: Port = Field(4317, description="Port, at `receiver.host`; 0 takes a free one.")


class ReceiverConfig(Section):
    """OTLP over HTTP and gRPC, in addition to Kafka or instead of it."""

    enabled: bool = Field(default=False, description="Enable OTLP over HTTP.")
    host: str = Field("127.0.0.1", description="Address to listen on; loopback by default.")
    port: Port = Field(4318, description="Port; 0 takes a free one.")
    grpc: GrpcConfig = Field(default_factory=GrpcConfig, description="OTLP over gRPC.")
    token: Token = Field(
        None, description="Bearer token that clients must send, of 16 characters or more; none by default."
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="As `http.allowed_hosts`, for HTTP; with a `token` any name will do.",
    )
    max_body_bytes: Count = Field(
        MAX_BODY, description="Largest body, decompressed; larger ones are refused."
    )
    max_spool_bytes: Count = Field(
        2**30, description="Bytes that may wait to be judged; beyond them clients are told to retry."
    )
    max_spool_records: Count = Field(100_000, description="Bodies that may wait to be judged.")
    retry_after_seconds: Count = Field(5, description="When a client that was told to retry should do so.")

    @property
    def receives(self) -> bool:
        """Return whether clients can send bodies, by any protocol."""
        return self.enabled or self.grpc.enabled


REDACTION_MARKERS: Final = (
    "__REDACTED__",  # OpenInference
    "<REDACTED>",  # Claude Code
    "<redacted>",  # Genkit's plugin for Google Cloud
    "<fully masked due to failed mask function>",  # Langfuse
    "<elided>",  # Google ADK
    "[REDACTED]",
    "[redacted]",
    "[Redacted]",
    "REDACTED",
    "[Scrubbed due to '...']",  # Logfire
    "[Filtered]",  # Sentry
    "[MASKED]",
    "redacted-by-litellm",
    "****",  # the Collector's redaction processor
)


class IngestConfig(Section):
    """Bounds on decoding. A record beyond them is dead-lettered."""

    format: Format = Field("native", description="Decoder of every topic not named in `formats`.")
    formats: dict[str, Format] = Field(default_factory=dict, description="Decoder per topic.")
    max_record_bytes: Count = Field(2 * 2**20, description="Largest record that is decoded.")
    max_depth: Count = Field(
        64, description="Deepest nesting of JSON, and of an OTLP value, that is decoded."
    )
    max_spans: Count = Field(10_000, description="Most spans or events of one OTLP record.")
    document_keys: list[str] = Field(
        default_factory=lambda: ["content", "text", "page_content", "document.content", "chunk"],
        description="Keys that may hold a retrieved document's text; the first one present counts.",
    )
    redaction_markers: list[str] = Field(
        default_factory=lambda: list(REDACTION_MARKERS),
        description="Texts that senders leave in the place of others; they count as text that was not read. "
        "`...` in one stands for any text.",
    )


class AssemblyConfig(Section):
    """Assembly of spans into traces. Native traces and those of gateways arrive whole."""

    complete_seconds: Positive = Field(
        1.0, description="How long spans may still come after the root of a trace that seems complete."
    )
    settle_seconds: Positive = Field(
        6.0,
        description="The same for a trace of which a text, a parent or a result is known to be missing; "
        "SDKs send batches every 5 s.",
    )
    timeout_seconds: Positive = Field(
        30.0, description="Silence after which a trace without a root is judged as is."
    )
    max_seconds: Positive = Field(
        600.0, description="Age at which a trace is judged, even if spans still arrive."
    )
    skew_seconds: float = Field(
        0.1,
        ge=0,
        description="By how much a retrieval or a tool may begin after the model's call that used it.",
    )
    max_traces: Count = Field(10_000, description="Incomplete traces kept; beyond, the oldest are judged.")
    max_spans: Count = Field(
        5_000,
        description="Spans of one trace that are judged together; further ones are judged as another piece.",
    )
    max_sources: Count = Field(
        128,
        description="Documents and results of tools that one model's call is judged with, the nearest ones; "
        "`unread` names the sides of the others.",
    )
    max_source_chars: Count = Field(256 * 2**10, description="Characters of these together, likewise.")
    max_bytes: Count = Field(64 * 2**20, description="Bytes of incomplete traces kept, likewise.")
