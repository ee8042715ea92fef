"""`riskmon bench profiles`: what the cascade's savings cost, on rows of yours.

Every row is judged twice, with every tier (profile full) and as configured, and decided by the shipped rules.
What counts is how much of what the full profile flags the other one flags too; labels are not looked at.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from monitor.clock import SystemClock
from monitor.config import Config, load
from monitor.detect import specs
from monitor.detect.inline import InlineDetectors
from monitor.evaluation.labelled import read
from monitor.findings import Assessment
from monitor.output import as_json as to_json
from monitor.rules import RuleSet
from monitor.telemetry.logging import configure
from monitor.trace import Origin, Trace

BATCH: Final = 64
ANY: Final = "any"


class Flags(NamedTuple):
    """The detectors whose rules flag each row, and per detector the number of rows by their last tier."""

    rows: Sequence[frozenset[str]]
    tiers: Counter[tuple[str, int]]


def run(kind: str, files: Sequence[Path], path: Path | None, *, limit: int | None, as_json: bool) -> None:
    """Compare and print. Raises ConfigError, and BadRow before anything is judged."""
    config = load(path)
    configure("error")
    data = {
        file: [row.trace for row in read(kind, file, limit=limit, negatives=True)]
        for file in dict.fromkeys(files)
    }
    full = config.model_copy(update={"profile": "full"})
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(kind, total=2 * sum(map(len, data.values())))
        every, some = _Judge(full), _Judge(config)
        pairs: list[tuple[Flags, Flags]] = []
        for traces in data.values():
            pairs.append((every(traces), some(traces)))
            progress.advance(task, 2 * len(traces))
    results = [
        {"kind": kind, "file": str(file), "rows": len(traces), **agreement(wanted, got)}
        for (file, traces), (wanted, got) in zip(data.items(), pairs, strict=True)
    ]
    total = agreement(_joined([result for result, _ in pairs]), _joined([result for _, result in pairs]))
    if as_json:
        click.echo(to_json({"profile": config.profile, "results": results, "total": total}))
        return
    table = Table(
        "file", "rows", "detector", "full", f"{config.profile} too", "share", f"{config.profile} only"
    )
    for column in (1, 3, 4, 5, 6):
        table.columns[column].justify = "right"
    for result in [*results, {"file": "total", "rows": sum(map(len, data.values())), **total}]:
        for detector, counts in result["flagged"].items():
            share = "" if counts["share"] is None else f"{counts['share']:.1%}"
            first = (result["file"], f"{result['rows']:,}") if detector == ANY else ("", "")
            table.add_row(
                *first, detector, *(str(counts[n]) for n in ("full", "both")), share, str(counts["only"])
            )
    Console().print(table)


def agreement(full: Flags, other: Flags) -> dict[str, Any]:
    """Return, for each detector and for any of them, how many rows are flagged.

    `full`: by the full profile; `both`: by the other one as well; `only`: by the other one alone; `share` is
    both over full, None where full flags nothing. `looked` is, per detector, the share of rows in which the
    other profile went beyond the first tier.
    """
    names = sorted(frozenset[str]().union(*full.rows, *other.rows))
    result: dict[str, Any] = {}
    for name in (ANY, *names):
        pairs = Counter(
            (bool(a), bool(b)) if name == ANY else (name in a, name in b)
            for a, b in zip(full.rows, other.rows, strict=True)
        )
        wanted = pairs[True, True] + pairs[True, False]
        share = pairs[True, True] / wanted if wanted else None
        result[name] = {"full": wanted, "both": pairs[True, True], "only": pairs[False, True], "share": share}
    seen: Counter[str] = Counter()
    for (name, tier), count in other.tiers.items():
        seen[name] += count if tier else 0
    looked = {
        name: seen[name] / max(1, len(other.rows)) for name in sorted({name for name, _ in other.tiers})
    }
    return {"flagged": result, "looked": looked}


class _Judge:
    """All enabled detectors and the shipped rules."""

    def __init__(self, config: Config) -> None:
        clock = SystemClock()
        built = [spec.build() for spec in specs(config)]
        self._detectors = InlineDetectors(built, batch_size=BATCH, clock=clock)
        self._rules = RuleSet.load()

    def __call__(self, traces: Sequence[Trace]) -> Flags:
        rows: list[frozenset[str]] = []
        tiers: Counter[tuple[str, int]] = Counter()
        for start in range(0, len(traces), BATCH):
            batch = traces[start : start + BATCH]
            self._detectors.submit(start, batch)
            for verdicts in self._detectors.collect(0.0):
                for place, (trace, assessments) in enumerate(zip(batch, verdicts.assessments, strict=True)):
                    rows.append(self._flags(start + place, trace, assessments))
                    tiers.update((assessment.detector, assessment.tier) for assessment in assessments)
        return Flags(rows, tiers)

    def _flags(self, place: int, trace: Trace, assessments: Sequence[Assessment]) -> frozenset[str]:
        decided = self._rules.decide(Origin("bench", 0, place, 0), trace, assessments)
        return frozenset(name for flag in decided.flags for name in flag.detectors)


def _joined(parts: Sequence[Flags]) -> Flags:
    tiers: Counter[tuple[str, int]] = Counter()
    for part in parts:
        tiers.update(part.tiers)
    return Flags([row for part in parts for row in part.rows], tiers)
