"""`riskmon eval`: measures a detector on labelled rows."""

from pathlib import Path
from typing import Any, get_args

import click

from monitor import evaluation
from monitor.cli.shared import config_option, json_option
from monitor.config import Profile
from monitor.evaluation.labelled import KINDS


@click.command("eval")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@config_option
@click.option(
    "--profile", type=click.Choice(get_args(Profile)), help="Profile, instead of the configured one."
)
@click.option(
    "--compare", is_flag=True, help="Measure installed peers and published scores on the same rows."
)
@click.option(
    "--anchors",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="With --compare: a file of scores per row; else those in a folder `anchors` next to the data.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for ROC and reliability diagrams.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Read at most this many rows of each file.")
@click.option(
    "--negatives", is_flag=True, help="Rows without a label or spans are negative, e.g. plain chat."
)
@click.option(
    "--types",
    help="pii: count only these types, separated by commas, for data that labels only some, e.g. PERSON.",
)
@click.option("--categories", is_flag=True, help="Also by the rows' `category` (always in the JSON).")
@json_option
def command(kind: str, files: tuple[Path, ...], path: Path | None, **options: Any) -> None:
    """Measure a detector on labelled JSONL files, as the daemon would judge them."""
    types = (options.pop("types") or "").split(",")
    asked = evaluation.EvaluationOptions(
        types=tuple(t.strip().upper() for t in types if t.strip()), **options
    )
    evaluation.run(kind, files, path, asked)
