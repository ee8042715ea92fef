# ruff: noqa: INP001 - a script, not a package
"""Draws each dashboard's grid with real data to `grafana/previews/*.png`: `make dashboard-previews`.

For judging a layout where there is no Grafana. Colours, legends and fonts are only like Grafana's.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
from boards import BOARDS
from live import Prometheus, demo, plain
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from panels import WIDTH, render

from monitor.clock import SystemClock

OUT: Final = Path(__file__).parent / "previews"
SECONDS: Final = 150
SHOWN: Final = 120  # seconds of the time axis
LEGENDS: Final = 8  # beyond, they would cover the next panel
LETTERS: Final = 26
CELL: Final = 0.42  # inches of a grid row
BACK, CARD, TEXT = "#111217", "#1b1d23", "#ccccdc"
COLORS = {"green": "#299c46", "red": "#d44a3a", "orange": "#ff9830", "blue": "#5794f2"}


def short(value: float, unit: str) -> str:
    """A value as Grafana would write it, roughly."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    return f"{value:.3g}" + (" /s" if unit == "cps" else "")


def series(prometheus: Prometheus, target: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    """Legend, times and values of each series of a panel's query."""
    now = SystemClock().now()
    window = {"start": str(now - SHOWN), "end": str(now), "step": "2"}
    found = prometheus.ask("query_range", query=plain(target["expr"]), **window)["result"]
    drawn = []
    for one in found:
        legend = target["legendFormat"]
        for name, value in one["metric"].items():
            legend = legend.replace(f"{{{{{name}}}}}", value)
        legend = " ".join(word for word in legend.split() if not word.startswith("{{"))
        drawn.append(
            (
                legend,
                [float(at) - now for at, _ in one["values"]],
                [float(value) for _, value in one["values"]],
            )
        )
    return drawn


def card(axes: Axes, panel: dict[str, Any]) -> None:
    """The frame and title of a panel."""
    axes.set_facecolor(CARD)
    for spine in axes.spines.values():
        spine.set_color("#2c3235")
    axes.tick_params(colors=TEXT, labelsize=6, length=2)
    axes.set_title(panel["title"], color=TEXT, fontsize=8, loc="left", pad=4)


def graph(axes: Axes, panel: dict[str, Any], prometheus: Prometheus) -> None:
    """A time series panel."""
    card(axes, panel)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    drawn = [one for target in panel["targets"] for one in series(prometheus, target)]
    if not drawn:
        axes.text(0.5, 0.5, "No data", color=TEXT, ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    fixed = {
        override["matcher"]["options"]: COLORS[override["properties"][0]["value"]["fixedColor"]]
        for override in panel["fieldConfig"]["overrides"]
    }
    floor: dict[float, float] = {}
    for legend, times, values in drawn:
        rounded = [round(at / 2) * 2.0 for at in times]
        shown = [value + floor.get(at, 0.0) for at, value in zip(rounded, values, strict=True)]
        [line] = axes.plot(times, shown, linewidth=1, label=legend, color=fixed.get(legend))
        base = [floor.get(at, 0.0) for at in rounded] if stacked else [0.0] * len(times)
        axes.fill_between(
            times, base, shown, alpha=0.3 if stacked else 0.08, color=line.get_color(), linewidth=0
        )
        if stacked:
            floor |= dict(zip(rounded, shown, strict=True))
    axes.set_ylim(bottom=0)
    axes.set_xlim(-SHOWN, 0)
    axes.grid(color="#2c3235", linewidth=0.4)
    axes.yaxis.set_major_formatter(lambda value, _: short(value, unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, panel["gridPos"]["w"] // 3)
    labels = [label[:LETTERS] for label in labels]
    axes.legend(
        handles[:LEGENDS], labels[:LEGENDS], loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=columns,
        fontsize=5.5, frameon=False, labelcolor=TEXT, handlelength=1, columnspacing=1,
    )  # fmt: skip


def stat(axes: Axes, panel: dict[str, Any], prometheus: Prometheus) -> None:
    """A single value on its colour."""
    card(axes, panel)
    axes.set_xticks([])
    axes.set_yticks([])
    defaults = panel["fieldConfig"]["defaults"]
    found = prometheus.result(panel["targets"][0]["expr"])
    value = float(found[0]["value"][1]) if found else None
    steps = defaults.get("thresholds", {}).get("steps")
    if value is not None:
        reached = [step["color"] for step in steps or () if step["value"] is None or value >= step["value"]]
        axes.set_facecolor(COLORS[reached[-1]] if reached else CARD)
    shown = "No data" if value is None else short(value, defaults["unit"])
    axes.text(0.5, 0.5, shown, color="white", fontsize=15, ha="center", va="center", transform=axes.transAxes)


def table(axes: Axes, panel: dict[str, Any], prometheus: Prometheus) -> None:
    """An instant query's labels and values."""
    card(axes, panel)
    axes.set_xticks([])
    axes.set_yticks([])
    found = sorted(prometheus.result(panel["targets"][0]["expr"]), key=lambda one: -float(one["value"][1]))[
        :12
    ]
    rows = [[*one["metric"].values(), short(float(one["value"][1]), "cps")] for one in found]
    if not rows:
        return
    head = [*found[0]["metric"], panel["targets"][0]["legendFormat"]]
    drawn = axes.table(rows, colLabels=head, bbox=Bbox.unit(), cellLoc="left")
    drawn.auto_set_font_size(value=False)
    drawn.set_fontsize(6)
    for cell in drawn.get_celld().values():
        cell.set_facecolor(CARD)
        cell.set_edgecolor("#2c3235")
        cell.get_text().set_color(TEXT)


def draw(board: dict[str, Any], prometheus: Prometheus) -> Figure:
    """One dashboard."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(15, rows * CELL + 0.6), facecolor=BACK)
    height = rows + 0.6 / CELL
    figure.text(
        0.008, 1 - 0.25 / (rows * CELL + 0.6), board["title"], color="white", fontsize=13, va="center"
    )
    kinds = {"timeseries": graph, "stat": stat, "table": table}
    for panel in board["panels"]:
        at = panel["gridPos"]
        bottom, left = (rows - at["y"] - at["h"]) / height, at["x"] / WIDTH
        if panel["type"] == "row":
            figure.text(left + 0.008, bottom + 0.35 / height, f"▾ {panel['title']}", color=TEXT, fontsize=10)
            continue
        # Room for the title above, the axis beside and the legend below.
        plots = panel["type"] == "timeseries"
        margin = (0.035, 0.012, 2.0, 0.9) if plots else (0.006, 0.006, 0.2, 0.9)
        width, tall = at["w"] / WIDTH - margin[0] - margin[1], (at["h"] - margin[2] - margin[3]) / height
        axes = figure.add_axes((left + margin[0], bottom + margin[2] / height, width, tall))
        kinds[panel["type"]](axes, panel, prometheus)
    return figure


def main(arguments: Sequence[str]) -> int:
    """Draw the boards named, or all."""
    program = shutil.which("prometheus")
    if program is None:
        sys.stderr.write("previews need prometheus on PATH\n")
        return 1
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, demo(Path(scratch), program, SECONDS + 60) as prometheus:
        SystemClock().sleep(SECONDS)
        for name in arguments or BOARDS:
            figure = draw(render(BOARDS[name]), prometheus)
            figure.savefig(OUT / f"{name}.png", dpi=72, facecolor=BACK)
            plt.close(figure)
            _shrink(OUT / f"{name}.png")
    return 0


def _shrink(path: Path) -> None:
    """Few colours: a third of the size."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
