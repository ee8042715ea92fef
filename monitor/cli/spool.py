"""`riskmon spool`: show received records that wait to be judged."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from monitor.cli.shared import config_option, inspected_ledger, json_option, utc
from monitor.ledger.spool import usage_by_topic
from monitor.output import as_json as to_json


@click.group()
def command() -> None:
    """Show received records that wait to be judged."""


@command.command("list")
@config_option
@json_option
def list_spools(path: Path | None, *, as_json: bool) -> None:
    """List waiting records per instance; those of a stopped one wait for a daemon of its name."""
    with inspected_ledger(path) as (config, ledger):
        spools = usage_by_topic(ledger)
        own = set(config.spool_topics().values())
    rows: list[dict[str, Any]] = [
        {
            "topic": topic,
            "instance": topic.partition("@")[2],
            "records": usage.end - usage.begin,
            "bytes": usage.bytes,
            "oldest": oldest,
            "ours": topic in own,
        }
        for topic, (usage, oldest) in spools.items()
    ]
    if as_json:
        click.echo(to_json(rows))
        return
    table = Table("topic", "instance", "bodies", "bytes", "oldest")
    for row in rows:
        waiting = (str(row["records"]), str(row["bytes"]), utc(row["oldest"]))
        table.add_row(row["topic"], row["instance"], *waiting)
    Console().print(table)
    if any(not row["ours"] for row in rows):
        click.echo("what another instance received is judged when a daemon with its name runs on this ledger")
