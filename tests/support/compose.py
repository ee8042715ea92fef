"""The compose file and what it mounts."""

from typing import Any

import yaml
from checkout import ROOT

DOCKER = ROOT / "docker"


def compose_file() -> dict[str, Any]:
    """Return the compose file."""
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


def prometheus_config() -> dict[str, Any]:
    """Return the configuration of Prometheus that it mounts."""
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    return loaded
