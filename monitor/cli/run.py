"""`riskmon run`: the daemon."""

import atexit
import os
import sys
from pathlib import Path
from typing import Final

import click

from monitor.cli.shared import config_option
from monitor.clock import SystemClock
from monitor.config import load
from monitor.daemon.daemon import Daemon
from monitor.telemetry.lines import LineWriter
from monitor.telemetry.logging import configure

LAST_LINES_SECONDS: Final = 1.0  # what the end waits for a reader of the log


@click.command("run")
@config_option
@click.option("--log-format", type=click.Choice(["json", "console"]), default="json", show_default=True)
def command(path: Path | None, log_format: str) -> None:
    """Run the daemon until SIGTERM or Ctrl-C, which drain it.

    SIGHUP reloads rules and log level, and checks the configuration.
    """
    config = load(path)
    # Where standard error was closed by whoever started us, its number belongs to another file by now.
    descriptor = sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY)
    lines = LineWriter(descriptor, SystemClock())
    atexit.register(lines.close, LAST_LINES_SECONDS)  # after the line about an uncaught exception
    configure(config.telemetry.log_level, lines, "console" if log_format == "console" else "json")
    daemon = Daemon(config, reread=lambda: load(path), lines=lines)
    daemon.handle_signals()
    daemon.run()
