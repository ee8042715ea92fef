"""Settings of detectors, their workers and the rules."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from monitor.config.base import Count, Positive, Section

Profile: TypeAlias = Literal["default", "full", "offline"]
"""`default`: each tier looks at what the one before is unsure of, and at a random share of the rest. `full`:
every tier looks at every trace. `offline`: as `default`, with the bundled tiers only."""


class PoolConfig(Section):
    """Worker processes that run the detectors."""

    workers: Annotated[int, Field(ge=0)] = Field(0, description="Worker processes; 0 means one per core.")
    timeout_seconds: Positive = Field(30.0, description="Longest time one detector may take for one batch.")
    startup_seconds: Positive = Field(180.0, description="Longest time a worker may take to load its models.")
    max_batch: Count = Field(256, description="Most traces in a batch.")
    target_batch_seconds: Positive = Field(0.2, description="The batch size adapts to take this long.")
    max_worker_bytes: Count = Field(
        4 * 2**30, description="Resident memory over which a worker is replaced after its batch."
    )


class DetectorConfig(Section):
    """One detector."""

    enabled: bool = Field(default=True, description="Enable the detector.")
    factory: str = Field("", description="`package.module:callable` that builds it; empty: the built-in one.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")


class DetectorsConfig(Section):
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


class RulesConfig(Section):
    """Rule packs."""

    paths: list[Path] = Field(
        default_factory=list,
        description="Files or folders of rules; empty: the packs that come with riskmon.",
    )
    reload_seconds: Positive = Field(5.0, description="How often the files are checked for changes.")
