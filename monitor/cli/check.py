"""`riskmon check`: faults and missing tiers, reported before anything starts."""

from pathlib import Path

import click

from monitor.cli.check_results import show, unusable, usable
from monitor.cli.shared import config_option, json_option
from monitor.config import load, settings
from monitor.daemon import checks
from monitor.errors import EX_CONFIG, ConfigError
from monitor.output import as_json as to_json


@click.command("check")
@config_option
@json_option
@click.option(
    "--settings", "list_settings", is_flag=True, help="List every setting, its variable and default."
)
@click.option("--offline", is_flag=True, help="Connect to no server, and leave the ledger closed.")
def command(path: Path | None, *, as_json: bool, list_settings: bool, offline: bool) -> None:
    """Check configuration, rules, models, broker and ledger; exit 0 or 78."""
    if list_settings:
        _print_settings(as_json=as_json)
        return
    try:
        config = load(path)
    except ConfigError as error:
        results = unusable(error)
    else:
        results = [*usable(path), *checks.run(config, offline=offline)]
    good = show(results, as_json=as_json)
    if not as_json:
        click.echo("riskmon can run" if good else "riskmon cannot run")
    if not good:
        raise click.exceptions.Exit(EX_CONFIG)


def _print_settings(*, as_json: bool) -> None:
    """Print every setting."""
    rows = [
        {"setting": name, "variable": variable, "default": default, "description": description}
        for name, variable, default, description in settings()
    ]
    if as_json:
        click.echo(to_json(rows))
        return
    for row in rows:
        click.echo(f"{row['setting']} ({row['variable']}) = {row['default']!r}\n    {row['description']}")
