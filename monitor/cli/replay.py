"""`riskmon replay`: judge a range of a topic again, without effect, and show what would change.

The records are read without a group, judged through the same engine on a temporary ledger, and not
delivered. Drift is left out on both sides: its assessment of a trace depends on all traces before.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from monitor.cli.shared import config_option, json_option
from monitor.clock import Clock, SystemClock
from monitor.config import Config, DetectorConfig, load
from monitor.daemon.build import inspect_ledger, open_vault
from monitor.daemon.session import session
from monitor.events import OffsetRange, TopicPartition
from monitor.findings import Judgement
from monitor.ledger import queries
from monitor.ledger.reader import LedgerReader
from monitor.output import as_json as to_json
from monitor.output import printable
from monitor.ports import Observer
from monitor.privacy.vault import Vault
from monitor.records import DeadLetter
from monitor.sources.kafka_range import Point, Range, RangeSource
from monitor.telemetry.logging import configure
from monitor.trace import Origin

SHOWN: Final = 50  # differences printed for people; the JSON has them all
_LEFT_OUT: Final = "drift"


class ReplayOptions(NamedTuple):
    """Options of the command. `rules` empty: the configured ones; `diff`: compare with the ledger."""

    start: Point
    stop: Point | None
    topic: str | None
    partition: int | None
    rules: tuple[Path, ...]
    diff: bool
    as_json: bool


class Fired(NamedTuple):
    """A rule that fires on a trace."""

    origin: Origin
    rule: str
    severity: str
    trace_id: str


class Difference(NamedTuple):
    """Changes to the record: `added` flags, `removed` ones, and the number of unchanged ones."""

    added: Sequence[Fired]
    removed: Sequence[Fired]
    unchanged: int


class _Replayed(Observer):
    """Results of a replay."""

    def __init__(self) -> None:
        self.traces = 0
        self.dead: Counter[str] = Counter()
        self.fired: list[Fired] = []

    @override
    def judged(self, judgements: Sequence[Judgement], started: float, ended: float) -> None:
        self.traces += len(judgements)
        self.fired += [
            Fired(judgement.origin, flag.rule, flag.severity.value, judgement.trace.id)
            for judgement in judgements
            for flag in judgement.flags
            if _LEFT_OUT not in flag.detectors
        ]

    @override
    def undecodable(self, letter: DeadLetter) -> None:
        self.dead[letter.reason] += 1


def point(text: str) -> Point:
    """Read an offset, or an ISO 8601 time; one without a zone is UTC."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is neither an offset nor a time, e.g. 2026-11-28T09:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _run(path: Path | None, options: ReplayOptions) -> None:
    """Replay and print. Raises ConfigError for a range, rules or a ledger that cannot be used."""
    configure("error")
    config, clock = load(path), SystemClock()
    before: LedgerReader | None = None
    vault: Vault | None = None  # the session's own: other pseudonyms than the ledger's, which no rule sees
    if options.diff:
        before = inspect_ledger(config, clock)
    try:
        if before is not None:
            vault = open_vault(config, before)
        topics = [options.topic] if options.topic else config.kafka.topics
        source = RangeSource.open(config.kafka, topics, options.partition, options.start, options.stop, clock)
        try:
            replayed = _replay(config, options.rules, source, vault, clock)
        finally:
            source.close({}, 1.0)
        compared = compare(before, source.ranges, replayed.fired) if before else None
    finally:
        if before is not None:
            before.close()
    if options.as_json:
        click.echo(to_json(_report(source.ranges, replayed, compared)))
    else:
        _show(replayed, compared)


def _replay(
    config: Config, rules: Sequence[Path], source: RangeSource, vault: Vault | None, clock: Clock
) -> _Replayed:
    detectors = config.detectors.model_copy(update={_LEFT_OUT: DetectorConfig(enabled=False)})
    config = config.model_copy(update={"detectors": detectors})
    replayed = _Replayed()
    with session(config, source, clock, replayed, rules=rules, vault=vault) as (engine, _):
        engine.run()
    return replayed


