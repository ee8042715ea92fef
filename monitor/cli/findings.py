"""Prints the findings of `check` and `doctor`."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from monitor.daemon.checks import CheckResult
from monitor.errors import ConfigError
from monitor.output import as_json as to_json


def usable(path: Path | None) -> CheckResult:
    """Return the line of a configuration that was read."""
    return CheckResult("configuration", "ok", str(path) if path else "defaults and environment")


def unusable(error: ConfigError) -> list[CheckResult]:
    """Return a line for each fault of a configuration."""
    return [CheckResult("configuration", "failed", line) for line in str(error).splitlines()]


def show(findings: Sequence[CheckResult], *, as_json: bool) -> bool:
    """Print findings; return whether none failed."""
    ok = all(finding.state != "failed" for finding in findings)
    if as_json:
        click.echo(to_json({"ok": ok, "findings": [finding._asdict() for finding in findings]}))
        return ok
    table = Table("subject", "state", "detail", box=None)
    colours = {"ok": "green", "missing": "yellow", "failed": "red"}
    for finding in findings:
        table.add_row(finding.subject, f"[{colours[finding.state]}]{finding.state}[/]", finding.detail)
    Console().print(table)
    return ok
