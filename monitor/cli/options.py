"""Options that most commands have."""

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file; without it, defaults and RISKMON_… variables.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
