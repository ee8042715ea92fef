"""`riskmon eval`: quality of the detectors on labelled rows, judged as the daemon would judge them.

A detector is built from the configuration and given the daemon's batches, in this process and one at a time,
so texts per second are those of one worker. What counts as flagged is what the shipped rules flag.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.progress import Progress

from monitor.clock import SystemClock
from monitor.config import Profile, load
from monitor.errors import ConfigError
from monitor.evaluation import diagrams, peers, tables
from monitor.evaluation.judging import Judge, of_types
from monitor.evaluation.labelled import Row, one_type, read
from monitor.evaluation.results import OURS, Entry, labels_of, own, part, rounded, rules_raised, versus
from monitor.output import as_json as to_json
from monitor.telemetry.logging import configure


class EvaluationOptions(NamedTuple):
    """Options of the command besides the kind and the files."""

    profile: Profile | None = None
    compare: bool = False
    anchors: tuple[Path, ...] = ()
    plot: Path | None = None
    limit: int | None = None
    negatives: bool = False
    types: tuple[str, ...] = ()
    categories: bool = False
    as_json: bool = False


def run(kind: str, files: Sequence[Path], path: Path | None, options: EvaluationOptions) -> None:
    """Evaluate and print. Raises ConfigError, and BadRow before anything is judged."""
    config = load(path)
    if options.profile is not None:
        config = config.model_copy(update={"profile": options.profile})
    configure("error")
    data = {file: _rows(kind, file, options) for file in dict.fromkeys(files)}
    clock = SystemClock()
    judge = Judge(kind, config, clock)
    others = peers.installed(kind, clock) if options.compare else peers.InstalledPeers(())
    results: list[Entry] = []
    notes = [*others.missing]
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(kind, total=sum(map(len, data.values())))

        for file, rows in data.items():
            ours = judge(rows, options.types, lambda count: progress.advance(task, count))
            entry = own(kind, rows, ours.judged, ours.assessments)
            entries = [entry | judge.settings | {"rules": rules_raised(rows, ours.raised)}]
            curves = {OURS: (labels_of(rows), ours.judged.scores)}
            if options.compare:
                published = peers.published(kind, file, options.anchors)
                notes += published.missing
                for peer in (*others.peers, *published.peers):
                    known = [place for place, row in enumerate(rows) if peer.knows(row)]
                    if not known:
                        notes.append(f"{peer.name}: has no score of the rows of {file}")
                        continue
                    shared = [rows[place] for place in known]
                    judged = of_types(peer.judge(shared), options.types)
                    entries.append(versus(kind, peer.name, shared, judged, part(ours.judged, known)))
                    curves[peer.name] = (labels_of(shared), judged.scores)
            results += [{"kind": kind, "file": str(file)} | entry for entry in entries]
            if options.plot is not None:
                alike = [other for other in data if other.stem == file.stem]
                name = file.stem if len(alike) == 1 else f"{file.stem}-{alike.index(file) + 1}"
                _plot(options.plot / f"{kind}-{name}.svg", f"{kind}: {file.name}", curves)
    for note in notes:
        click.echo(f"compare: {note}", err=True)
    if options.as_json:
        click.echo(to_json({"results": rounded(results)}))
    else:
        tables.show(kind, results, categories=options.categories)


def _rows(kind: str, file: Path, options: EvaluationOptions) -> list[Row]:
    rows = read(kind, file, limit=options.limit, negatives=options.negatives)
    if not options.types:
        return rows
    spans = [[span for span in row.spans if one_type(span.kind) in options.types] for row in rows]
    return [row._replace(spans=tuple(s), label=bool(s)) for row, s in zip(rows, spans, strict=True)]


def _plot(path: Path, title: str, curves: diagrams.Curves) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(diagrams.svg(title, curves), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); give --plot another folder"
        ) from None
    click.echo(f"wrote {path}", err=True)
