"""`riskmon scan`: judge a file without a broker, through the same engine, on a ledger that is thrown away."""

import heapq
import math
import tempfile
from collections import Counter
from pathlib import Path

import click
import structlog
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from monitor.cli.daemon import as_json as to_json
from monitor.cli.daemon import assemble, collect_rarely, open_ledger
from monitor.clock import SystemClock
from monitor.config import Config, DeliverConfig, LedgerConfig, load
from monitor.detect import specs
from monitor.detect.pool import Pool
from monitor.findings import DeadLetter, Judgement, Status
from monitor.rules import RuleBook, default_paths
from monitor.sources.file import FileSource
from monitor.telemetry.logging import configure
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer import TelemetryObserver


class _Lines:
    """Prints one line per trace in the order of the input, though batches finish out of order."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, str]] = []

    def put(self, offset: int, part: int, line: str) -> None:
        """Hold a line."""
        heapq.heappush(self._held, (offset, part, line))

    def flush(self, below: float) -> None:
        """Print, in order, the lines of records before offset `below`."""
        while self._held and self._held[0][0] < below:
            click.echo(heapq.heappop(self._held)[2])


def verdict(judgement: Judgement) -> dict[str, object]:
    """One judged trace for machines; no text of it."""
    return {
        "id": judgement.trace.id,
        "assessments": [
            {
                "detector": a.detector,
                "status": a.status.value,
                "score": a.score,
                "reason": a.reason,
                "evidence": [
                    {"field": e.field, "start": e.start, "end": e.end, "kind": e.kind, "score": e.score}
                    for e in a.evidence
                ],
            }
            for a in judgement.assessments
        ],
        "flags": [{"rule": flag.rule, "severity": flag.severity.value} for flag in judgement.flags],
    }


def run(file: str, path: Path | None, *, as_json: bool) -> None:
    """Judge every line of a file; verdicts go to standard output, progress and summary to standard error."""
    config = load(path)
    configure("error")
    with tempfile.TemporaryDirectory(prefix="riskmon-scan-") as scratch:
        config = config.model_copy(
            update={
                "data_dir": Path(scratch),
                "ledger": LedgerConfig(sample_ratio=0.0),
                "deliver": DeliverConfig(log=False, feedback_topic=""),
            }
        )
        _scan(config, file, as_json=as_json)


def _scan(config: Config, file: str, *, as_json: bool) -> None:
    clock = SystemClock()
    source = FileSource(file, clock)
    ledger, vault = open_ledger(config, clock, create=True)
    lines, tally = _Lines(), _Tally()
    console = Console(stderr=True)
    progress = Progress(
        *Progress.get_default_columns()[:-1],
        TextColumn("{task.fields[judged]} judged"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    pool = Pool(specs(config), config.pool, clock)

    def on_judged(judgement: Judgement) -> None:
        tally.judged(judgement)
        if as_json:
            lines.put(judgement.origin.offset, judgement.origin.part, to_json(verdict(judgement)))

    def on_dead(letter: DeadLetter) -> None:
        tally.dead[letter.reason] += 1
        if as_json:
            told = {"id": None, "line": letter.offset + 1, "reason": letter.reason, "detail": letter.detail}
            lines.put(letter.offset, 0, to_json({**told, "assessments": [], "flags": []}))

    engine = assemble(
        config,
        clock=clock,
        source=source,
        pool=pool,
        rules=RuleBook(config.rules.paths or default_paths(), clock),
        ledger=ledger,
        vault=vault,
        observer=TelemetryObserver(Metrics(config.telemetry), clock, structlog.get_logger(__name__)),
        on_judged=on_judged,
        on_dead=on_dead,
        sheds=False,  # a file waits
    )
    started = clock.monotonic()
    try:
        collect_rarely()
        pool.start()
        with progress:
            task = progress.add_task("scanning", total=None, judged=0)
            while not engine.finished:
                engine.turn()
                done, total = source.progress()
                progress.update(task, completed=done, total=total, judged=tally.traces)
                lines.flush(min(engine.positions().values(), default=0))
        engine.drain()
        lines.flush(math.inf)
    finally:
        pool.close()
        ledger.close()
    if not as_json:
        tally.show(Console(), clock.monotonic() - started)


class _Tally:
    """What the summary says."""

    def __init__(self) -> None:
        self.traces = 0
        self.dead: Counter[str] = Counter()
        self._statuses: Counter[tuple[str, Status]] = Counter()
        self._flags: Counter[tuple[str, str]] = Counter()

    def judged(self, judgement: Judgement) -> None:
        """Count one trace."""
        self.traces += 1
        self._statuses.update((a.detector, a.status) for a in judgement.assessments)
        self._flags.update((flag.rule, flag.severity.value) for flag in judgement.flags)

    def show(self, console: Console, seconds: float) -> None:
        """Print it."""
        table = Table(
            "detector", *(status.value for status in Status), title="Verdicts", title_justify="left"
        )
        for detector in dict.fromkeys(detector for detector, _ in self._statuses):
            table.add_row(detector, *(str(self._statuses[detector, status]) for status in Status))
        console.print(table)
        flags = Table("rule", "severity", "traces", title="Flags", title_justify="left")
        for (rule, severity), count in self._flags.most_common():
            flags.add_row(rule, severity, str(count))
        console.print(flags if self._flags else "No flags.")
        for reason, count in self.dead.most_common():
            console.print(f"{count} {'line' if count == 1 else 'lines'} could not be read: {reason}")
        if self.dead:
            console.print("which lines, and where in them: --json")
        rate = self.traces / seconds if seconds else 0.0
        console.print(f"{self.traces} traces judged in {seconds:.1f} s ({rate:.0f} per second)")
