"""Settings of the ledger and of delivery."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from monitor.config.base import Address, Count, OptionalTopic, Positive, Secret, SecretUrl, Section


class LedgerConfig(Section):
    """The one copy of truth."""

    url: Address = Field(
        SecretUrl(""),
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


class AlertmanagerConfig(Section):
    """Prometheus Alertmanager, API v2."""

    url: Address = Field(SecretUrl(""), description="Base URL; empty: no Alertmanager.")
    resolve_seconds: Positive = Field(300.0, description="An alert not repeated for this long is resolved.")
    username: str | None = Field(None, description="Basic authentication.")
    password: SecretStr | None = Field(None, description="Basic authentication.")


class WebhookConfig(Section):
    """A webhook, signed and deduplicable."""

    name: str = Field("webhook", pattern=r"^[a-z0-9_-]{1,32}$", description="Name in metrics and the outbox.")
    url: Address = Field(description="https URL; PagerDuty's is https://events.pagerduty.com/v2/enqueue.")
    format: Literal["riskmon", "alertmanager", "slack", "pagerduty"] = Field(
        "riskmon",
        description="Body: ours, Alertmanager's (version 4), Slack's or PagerDuty's (Events v2).",
    )
    routing_key: Secret = Field(None, description="Integration key of PagerDuty.")
    secret: Secret = Field(None, description="Key of the HMAC-SHA-256 signature.")
    allow_private: bool = Field(default=False, description="Allow private addresses and http.")

    @model_validator(mode="after")
    def _pagerduty_has_its_key(self) -> Self:
        if (self.format == "pagerduty") != (self.routing_key is not None):
            raise ValueError("format pagerduty and routing_key belong together; give both or neither")
        return self


class DeliverConfig(Section):
    """Destinations of alerts and feedback."""

    alertmanager: AlertmanagerConfig = Field(default_factory=AlertmanagerConfig, description="Alertmanager.")
    webhooks: list[WebhookConfig] = Field(default_factory=list, description="Webhooks.")
    log: bool = Field(default=True, description="Also log alerts.")
    feedback_topic: OptionalTopic = Field(
        "riskmon.feedback", description="Kafka topic of flagged samples; empty: none."
    )
    verdicts_topic: OptionalTopic = Field("", description="Kafka topic of a verdict per trace; empty: none.")
    timeout_seconds: Positive = Field(10.0, description="Longest time one delivery may take.")
    max_backoff_seconds: Positive = Field(60.0, description="Longest wait between tries.")
