"""`riskmon models`: the bundled weights, and turning a checkpoint into a faster file."""

from pathlib import Path
from typing import Literal, TypeAlias

import click
import msgspec
from rich.console import Console
from rich.table import Table

from monitor import models
from monitor.errors import ConfigError
from monitor.output import as_json as to_json

CARDS = models.WEIGHTS.parent / "cards"
State: TypeAlias = Literal["ok", "altered", "missing", "unpinned"]


class Weights(msgspec.Struct, frozen=True):
    """One file of the bundled weights: size on disk, whether it is the pinned one, and what made it."""

    file: str
    bytes: int
    state: State
    sha256: str
    trained_by: str
    card: str


def bundled() -> list[Weights]:
    """Return every file that is pinned or lies in the folder of the weights, by name.

    Raises ConfigError when the manifest cannot be read.
    """
    pins = models.manifest()
    there = {path.name for path in models.WEIGHTS.iterdir() if path.is_file()} - {models.MANIFEST.name}
    found = []
    for name in sorted(there | set(pins)):
        pin = pins.get(name)
        path = models.WEIGHTS / name
        found.append(
            Weights(
                file=name,
                bytes=path.stat().st_size if path.is_file() else 0,
                state=_state(name, pinned=pin is not None),
                sha256=pin["sha256"] if pin else "",
                trained_by=pin["trained_by"] if pin else "",
                card=_card(name),
            )
        )
    return found


def show(*, as_json: bool) -> bool:
    """Print the bundled weights. Return whether each of them is the pinned one."""
    found = bundled()
    intact = all(one.state == "ok" for one in found)
    total = sum(one.bytes for one in found)
    if as_json:
        click.echo(to_json({"weights": msgspec.to_builtins(found), "bytes": total, "intact": intact}))
        return intact
    table = Table("file", "bytes", "state", "version", "card")
    table.columns[1].justify = "right"
    for one in found:
        table.add_row(one.file, f"{one.bytes:,}", one.state, one.sha256[:12], one.card)
    console = Console()
    console.print(table)
    console.print(
        f"{total:,} bytes; " + ("all as pinned" if intact else "NOT all as pinned: reinstall riskmon")
    )
    return intact


def export_detoxify(
    checkpoint: str, *, config: str, model_type: str, out: Path, int8: bool, as_json: bool
) -> None:
    """Export, and print the report and what to configure. Raises ConfigError as `detoxify_export.export`."""
    from monitor.detect.detoxify_export import export

    click.echo("exporting; a model of BERT's size takes about a minute", err=True)
    report = export(checkpoint, config=config, model_type=model_type, out=out, int8=int8)
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


def _state(name: str, *, pinned: bool) -> State:
    if not (models.WEIGHTS / name).is_file():
        return "missing"
    if not pinned:
        return "unpinned"
    try:
        models.verified(name)
    except ConfigError:
        return "altered"
    return "ok"


def _card(name: str) -> str:
    """Return the model card that names the file in its list of files."""
    cards = sorted(CARDS.glob("*.md"))
    return next((card.stem for card in cards if f"`{name}`" in card.read_text(encoding="utf-8")), "")
