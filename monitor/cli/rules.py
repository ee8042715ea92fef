"""`riskmon rules`: work on rule files."""

from collections.abc import Sequence
from pathlib import Path

import click

from monitor.cli.shared import json_option
from monitor.output import as_json as to_json
from monitor.output import printable
from monitor.rules import default_paths, run_tests


@click.group()
def command() -> None:
    """Work on rule files."""


@command.command("test")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@json_option
def test(paths: tuple[Path, ...], *, as_json: bool) -> None:
    """Run the tests inside rule files (default: the packs that come with riskmon)."""
    if not _test(paths, as_json=as_json):
        raise click.exceptions.Exit(1)


def _test(paths: Sequence[Path], *, as_json: bool) -> bool:
    """Run rule tests and print what failed; return whether all passed."""
    results = run_tests(list(paths) or default_paths())
    failed = [result for result in results if not result.passed]
    if as_json:
        rows = [
            {"file": str(r.file), "name": r.name, "passed": r.passed, "expected": r.expected, "got": r.got}
            for r in results
        ]
        click.echo(to_json({"passed": len(results) - len(failed), "failed": len(failed), "tests": rows}))
        return not failed
    for result in failed:
        click.echo(f"FAILED {result.file}: {printable(result.name)}")
        click.echo(f"  expected {list(result.expected)}, got {list(result.got)}")
    click.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return not failed
