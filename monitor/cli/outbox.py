"""`riskmon outbox`: show messages that were not delivered, send them again, drop them."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from monitor.cli.shared import config_option, inspected_ledger, json_option, opened_ledger, utc
from monitor.clock import SystemClock
from monitor.ledger import messages
from monitor.output import as_json as to_json

_ids_argument = click.argument("ids", type=int, nargs=-1)


@click.group()
def command() -> None:
    """Show messages that were not delivered, send them again, drop them."""


@command.command("list")
@config_option
@json_option
@click.option("--destination", default="", help="List only messages for this destination.")
@click.option("--set-aside", is_flag=True, help="List only those that their destination called malformed.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True)
def list_messages(path: Path | None, destination: str, limit: int, *, set_aside: bool, as_json: bool) -> None:
    """List messages that wait or are set aside, oldest first, and why the last try failed."""
    with inspected_ledger(path) as (_, ledger):
        found = messages.messages(ledger, destination=destination, set_aside=set_aside, limit=limit)
    now = SystemClock().now()
    rows = [_shown(message, now) for message in found]
    if as_json:
        for row in rows:
            click.echo(to_json(row))
        return
    table = Table("id", "destination", "state", "attempts", "age", "last reason", "next try")
    for row in rows:
        age = f"{row['age_seconds']:.0f} s"
        tried = (row["state"], str(row["attempts"]), age, row["reason"], utc(row["due"]))
        table.add_row(str(row["id"]), row["destination"], *tried)
    Console().print(table)
    click.echo(f"{len(rows)} undelivered; `riskmon outbox retry ID` makes one due now, also one set aside")


@command.command("retry")
@_ids_argument
@config_option
@click.option("--destination", default="", help="All messages for this destination.")
@click.option("--all", "everything", is_flag=True, help="All messages.")
def retry(ids: tuple[int, ...], path: Path | None, destination: str, *, everything: bool) -> None:
    """Make messages due now, those set aside too. A daemon that backs off sends them at its next try."""
    _choose(ids, destination, everything)
    with opened_ledger(path) as (_, ledger):
        count = messages.retry(ledger, ids, destination)
    click.echo(f"{count} are due now")


@command.command("drop")
@_ids_argument
@config_option
@click.option("--destination", default="", help="All messages for this destination; needs --yes.")
@click.option("--yes", is_flag=True, help="Do not ask whether all of a destination are meant.")
@click.option("--reason", required=True, help="Reason, kept on the audit chain.")
def drop(ids: tuple[int, ...], path: Path | None, destination: str, reason: str, *, yes: bool) -> None:
    """Delete messages that nobody is to get; the audit chain keeps which ones, and why."""
    _choose(ids, destination)
    if destination and not yes:
        raise click.UsageError("give --yes to drop all messages of a destination")
    with opened_ledger(path) as (_, ledger):
        count = messages.drop(ledger, reason, ids, destination)
    click.echo(f"{count} dropped; their flags stay on record")


def _choose(ids: tuple[int, ...], *others: str | bool) -> None:
    if sum(map(bool, (ids, *others))) != 1:
        raise click.UsageError(
            "name the messages by id or by --destination" + ", or give --all" * (len(others) > 1)
        )


def _shown(message: messages.Undelivered, now: float) -> dict[str, Any]:
    """Return a message as it is listed. Only ids, numbers and names of ours: no text of a trace."""
    return {
        "id": message.id,
        "destination": message.destination,
        "key": message.key,
        "state": "set aside" if message.set_aside else "waiting",
        "attempts": message.attempts,
        "age_seconds": round(max(0.0, now - message.created), 1),
        "reason": message.reason,
        "due": None if message.set_aside else max(message.due, now),
    }
