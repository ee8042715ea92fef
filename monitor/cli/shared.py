"""Shared by commands: options, an open ledger, a readable time."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from monitor.clock import SystemClock
from monitor.config import Config, load
from monitor.daemon.build import inspect_ledger, open_ledger_to_write
from monitor.ledger.reader import LedgerReader
from monitor.ledger.store import Ledger

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file; without it, defaults and RISKMON_… variables.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@contextmanager
def inspected_ledger(path: Path | None) -> Iterator[tuple[Config, LedgerReader]]:
    """Open the ledger of a configuration file to read it; nothing is made or changed."""
    config = load(path)
    with closing(inspect_ledger(config, SystemClock())) as ledger:
        yield config, ledger


@contextmanager
def opened_ledger(path: Path | None) -> Iterator[tuple[Config, Ledger]]:
    """Open the ledger of a configuration file, which must exist, to write to it."""
    config = load(path)
    with closing(open_ledger_to_write(config, SystemClock())) as ledger:
        yield config, ledger


def utc(seconds: float | None) -> str:
    """Return Unix seconds as ISO 8601 to the second; empty for None."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
