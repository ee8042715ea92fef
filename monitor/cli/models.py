"""`riskmon models`: the bundled weights, and the export of a checkpoint to a faster file."""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from monitor.cli.shared import json_option
from monitor.models.bundled import bundled
from monitor.output import as_json as to_json


@click.group("models")
def command() -> None:
    """Show the bundled weights, and export your own checkpoint to a faster file."""


@command.command("list")
@json_option
def list_weights(*, as_json: bool) -> None:
    """List the bundled weights: size, state, version, what made them, model card."""
    _show(as_json=as_json)


@command.command("verify")
@json_option
def verify(*, as_json: bool) -> None:
    """Check that every bundled weight is the pinned one; exit 0 or 1."""
    if not _show(as_json=as_json):
        raise click.exceptions.Exit(1)


@command.group("export")
def export() -> None:
    """Export a checkpoint to an ONNX file, and check that it scores alike."""


@export.command("detoxify")
@click.option("--checkpoint", required=True, help="Detoxify checkpoint (.ckpt).")
@click.option("--config", "folder", required=True, help="Folder of the model's config.json and tokenizer.")
@click.option(
    "--type",
    "model_type",
    type=click.Choice(["original", "unbiased", "multilingual"]),
    default="original",
    show_default=True,
    help="Detoxify's name of the model.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, ending in .onnx; the report goes next to it, ending in .json.",
)
@click.option("--int8", is_flag=True, help="Quantise: a quarter of the size, about three times as fast.")
@json_option
def detoxify(checkpoint: str, folder: str, model_type: str, out: Path, *, int8: bool, as_json: bool) -> None:
    """Export Detoxify; exit 78 and write nothing when the scores differ."""
    from monitor.detect.detoxify_export import export as exported

    click.echo("exporting; a model of BERT's size takes about a minute", err=True)
    report = exported(checkpoint, config=folder, model_type=model_type, out=out, int8=int8)
    if as_json:
        click.echo(to_json(msgspec.to_builtins(report)))
        return
    click.echo(f"{out}: {report.bytes:,} bytes, {report.precision}, SHA-256 {report.sha256}")
    click.echo(f"largest difference from Detoxify on {report.texts} texts: {report.float_delta:.1e} as float")
    if report.thresholds is not None:
        click.echo(f"as int8: {report.int8_delta:.4f}, decisions at 0.5 alike: {report.agreement:.1%}")
        for label, threshold in report.thresholds.items():
            click.echo(f"  {label:<20} int8 {threshold:.3f} = float 0.5 (taken into account when it is run)")
    click.echo("To use it:")
    click.echo(f"detectors: {{toxicity: {{options: {{checkpoint: {out}, sha256: {report.sha256}}}}}}}")


def _show(*, as_json: bool) -> bool:
    """Print the bundled weights. Return whether each of them is the pinned one."""
    weights = bundled()
    intact = all(weight.state == "ok" for weight in weights)
    total = sum(weight.bytes for weight in weights)
    if as_json:
        click.echo(to_json({"weights": msgspec.to_builtins(weights), "bytes": total, "intact": intact}))
        return intact
    table = Table("file", "bytes", "state", "version", "card")
    table.columns[1].justify = "right"
    for weight in weights:
        table.add_row(weight.file, f"{weight.bytes:,}", weight.state, weight.sha256[:12], weight.card)
    console = Console()
    console.print(table)
    console.print(
        f"{total:,} bytes; " + ("all as pinned" if intact else "NOT all as pinned: reinstall riskmon")
    )
    return intact
