"""`riskmon demo`: the whole system at work on an embedded broker."""

import click

from monitor.cli.shared import json_option
from monitor.demo import run as demonstration


@click.command("demo")
@click.option("--seconds", type=click.FloatRange(min=5), help="Stop after this many seconds.")
@click.option(
    "--rate",
    type=click.FloatRange(min=1, max=2000),
    default=50.0,
    show_default=True,
    help="Traces per second.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of metrics and health; 0: a free one."
)
@click.option(
    "--content/--no-content",
    default=True,
    help="Whether the applications capture their texts; without, they are blind spots.",
)
@json_option
def command(seconds: float | None, rate: float, port: int, *, content: bool, as_json: bool) -> None:
    """Show it all: an embedded broker, realistic traffic, and the daemon judging it."""
    demonstration.run(seconds=seconds, rate=rate, port=port, content=content, as_json=as_json)