def compare(
    ledger: LedgerReader, ranges: Mapping[TopicPartition, Range], fired: Iterable[Fired]
) -> tuple[Difference, int]:
    """Compare fired rules with the record; also return the number of offsets that are not judged yet.

    A rule that fires with another severity is both removed and added.
    """
    reached = {(row["topic"], row["partition"]): row["next_offset"] for row in queries.positions(ledger)}
    recorded: set[Fired] = set()
    unjudged = 0
    for (topic, partition), within in ranges.items():
        stop = max(within.start, min(within.stop, reached.get((topic, partition), 0)))
        unjudged += within.stop - stop
        recorded |= {
            Fired(seen.origin._replace(incarnation=0), seen.rule, seen.severity, seen.trace_id)
            for seen in queries.recorded_flags(ledger, topic, partition, OffsetRange(within.start, stop))
            if _LEFT_OUT not in seen.detectors
        }
    again = {flag for flag in fired if flag.origin.offset < reached.get(flag.origin[:2], 0)}
    difference = Difference(sorted(again - recorded), sorted(recorded - again), len(again & recorded))
    return difference, unjudged


def _report(
    ranges: Mapping[TopicPartition, Range], replayed: _Replayed, compared: tuple[Difference, int] | None
) -> dict[str, object]:
    report: dict[str, object] = {
        "ranges": {f"{topic}/{partition}": list(within) for (topic, partition), within in ranges.items()},
        "traces": replayed.traces,
        "dead": dict(replayed.dead),
        "flags": dict(Counter(flag.rule for flag in replayed.fired)),
    }
    if compared is not None:
        difference, unjudged = compared
        report |= {
            "added": [_row(flag) for flag in difference.added],
            "removed": [_row(flag) for flag in difference.removed],
            "kept": difference.unchanged,
            "unjudged": unjudged,
        }
    return report


def _row(flag: Fired) -> dict[str, object]:
    origin = dict(zip(("topic", "partition", "offset", "part"), flag.origin, strict=False))
    return {**origin, "rule": flag.rule, "severity": flag.severity, "trace_id": flag.trace_id}


def _show(replayed: _Replayed, compared: tuple[Difference, int] | None) -> None:
    flags = Counter((flag.rule, flag.severity) for flag in replayed.fired)
    table = Table("rule", "severity", "fires", *(["would be new", "would be gone"] if compared else []))
    difference = compared[0] if compared else Difference((), (), 0)
    new, gone = (Counter((flag.rule, flag.severity) for flag in side) for side in difference[:2])
    for rule, severity in sorted(flags | gone):
        key = (rule, severity)
        counts = [flags[key], new[key], gone[key]] if compared else [flags[key]]
        table.add_row(rule, severity, *map(str, counts))
    console = Console()
    console.print(table if flags or gone else "No rule fires.")
    changes = [("+", flag) for flag in difference.added] + [("-", flag) for flag in difference.removed]
    for sign, flag in changes[:SHOWN]:
        topic, partition, offset, part, _ = flag.origin
        place = f"{topic}/{partition}@{offset}.{part}"
        click.echo(f"{sign} {place} {flag.rule} {flag.severity} {printable(flag.trace_id)}")
    if len(changes) > SHOWN:
        click.echo(f"… and {len(changes) - SHOWN} more; --json lists all")
    for reason, count in replayed.dead.most_common():
        click.echo(f"{count} records cannot be decoded: {reason}")
    click.echo(f"{replayed.traces} traces judged once more, without any effect; drift is left out")
    if compared is not None:
        added, removed, same = len(difference.added), len(difference.removed), difference.unchanged
        click.echo(f"{added} flags new, {removed} gone, {same} as on record")
        if compared[1]:
            click.echo(f"{compared[1]} offsets of the range were not judged yet, so they are not compared")


@click.command("replay")
@config_option
@json_option
@click.option("--from", "start", required=True, help="First offset, or a time such as 2026-11-28T09:00Z.")
@click.option("--to", "stop", help="Offset or time to stop before; without it, the end.")
@click.option("--topic", help="Topic to read instead of the configured ones.")
@click.option("--partition", type=click.IntRange(min=0), help="Read only this partition.")
@click.option(
    "--rules",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Rule file or folder, instead of the configured ones; may be given several times.",
)
@click.option("--diff", is_flag=True, help="Compare with what the ledger recorded.")
def command(path: Path | None, start: str, stop: str | None, paths: tuple[Path, ...], **options: Any) -> None:
    """Judge a range of a topic again, without any effect, and show what would change."""
    begin, end = point(start), point(stop) if stop else None
    _run(path, ReplayOptions(begin, end, rules=paths, **options))
