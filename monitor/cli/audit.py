"""`riskmon audit`: prove what was judged."""

from pathlib import Path

import click

from monitor.cli.shared import config_option, inspected_ledger, json_option
from monitor.errors import Damaged
from monitor.ledger import queries
from monitor.ledger.audit import AuditReport
from monitor.output import as_json as to_json
from monitor.output import printable


@click.group()
def command() -> None:
    """Prove what was judged."""


@command.command("verify")
@config_option
@json_option
def verify(path: Path | None, *, as_json: bool) -> None:
    """Verify that nothing was altered, skipped or judged twice; exit 0 or 1."""
    if not _verify(path, as_json=as_json):
        raise click.exceptions.Exit(1)


def _verify(path: Path | None, *, as_json: bool) -> bool:
    """Print the report; return whether the ledger holds."""
    try:
        with inspected_ledger(path) as (_, ledger):
            report = queries.verify(ledger)
    except Damaged as error:
        report = AuditReport(problems=[str(error)])
    if as_json:
        click.echo(
            to_json(
                {
                    "ok": report.ok,
                    "entries": report.entries,
                    "records": report.records,
                    "traces": report.traces,
                    "dead_letters": report.dead,
                    "flags": report.flags,
                    "statuses": report.statuses,
                    "positions": report.positions,
                    "head": report.head,
                    "problems": report.problems,
                    "gaps": report.gaps,
                    "open": report.open,
                    "incarnations": report.incarnations,
                }
            )
        )
        return report.ok
    click.echo(f"{report.entries} entries, chain head {report.head[:16]}…")
    click.echo(f"{report.records} records judged ({report.dead} dead-lettered), {report.flags} flags")
    for name, offset in sorted(report.positions.items()):
        click.echo(f"  {printable(name)}: every offset judged up to {offset}")
    for line in report.open:
        click.echo(f"  not judged yet: {printable(line)}")
    for line in report.incarnations:
        click.echo(f"  {printable(line)}")
    for line in report.gaps:
        click.echo(f"GAP: {printable(line)}")
    for line in report.problems:
        click.echo(f"PROBLEM: {printable(line)}")
    click.echo(
        "verified: nothing altered, nothing skipped, nothing judged twice" if report.ok else "NOT verified"
    )
    return report.ok
