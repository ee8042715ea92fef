"""`riskmon feedback`: use flagged samples for retraining."""

from pathlib import Path
from typing import IO, get_args

import click

from monitor.cli.shared import config_option, inspected_ledger
from monitor.feedback.export import Format, export
from monitor.ledger import queries


@click.group()
def command() -> None:
    """Use flagged samples for retraining."""


@command.command("export")
@config_option
@click.option("--format", "form", type=click.Choice(get_args(Format)), default="jsonl", show_default=True)
@click.option(
    "--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="File to write."
)
def export_items(path: Path | None, form: Format, output: IO[str]) -> None:
    """Write redacted, deduplicated samples."""
    with inspected_ledger(path) as (_, ledger):
        count = export(queries.feedback_items(ledger), output, form)
    click.echo(f"{count} items", err=True)
