"""`riskmon traffic`: synthetic traces for your own broker."""

from pathlib import Path

import click

from monitor.cli.shared import config_option
from monitor.demo import run as demonstration


@click.command("traffic")
@config_option
@click.option(
    "--rate", type=click.FloatRange(1, 2000), default=20.0, show_default=True, help="Traces per second."
)
@click.option("--seconds", type=click.FloatRange(min=1), help="Stop after this many seconds.")
def command(path: Path | None, rate: float, seconds: float | None) -> None:
    """Write synthetic traces to the first configured topic, some with planted risks."""
    demonstration.traffic(path, rate=rate, seconds=seconds)
