"""`riskmon eval`: how good the detectors are on labelled rows, judged as the daemon would judge them.

A detector is built from the configuration and given the daemon's batches, in this process and one at a time,
so texts per second are those of one worker. What counts as flagged is what the shipped rules flag.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from monitor.cascade import Profile
from monitor.cli import diagrams, peers
from monitor.cli.daemon import as_json as to_json
from monitor.cli.labelled import Judged, Row, one_type, read
from monitor.cli.results import OURS, Entry, kept, labels_of, own, part, rounded, rules_raised, versus
from monitor.clock import Clock, SystemClock
from monitor.config import Config, load
from monitor.detect import specs
from monitor.detect.inline import InlineDetectors
from monitor.errors import ConfigError
from monitor.evaluation import Entity
from monitor.findings import Assessment, Status
from monitor.rules import Rule, RuleSet
from monitor.telemetry.logging import configure
from monitor.trace import Origin

RULE: Final[Mapping[str, str]] = {
    "hallucination": "UnsupportedAnswer",
    "toxicity": "ToxicResponse",
    "injection": "PromptInjection",
}
"""The shipped rule that flags a row of a kind, and with that its threshold. Of personal data, whatever the
detector reports counts: the rules ask for kinds of data that alert, and leave names and places alone."""
BATCH: Final = 64
WIDTH: Final = 150  # of tables that go into a file or a pipe


class Options(NamedTuple):
    """What is asked for beside the kind and the files."""

    profile: Profile | None = None
    compare: bool = False
    against: Profile | None = None
    anchors: tuple[Path, ...] = ()
    plot: Path | None = None
    limit: int | None = None
    negatives: bool = False
    types: tuple[str, ...] = ()
    categories: bool = False
    as_json: bool = False


class Answers(NamedTuple):
    """Our detector's answers to rows: as scores and flags, as they are, and the shipped rules each raises."""

    judged: Judged
    assessments: Sequence[Assessment]
    raised: Sequence[tuple[str, ...]]


def run(kind: str, files: Sequence[Path], path: Path | None, options: Options) -> None:
    """Evaluate and print. Raises ConfigError, and BadRow before anything is judged."""
    config = _with(load(path), options.profile)
    configure("error")
    data = {file: _rows(kind, file, options) for file in dict.fromkeys(files)}
    clock = SystemClock()
    judge = Judge(kind, config, clock)
    reference = Judge(kind, _with(config, options.against), clock) if options.against else None
    installed = peers.installed(kind, clock) if options.compare else peers.Found(())
    missing = [*installed.missing]
    results: list[Entry] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(kind, total=sum(map(len, data.values())) * (2 if reference else 1))

        def advance(count: int) -> None:
            progress.advance(task, count)

        for file, rows in data.items():
            ours = judge(rows, options.types, advance)
            entry = own(kind, rows, ours.judged, ours.assessments)
            entries = [entry | judge.settings | {"rules": rules_raised(rows, ours.raised)}]
            curves = {OURS: (labels_of(rows), ours.judged.scores)}
            if reference is not None:
                theirs = reference(rows, options.types, advance)
                entry = versus(kind, f"{OURS} {options.against}", rows, theirs.judged, ours.judged)
                entries.append(entry | {"kept": kept(theirs.raised, ours.raised)})
            others = [*installed.peers]
            if options.compare and kind == "hallucination":
                published = peers.published(file, options.anchors)
                others += published.peers
                missing += published.missing
            for peer in others:
                known = [place for place, row in enumerate(rows) if peer.knows(row)]
                if not known:
                    missing.append(f"{peer.name}: has no score of the rows of {file}")
                    continue
                shared = [rows[place] for place in known]
                judged = _of_types(peer.judge(shared), options.types)
                entries.append(versus(kind, peer.name, shared, judged, part(ours.judged, known)))
                curves[peer.name] = (labels_of(shared), judged.scores)
            results += [{"kind": kind, "file": str(file)} | entry for entry in entries]
            if options.plot is not None:
                _plot(options.plot / f"{kind}-{file.stem}.svg", f"{kind}: {file.name}", curves)
    for note in missing:
        click.echo(f"compare: {note}", err=True)
    if options.as_json:
        click.echo(to_json({"results": rounded(results)}))
    else:
        _show(kind, results, categories=options.categories)


def _with(config: Config, profile: Profile | None) -> Config:
    return config if profile is None else config.model_copy(update={"profile": profile})


def _rows(kind: str, file: Path, options: Options) -> list[Row]:
    rows = read(kind, file, limit=options.limit, negatives=options.negatives)
    if not options.types:
        return rows
    kept = [[span for span in row.spans if one_type(span.kind) in options.types] for row in rows]
    return [row._replace(spans=tuple(s), label=bool(s)) for row, s in zip(rows, kept, strict=True)]


