"""`riskmon schema`: the JSON Schemas that are published."""

import json

import click

from monitor.ingest.native import schema as native_schema
from monitor.outcome.verdict import schema as verdict_schema


@click.command("schema")
@click.argument("what", type=click.Choice(["trace", "verdict"]), default="trace")
def command(what: str) -> None:
    """Print the JSON Schema of the native trace, or of verdicts as they are published."""
    click.echo(json.dumps(native_schema() if what == "trace" else verdict_schema(), indent=2))
