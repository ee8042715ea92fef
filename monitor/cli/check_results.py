"""Prints the results of `check` and `doctor`."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.config import exposed_secrets
from monitor.daemon.checks import CheckResult
from monitor.errors import ConfigError
from monitor.output import as_json as to_json
from monitor.output import printable


def usable(path: Path | None) -> list[CheckResult]:
    """Return the lines of a configuration that was read."""
    if path is None:
        return [CheckResult("configuration", "ok", "defaults and environment")]
    results = [CheckResult("configuration", "ok", str(path))]
    try:
        exposed = exposed_secrets(path)
    except ConfigError:  # what is missing in the file is in the environment
        exposed = []
    if exposed:
        detail = (
            f"{path}: other users may read it, and it holds {', '.join(exposed)}; run `chmod o-r` on it, or "
            "give secrets as RISKMON_… variables"
        )
        results.append(CheckResult("configuration's rights", "missing", detail))
    return results


def unusable(error: ConfigError) -> list[CheckResult]:
    """Return a line for each fault of a configuration."""
    return [CheckResult("configuration", "failed", line) for line in str(error).splitlines()]


def show(results: Sequence[CheckResult], *, as_json: bool) -> bool:
    """Print results; return whether none failed."""
    ok = all(result.state != "failed" for result in results)
    if as_json:
        click.echo(to_json({"ok": ok, "findings": [result._asdict() for result in results]}))
        return ok
    table = Table("subject", "state", "detail", box=None)
    colours = {"ok": "green", "missing": "yellow", "failed": "red"}
    for result in results:
        table.add_row(
            Text(printable(result.subject)),
            f"[{colours[result.state]}]{result.state}[/]",
            Text(printable(result.detail)),
        )
    Console().print(table)
    return ok
