"""`riskmon run`: the daemon."""

from pathlib import Path

import click

from monitor.cli.shared import config_option
from monitor.config import load
from monitor.daemon.daemon import Daemon
from monitor.telemetry.logging import configure


@click.command("run")
@config_option
@click.option("--log-format", type=click.Choice(["json", "console"]), default="json", show_default=True)
def command(path: Path | None, log_format: str) -> None:
    """Run the daemon until SIGTERM or Ctrl-C, which drain it.

    SIGHUP reloads rules and log level, and checks the configuration.
    """
    config = load(path)
    configure(config.telemetry.log_level, form="console" if log_format == "console" else "json")
    daemon = Daemon(config, reread=lambda: load(path))
    daemon.handle_signals()
    daemon.run()
