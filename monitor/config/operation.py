"""Settings of HTTP, telemetry, budgets and the end of a daemon."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from monitor.config.base import Address, Count, Positive, SecretUrl, Section, Share, Token


class HttpConfig(Section):
    """Metrics and health."""

    host: str = Field("127.0.0.1", description="Address to listen on; loopback by default.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(9469, description="Port; 0 takes a free one.")
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names by which it may be asked, besides addresses, its own name, names without a dot, "
        "and those below `local`, `internal`, `svc`; `*.example.org` is all below, `*` any.",
    )
    reload: bool = Field(default=False, description="Whether `POST /-/reload` does what SIGHUP does.")
    review_token: Token = Field(
        None,
        description="Password (Basic) or bearer token for `/review`, which lists flags, of 16 characters or "
        "more; none: it is off.",
    )


class TelemetryConfig(Section):
    """riskmon's own logs, metrics and spans."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level logged."
    )
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
    otlp_endpoint: Address = Field(
        SecretUrl(""), description="OTLP/HTTP base URL for riskmon's own spans; empty: none."
    )
    evaluations_endpoint: Address = Field(
        SecretUrl(""), description="OTLP/HTTP base URL for an evaluation event per assessment; empty: none."
    )
    evaluations_headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="HTTP headers of those requests, e.g. an API key."
    )
    evaluation_span_events: bool = Field(
        default=False, description="Whether riskmon's own spans have the evaluations as events too."
    )
    otlp_metrics_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0, description="How often metrics are also sent there; 0: never, they are only scraped."
    )


class FlaggedBudget(Section):
    """Share of some traffic that a detector's rules may flag; `*` matches all."""

    detector: str = Field(description="Detector that the flagging rules use.")
    app: str = Field("*", description="Application, or `*`.")
    environment: str = Field("*", description="Environment, or `*`.")
    ratio: Share = Field(description="Share of its judged traces.")


class BudgetsConfig(Section):
    """Shares that may go wrong in 30 days; `rules/prometheus` alerts when one is spent too fast."""

    freshness: Share = Field(0.01, description="Share of traces judged later than 30 s after their end.")
    loss: Share = Field(0.001, description="Share of records that cannot be judged.")
    unscored: Share = Field(0.01, description="Share of a detector's answers that are time-outs or errors.")
    flagged: list[FlaggedBudget] = Field(
        default_factory=list, description="Flagged shares; the one that names app, then environment, counts."
    )

    def flagged_ratio(self, detector: str, app: str, environment: str) -> float | None:
        """Return the budget of some traffic, None without one; the most specific match, then the last."""
        fitting = [
            (budget.app != "*", budget.environment != "*", place)
            for place, budget in enumerate(self.flagged)
            if budget.detector == detector
            and budget.app in {"*", app}
            and budget.environment in {"*", environment}
        ]
        return self.flagged[max(fitting)[2]].ratio if fitting else None


class ShutdownConfig(Section):
    """The end of the daemon."""

    deadline_seconds: Positive = Field(
        20.0,
        description="Longest time the engine drains. The other parts then stop within 3 s; keep the sum below"
        " Kubernetes' grace period of 30 s.",
    )
    watchdog_seconds: Positive = Field(
        60.0, description="A loop that has not turned for this long is killed."
    )
