"""`riskmon doctor`: connects to everything a daemon needs, and reports faults with their remedies."""

from pathlib import Path

import click

from monitor.cli.check_results import show, unusable, usable
from monitor.cli.shared import config_option, json_option
from monitor.config import load
from monitor.daemon.doctor import examine
from monitor.errors import EX_CONFIG, ConfigError


@click.command("doctor")
@config_option
@json_option
def command(path: Path | None, *, as_json: bool) -> None:
    """Connect to everything, and report faults with their remedies; exit 0, 1 or 78."""
    try:
        config = load(path)
    except ConfigError as error:
        show(unusable(error), as_json=as_json)
        raise click.exceptions.Exit(EX_CONFIG) from None
    results = [*usable(path), *examine(config)]
    good = show(results, as_json=as_json)
    if not as_json:
        missing = any(result.state == "missing" for result in results)
        well = "nothing failed: see what is missing" if missing else "all is well"
        click.echo(well if good else "not all is well: see what failed, from the top")
    if not good:
        raise click.exceptions.Exit(1)
