"""`riskmon scan`: judge a file without a broker, through the same engine, on a temporary ledger."""

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typing_extensions import override

from monitor.cli.shared import config_option, json_option
from monitor.clock import SystemClock
from monitor.config import load
from monitor.daemon.session import session
from monitor.findings import Judgement, Status
from monitor.outcome.verdict import verdict_of
from monitor.output import as_json as to_json
from monitor.output import quiet_json
from monitor.ports import Observer
from monitor.records import DeadLetter
from monitor.sources.file import FileSource
from monitor.telemetry.logging import configure


class _Lines:
    """Prints one line per trace in the order of the input, though batches finish out of order."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, str]] = []

    def put(self, offset: int, part: int, line: str) -> None:
        """Add a line to print."""
        heapq.heappush(self._held, (offset, part, line))

    def flush(self, below: float) -> None:
        """Print, in order, the lines of records before offset `below`."""
        while self._held and self._held[0][0] < below:
            click.echo(heapq.heappop(self._held)[2])


def _run(file: str, path: Path | None, *, as_json: bool) -> None:
    """Judge every line of a file; verdicts go to standard output, progress and summary to standard error."""
    config = load(path)
    configure("error")
    clock = SystemClock()
    source = FileSource(file, clock)
    lines = _Lines()
    tally = _Tally(lines if as_json else None)
    console = Console(stderr=True)
    progress = Progress(
        *Progress.get_default_columns()[:-1],
        TextColumn("{task.fields[judged]} judged"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    started = clock.monotonic()
    with session(config, source, clock, tally) as (engine, _):
        with progress:
            task = progress.add_task("scanning", total=None, judged=0)
            while not engine.finished:
                engine.turn()
                done, total = source.progress()
                progress.update(task, completed=done, total=total, judged=tally.traces)
                lines.flush(min(engine.positions().values(), default=0))
        engine.drain()
        lines.flush(math.inf)
    if not as_json:
        tally.show(Console(), clock.monotonic() - started)


class _Tally(Observer):
    """Counts for the summary; with `lines`, also writes one for every trace and undecodable record."""

    def __init__(self, lines: _Lines | None) -> None:
        self._lines = lines
        self.traces = 0
        self.dead: Counter[str] = Counter()
        self._statuses: Counter[tuple[str, Status]] = Counter()
        self._flags: Counter[tuple[str, str]] = Counter()

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        """Count traces."""
        self.traces += len(judgements)
        for judgement in judgements:
            self._statuses.update((a.detector, a.status) for a in judgement.assessments)
            self._flags.update((flag.rule, flag.severity.value) for flag in judgement.flags)
            if self._lines is not None:
                origin = judgement.origin
                verdict = verdict_of(judgement, ended, evidence=True)
                self._lines.put(origin.offset, origin.part, quiet_json(msgspec.json.encode(verdict).decode()))

    @override
    def undecodable(self, letter: DeadLetter) -> None:
        """Count a record."""
        self.dead[letter.reason] += 1
        if self._lines is not None:
            record = {"line": letter.offset + 1, "reason": letter.reason, "detail": letter.detail}
            line = to_json({"id": None, **record, "detectors": {}, "flags": []})
            self._lines.put(letter.offset, 0, line)

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


@click.command("scan")
@click.argument("file", type=click.Path(allow_dash=True))
@config_option
@json_option
def command(file: str, path: Path | None, *, as_json: bool) -> None:
    """Judge a JSONL file of traces (`-`: standard input) without a broker."""
    _run(file, path, as_json=as_json)
