"""Results of `riskmon eval` for people to read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.evaluation.results import OURS, Entry
from monitor.findings import Status

WIDTH: Final = 150  # of tables that go into a file or a pipe

_COLUMNS: Final[Mapping[str, str]] = {
    "rows": "rows",
    "positives": "positive",
    "auroc": "AUROC",
    "auroc_interval": "95 %",
    "average_precision": "AP",
    "balanced_accuracy": "bal. acc.",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "f2": "F2",
    "ece": "ECE",
    "fpr": "FPR",
    "texts_per_second": "texts/s",
}


def show(kind: str, results: Sequence[Entry], *, categories: bool) -> None:
    """Print the results of the files of one kind."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    rows = [([Path(entry["file"]).name, entry["system"]], entry) for entry in results]
    console.print(_table(["file", "system"], _COLUMNS, rows))
    if kind == "pii":
        console.print("Precision, recall, F1 and F2 are of spans, half overlap, any type; the rest of texts.")
    for remark in (remark for entry in results for remark in _remarks(entry)):
        console.print(Text(remark), soft_wrap=True)
    for entry in results:
        name = Path(entry["file"]).name
        if "types" in entry and entry["system"] == OURS:
            columns = {key: key.replace("_", " ") for key in next(iter(entry["types"].values()), {})}
            console.print(
                _table([f"type ({name})"], columns, [([t], row) for t, row in entry["types"].items()])
            )
        if categories and entry.get("categories"):
            columns = {
                key: name for key, name in _COLUMNS.items() if key in next(iter(entry["categories"].values()))
            }
            within = [([category], row) for category, row in entry["categories"].items()]
            console.print(_table([f"category ({name})"], columns, within))


def _table(
    heads: Sequence[str], columns: Mapping[str, str], rows: Iterable[tuple[Sequence[str], Entry]]
) -> Table:
    table = Table(box=None)
    for head in heads:
        table.add_column(head, overflow="fold")
    for name in columns.values():
        table.add_column(name, justify="right")
    for names, entry in rows:
        table.add_row(*(Text(name) for name in names), *(_figure(entry[key]) for key in columns))
    return table


def _figure(value: float | tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return f"{value[0]:.2f}-{value[1]:.2f}"
    return str(value) if isinstance(value, int) else f"{value:.3f}" if value <= 1.0 else f"{value:.0f}"


def _remarks(entry: Entry) -> list[str]:
    """Return what figures do not say: what was not scored, which tiers looked, how far from a peer."""
    name = Path(entry["file"]).name
    if entry["system"] != OURS:
        compared = entry["versus"]
        if compared["interval"] is None:
            return []
        low, high = compared["interval"]
        figure = f"{compared['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
        what = f"{compared['measure'].upper()} of {OURS} minus {entry['system']}"
        return [f"{name}: {what} on {entry['rows']} rows: {figure}"]
    unscored = entry["rows"] - entry["statuses"].get(Status.SCORED, 0)
    why = ", ".join(f"{reason} {count}" for reason, count in entry["reasons"].items())
    remarks = [f"{name}: {unscored} rows not scored ({why}); they count as score 0"] if unscored else []
    shares = ", ".join(f"tier {tier} {share:.1%}" for tier, share in entry["tiers"].items())
    return [*remarks, f"{name}: {shares} of the rows, profile {entry['profile']}, version {entry['version']}"]
