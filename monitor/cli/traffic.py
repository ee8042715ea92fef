"""`riskmon traffic`: made-up traces for a broker of yours."""

from pathlib import Path

import click

from monitor.cli.shared import config_option
from monitor.demo import run as demonstration


@click.command("traffic")
@config_option
@click.option("--rate", type=click.FloatRange(1, 2000), default=20.0, show_default=True, help="Per second.")
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself after this long.")
def command(path: Path | None, rate: float, seconds: float | None) -> None:
    """Write made-up traces to the first configured topic, some with something to find."""
    demonstration.traffic(path, rate=rate, seconds=seconds)
