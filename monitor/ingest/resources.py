"""The sender of spans and log records, as their resource names it."""

from typing import Any

import msgspec

from monitor.ingest.identifiers import Names


class Resource(msgspec.Struct, frozen=True, gc=False):
    """The sender of a span, cleaned."""

    app: str
    environment: str


def resource_of(attributes: dict[str, Any], names: Names) -> Resource:
    """Name the application and its environment."""
    app = next((value for key in _APP if (value := attributes.get(key)) and _named(key, value)), None)
    environment = attributes.get("deployment.environment.name") or attributes.get("deployment.environment")
    return Resource(
        names.name(app) if app else "unknown",
        names.environment(environment) if isinstance(environment, str) and environment else "unknown",
    )


_APP = ("service.name", "openinference.project.name", "k8s.deployment.name", "faas.name")


def _named(key: str, value: object) -> bool:
    """Return whether a value is a name; SDKs send `unknown_service…` when no name is configured."""
    return isinstance(value, str) and not (key == "service.name" and value.startswith("unknown_service"))
