"""Configuration: one YAML file, every setting also by a `RISKMON_…` variable; sections by subject."""

from monitor.config.base import SecretUrl
from monitor.config.config import Config
from monitor.config.intake import AssemblyConfig, Format, IngestConfig, KafkaConfig, ReceiverConfig
from monitor.config.judging import DetectorConfig, DetectorsConfig, PoolConfig, Profile, RulesConfig
from monitor.config.loading import PREFIX, exposed_secrets, load, settings
from monitor.config.operation import BudgetsConfig, FlaggedBudget, HttpConfig, ShutdownConfig, TelemetryConfig
from monitor.config.outcome import AlertmanagerConfig, DeliverConfig, LedgerConfig, WebhookConfig

__all__ = [
    "PREFIX",
    "AlertmanagerConfig",
    "AssemblyConfig",
    "BudgetsConfig",
    "Config",
    "DeliverConfig",
    "DetectorConfig",
    "DetectorsConfig",
    "FlaggedBudget",
    "Format",
    "HttpConfig",
    "IngestConfig",
    "KafkaConfig",
    "LedgerConfig",
    "PoolConfig",
    "Profile",
    "ReceiverConfig",
    "RulesConfig",
    "SecretUrl",
    "ShutdownConfig",
    "TelemetryConfig",
    "WebhookConfig",
    "exposed_secrets",
    "load",
    "settings",
]
