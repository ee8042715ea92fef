"""The whole configuration, checked before anything starts."""

import socket
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from monitor.config.base import SecretUrl, Section
from monitor.config.intake import LARGEST_SPAN, AssemblyConfig, IngestConfig, KafkaConfig, ReceiverConfig
from monitor.config.judging import DetectorConfig, DetectorsConfig, PoolConfig, Profile, RulesConfig
from monitor.config.operation import BudgetsConfig, HttpConfig, ShutdownConfig, TelemetryConfig
from monitor.config.outcome import DeliverConfig, LedgerConfig
from monitor.spool import spool_topic


class Config(Section):
    """The whole configuration."""

    instance: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Name of this daemon; empty: host name."
    )
    data_dir: Path = Field(Path("data"), description="Folder of the ledger and the key file.")
    kafka: KafkaConfig = Field(default_factory=KafkaConfig, description="Source.")
    receiver: ReceiverConfig = Field(default_factory=ReceiverConfig, description="OTLP over HTTP and gRPC.")
    ingest: IngestConfig = Field(default_factory=IngestConfig, description="Decoding.")
    assembly: AssemblyConfig = Field(default_factory=AssemblyConfig, description="Joining spans.")
    pool: PoolConfig = Field(default_factory=PoolConfig, description="Worker processes.")
    profile: Profile = Field(
        "default",
        description="`default`: higher tiers see what lower ones are unsure of; `full`: everything;"
        " `offline`: bundled tiers only.",
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
        if not self.kafka.topics and not self.receiver.receives:
            raise ValueError(
                "kafka.topics: name a topic, or let applications send to us: receiver.enabled, "
                "receiver.grpc.enabled"
            )
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
        """Return the name of this daemon: `instance`, else the host's."""
        return self.instance or socket.gethostname()

    def ledger_url(self) -> SecretUrl:
        """SQLAlchemy URL of the ledger."""
        return self.ledger.url or SecretUrl(f"sqlite:///{self.data_dir / 'ledger.db'}")

    def spool_topics(self) -> dict[str, str]:
        """Return the spool topic of each signal the receiver takes; none when it is off."""
        if not self.receiver.receives:
            return {}
        return {signal: spool_topic(signal, self.name()) for signal in ("traces", "logs", "generations")}

    def bounds(self) -> IngestConfig:
        """Return the bounds on decoding: what the receiver makes of a body must never exceed them."""
        if not self.receiver.receives:
            return self.ingest
        largest = max(self.ingest.max_record_bytes, min(self.receiver.max_body_bytes, LARGEST_SPAN))
        return self.ingest.model_copy(update={"max_record_bytes": largest})

    def enabled_detectors(self) -> dict[str, DetectorConfig]:
        """Enabled detectors by name, in a fixed order."""
        sections = {name: getattr(self.detectors, name) for name in DetectorsConfig.model_fields}
        return {name: section for name, section in sections.items() if section.enabled}
