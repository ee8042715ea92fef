"""`riskmon positions`: show and move the positions that partitions are read from."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from monitor.cli.shared import config_option, inspected_ledger, json_option, opened_ledger, utc
from monitor.errors import Conflict
from monitor.ledger import queries
from monitor.output import as_json as to_json


@click.group()
def command() -> None:
    """Show and move the positions that partitions are read from."""


@command.command("list")
@config_option
@json_option
def list_positions(path: Path | None, *, as_json: bool) -> None:
    """List every partition the ledger knows."""
    with inspected_ledger(path) as (_, ledger):
        rows = queries.positions(ledger)
    if as_json:
        click.echo(to_json(rows))
        return
    table = Table("topic", "partition", "next offset", "owner", "updated")
    for row in rows:
        anew = f" (log {row['incarnation']})" if row["incarnation"] else ""
        place = (row["topic"], str(row["partition"]), f"{row['next_offset']}{anew}")
        table.add_row(*place, row["owner"], utc(row["updated"]))
    Console().print(table)


@command.command("move")
@click.argument("topic")
@click.argument("partition", type=int)
@click.argument("offset", type=click.IntRange(min=0))
@click.option("--reason", required=True, help="Reason, kept on the audit chain.")
@config_option
def move(topic: str, partition: int, offset: int, reason: str, path: Path | None) -> None:
    """Read a partition on from OFFSET, e.g. past a corrupt batch; the audit chain keeps it."""
    with opened_ledger(path) as (_, ledger):
        before = ledger.position(topic, partition)
        if before == offset:
            raise Conflict(f"{topic}/{partition} is at {offset} already")
        ledger.move(topic, partition, offset, reason)
    click.echo(f"{topic}/{partition}: {before} -> {offset}; the daemon that owns it follows within seconds")
