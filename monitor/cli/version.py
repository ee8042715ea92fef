"""`riskmon version`."""

import click

from monitor import __version__
from monitor.cli.shared import json_option


@click.command("version")
@json_option
def command(*, as_json: bool) -> None:
    """Print the version."""
    click.echo(f'{{"version": "{__version__}"}}' if as_json else f"riskmon {__version__}")
