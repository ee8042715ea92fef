"""Shared by commands: options, an open ledger, a readable time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from monitor.clock import SystemClock
from monitor.config import Config, load
from monitor.daemon.build import open_ledger_to_read, open_ledger_with_key
from monitor.ledger.store import Ledger
from monitor.privacy.vault import Vault

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file; without it, defaults and RISKMON_… variables.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@contextmanager
def opened_ledger(path: Path | None) -> Iterator[tuple[Config, Ledger]]:
    """Open the ledger of a configuration file, which must exist, for as long as the context lasts."""
    config = load(path)
    ledger = open_ledger_to_read(config, SystemClock())
    try:
        yield config, ledger
    finally:
        ledger.close()


@contextmanager
def opened_ledger_with_key(path: Path | None) -> Iterator[tuple[Config, Ledger, Vault]]:
    """Open a ledger likewise, for a command that decrypts what it keeps."""
    config = load(path)
    ledger, vault = open_ledger_with_key(config, SystemClock())
    try:
        yield config, ledger, vault
    finally:
        ledger.close()


def utc(seconds: float | None) -> str:
    """Return Unix seconds as ISO 8601 to the second; empty for None."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