class Judge:
    """Our detector of one kind and the shipped rules, built once for all files."""

    def __init__(self, kind: str, config: Config, clock: Clock) -> None:
        """Raise ConfigError when the configuration turns the detector off, or it cannot be built."""
        spec = next((spec for spec in specs(config) if spec.name == kind), None)
        if spec is None:
            raise ConfigError(f"detectors.{kind}.enabled: false, so there is nothing to evaluate; enable it")
        self._kind = kind
        self._detectors = InlineDetectors([spec.build()], batch_size=BATCH, clock=clock)
        self._rules = RuleSet.load()
        self._clock = clock
        self.settings = {
            "profile": config.profile,
            "rule": RULE.get(kind),
            "threshold": threshold(kind, self._rules.rules),
        }

    def __call__(
        self, rows: Sequence[Row], types: Sequence[str] = (), advance: Callable[[int], None] = lambda _: None
    ) -> Answers:
        """Judge rows in batches, `advance` being told the size of each; `types` as of `_of_types`."""
        assessments: list[Assessment] = []
        began, cpu = self._clock.monotonic(), time.process_time()
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            self._detectors.submit(start, [row.trace for row in batch])
            for verdicts in self._detectors.collect(0.0):
                assessments += [mine for (mine,) in verdicts.assessments]
            advance(len(batch))
        seconds, cpu = self._clock.monotonic() - began, time.process_time() - cpu
        raised = [self._raised(row, assessment) for row, assessment in zip(rows, assessments, strict=True)]
        found = [_entities(assessment) for assessment in assessments]
        if self._kind == "pii":
            flagged = [bool(entities) for entities in found]
        else:
            flagged = [RULE[self._kind] in rules for rules in raised]
        scores = np.array([assessment.score or 0.0 for assessment in assessments])
        judged = Judged(scores, np.array(flagged), found, seconds, cpu)
        return Answers(_of_types(judged, types), assessments, raised)

    def _raised(self, row: Row, assessment: Assessment) -> tuple[str, ...]:
        origin = Origin("eval", 0, 0, 0)  # makes the ids of flags, which nobody sees here
        return tuple(flag.rule for flag in self._rules.decide(origin, row.trace, [assessment]).flags)


def threshold(kind: str, rules: Sequence[Rule]) -> float | None:
    """Return the one number with which the rule of a kind compares; None when there is no such one."""
    reads = next((rule.expression.reads for rule in rules if rule.name == RULE.get(kind)), None)
    numbers = {n for read, of in reads.compared.items() if read[0] == kind for n in of} if reads else set()
    return numbers.pop() if len(numbers) == 1 else None


def _entities(assessment: Assessment) -> tuple[Entity, ...]:
    if assessment.status is not Status.SCORED:
        return ()
    return tuple(Entity(e.start, e.end, e.kind) for e in assessment.evidence)


def _of_types(judged: Judged, types: Sequence[str]) -> Judged:
    """Return answers with only the entities of these types (none: all); a text without any scores 0."""
    if not types:
        return judged
    found = [tuple(e for e in entities if one_type(e.kind) in types) for entities in judged.found]
    some = np.array([bool(entities) for entities in found])
    return judged._replace(found=found, flagged=some, scores=np.where(some, judged.scores, 0.0))


def _plot(path: Path, title: str, curves: diagrams.Curves) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(diagrams.svg(title, curves), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); give --plot another folder"
        ) from None
    click.echo(f"wrote {path}", err=True)


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


def _show(kind: str, results: Sequence[Entry], *, categories: bool) -> None:
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
        remarks = []
        if "kept" in entry:
            flagged, share = entry["kept"]["flagged_rows"], entry["kept"]["kept_rows"]
            told = "" if share is None else f", of which {OURS} flags {share:.1%}"
            remarks = [f"{name}: {entry['system']} flags {flagged} rows by any shipped rule{told}"]
        if compared["interval"] is None:
            return remarks
        low, high = compared["interval"]
        figure = f"{compared['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
        what = f"{compared['measure'].upper()} of {OURS} minus {entry['system']}"
        return [*remarks, f"{name}: {what} on {entry['rows']} rows: {figure}"]
    unscored = entry["rows"] - entry["statuses"].get(Status.SCORED, 0)
    why = ", ".join(f"{reason} {count}" for reason, count in entry["reasons"].items())
    remarks = [f"{name}: {unscored} rows not scored ({why}); they count as score 0"] if unscored else []
    shares = ", ".join(f"tier {tier} {share:.1%}" for tier, share in entry["tiers"].items())
    return [*remarks, f"{name}: {shares} of the rows, profile {entry['profile']}, version {entry['version']}"]
