"""`riskmon replay`: judge a range of a topic once more, and show what would change. It has no effect.

The records are read without a group, judged through the same engine on a ledger that is thrown away, and
delivered to nobody. Drift is left out on both sides: what it says of a trace depends on all traces before.
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
from monitor.daemon.build import open_ledger
from monitor.daemon.session import session
from monitor.events import OffsetRange, TopicPartition
from monitor.findings import Judgement
from monitor.ledger import queries
from monitor.ledger.store import Ledger
from monitor.output import as_json as to_json
from monitor.ports import Observer
from monitor.privacy.vault import Vault
from monitor.records import DeadLetter
from monitor.sources.kafka_range import Point, Range, RangeSource
from monitor.telemetry.logging import configure
from monitor.trace import Origin

SHOWN: Final = 50  # differences printed for people; the JSON has them all
_LEFT_OUT: Final = "drift"


class ReplayOptions(NamedTuple):
    """What is asked for. `rules` empty: the configured ones; `diff`: compare with the ledger."""

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
    """What would change: `added` flags, `removed` ones, and how many stay."""

    added: Sequence[Fired]
    removed: Sequence[Fired]
    kept: int


class _Replayed(Observer):
    """What the replay found."""

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
    before: Ledger | None = None
    vault: Vault | None = None  # the session's own: other pseudonyms than the ledger's, which no rule sees
    if options.diff:
        before, vault = open_ledger(config, clock)
    try:
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
    ledger: Ledger, ranges: Mapping[TopicPartition, Range], fired: Iterable[Fired]
) -> tuple[Difference, int]:
    """Set what fires against what is on record; also return how many offsets the ledger has not judged yet.

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
            for seen in queries.flags(ledger, topic, partition, OffsetRange(within.start, stop))
            if _LEFT_OUT not in seen.detectors
        }
    again = {one for one in fired if one.origin.offset < reached.get(one.origin[:2], 0)}
    found = Difference(sorted(again - recorded), sorted(recorded - again), len(again & recorded))
    return found, unjudged


def _report(
    ranges: Mapping[TopicPartition, Range], replayed: _Replayed, compared: tuple[Difference, int] | None
) -> dict[str, object]:
    report: dict[str, object] = {
        "ranges": {f"{topic}/{partition}": list(within) for (topic, partition), within in ranges.items()},
        "traces": replayed.traces,
        "dead": dict(replayed.dead),
        "flags": dict(Counter(one.rule for one in replayed.fired)),
    }
    if compared is not None:
        found, unjudged = compared
        report |= {
            "added": [_told(one) for one in found.added],
            "removed": [_told(one) for one in found.removed],
            "kept": found.kept,
            "unjudged": unjudged,
        }
    return report


def _told(one: Fired) -> dict[str, object]:
    origin = dict(zip(("topic", "partition", "offset", "part"), one.origin, strict=False))
    return {**origin, "rule": one.rule, "severity": one.severity, "trace_id": one.trace_id}


def _show(replayed: _Replayed, compared: tuple[Difference, int] | None) -> None:
    flags = Counter((one.rule, one.severity) for one in replayed.fired)
    table = Table("rule", "severity", "fires", *(["would be new", "would be gone"] if compared else []))
    found = compared[0] if compared else Difference((), (), 0)
    new, gone = (Counter((one.rule, one.severity) for one in side) for side in found[:2])
    for rule, severity in sorted(flags | gone):
        key = (rule, severity)
        counts = [flags[key], new[key], gone[key]] if compared else [flags[key]]
        table.add_row(rule, severity, *map(str, counts))
    console = Console()
    console.print(table if flags or gone else "No rule fires.")
    changes = [("+", one) for one in found.added] + [("-", one) for one in found.removed]
    for sign, one in changes[:SHOWN]:
        topic, partition, offset, part, _ = one.origin
        click.echo(f"{sign} {topic}/{partition}@{offset}.{part} {one.rule} {one.severity} {one.trace_id}")
    if len(changes) > SHOWN:
        click.echo(f"… and {len(changes) - SHOWN} more; --json lists all")
    for reason, count in replayed.dead.most_common():
        click.echo(f"{count} records cannot be decoded: {reason}")
    click.echo(f"{replayed.traces} traces judged once more, without any effect; drift is left out")
    if compared is not None:
        click.echo(f"{len(found.added)} flags new, {len(found.removed)} gone, {found.kept} as on record")
        if compared[1]:
            click.echo(f"{compared[1]} offsets of the range were not judged yet, so they are not compared")


@click.command("replay")
@config_option
@json_option
@click.option("--from", "start", required=True, help="First offset, or a time such as 2026-11-28T09:00Z.")
@click.option("--to", "stop", help="Offset or time to stop before; without it, the end.")
@click.option("--topic", help="Instead of the configured ones.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this one.")
@click.option(
    "--rules",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Rule file or folder, instead of the configured ones; may be given several times.",
)
@click.option("--diff", is_flag=True, help="Compare with what the ledger recorded.")
def command(path: Path | None, start: str, stop: str | None, paths: tuple[Path, ...], **options: Any) -> None:
    """Judge a range of a topic once more, without any effect, and show what would change."""
    begin, end = point(start), point(stop) if stop else None
    _run(path, ReplayOptions(begin, end, rules=paths, **options))
