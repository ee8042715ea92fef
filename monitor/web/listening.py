"""What is said of an address that is listened at, or cannot be."""

import ipaddress

import structlog

from monitor.errors import ConfigError

log = structlog.get_logger()


def warn_beyond_loopback(section: str, host: str, port: int, remedy: str) -> None:
    """Log that a listening port can be reached from outside; nothing for loopback, or without a remedy."""
    if remedy and not _is_loopback(host):
        log.warning("not_loopback", section=section, host=host, port=port, remedy=remedy)


def cannot_listen(section: str, host: str, port: int, reason: str) -> ConfigError:
    """Return the error of an address of a section's `host` and `port` that cannot be bound."""
    name = section.partition(".")[0]  # parts of a section listen at its host
    return ConfigError(
        f"{name}.host, {section}.port: cannot listen on {host}:{port} ({reason}); "
        "take a free port, or 0 for any"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
