"""Commands on what is on record: rule tests, audit, dead letters, feedback, positions."""

import base64
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, cast

import click
from rich.console import Console
from rich.table import Table

from monitor.clock import SystemClock
from monitor.config import Config, load
from monitor.daemon.build import open_ledger
from monitor.errors import ConfigError, Retryable
from monitor.ledger import reading
from monitor.ledger.spool import CONTENT_TYPE, LedgerSpool, usage_by_topic
from monitor.ledger.store import Ledger
from monitor.output import as_json as to_json
from monitor.stream import Received, is_spool
from monitor.trace import Record
from monitor.vault import Vault

PRODUCE_SECONDS = 30.0


@contextmanager
def _ledger(path: Path | None) -> Iterator[tuple[Config, Ledger, Vault]]:
    config = load(path)
    ledger, vault = open_ledger(config, SystemClock())
    try:
        yield config, ledger, vault
    finally:
        ledger.close()


def test_rules(paths: Sequence[Path], *, as_json: bool) -> bool:
    """Run rule tests; returns whether all passed."""
    from monitor.rules import default_paths, run_tests

    results = run_tests(list(paths) or default_paths())
    failed = [result for result in results if not result.passed]
    if as_json:
        rows = [
            {"file": str(r.file), "name": r.name, "passed": r.passed, "expected": r.expected, "got": r.got}
            for r in results
        ]
        click.echo(to_json({"passed": len(results) - len(failed), "failed": len(failed), "tests": rows}))
        return not failed
    for result in failed:
        click.echo(f"FAILED {result.file}: {result.name}")
        click.echo(f"  expected {list(result.expected)}, got {list(result.got)}")
    click.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return not failed


def verify(path: Path | None, *, as_json: bool) -> bool:
    """Verify the ledger; returns whether it holds."""
    with _ledger(path) as (_, ledger, _):
        report = reading.verify(ledger)
    if as_json:
        click.echo(
            to_json(
                {
                    "ok": report.ok,
                    "entries": report.entries,
                    "records": report.records,
                    "traces": report.traces,
                    "dead_letters": report.dead,
                    "flags": report.flags,
                    "statuses": report.statuses,
                    "positions": report.positions,
                    "head": report.head,
                    "problems": report.problems,
                    "gaps": report.gaps,
                    "open": report.open,
                    "incarnations": report.incarnations,
                }
            )
        )
        return report.ok
    click.echo(f"{report.entries} entries, chain head {report.head[:16]}…")
    click.echo(f"{report.records} records judged ({report.dead} dead-lettered), {report.flags} flags")
    for name, offset in sorted(report.positions.items()):
        click.echo(f"  {name}: every offset judged up to {offset}")
    for line in report.open:
        click.echo(f"  not judged yet: {line}")
    for line in report.incarnations:
        click.echo(f"  {line}")
    for line in report.gaps:
        click.echo(f"GAP: {line}")
    for line in report.problems:
        click.echo(f"PROBLEM: {line}")
    click.echo(
        "verified: nothing altered, nothing skipped, nothing judged twice" if report.ok else "NOT verified"
    )
    return report.ok


def list_letters(path: Path | None, *, reason: str | None, limit: int, as_json: bool) -> None:
    """Print dead letters without their content."""
    with _ledger(path) as (_, ledger, _):
        rows = reading.letters(ledger, reason=reason, limit=limit)
    if as_json:
        for row in rows:
            click.echo(to_json(row._asdict()))
        return
    table = Table("id", "topic", "partition", "offset", "reason", "detail", "requeued")
    for row in rows:
        place = (str(row.id), row.topic, str(row.partition), str(row.offset))
        table.add_row(*place, row.reason, row.detail, _time(row.requeued))
    Console().print(table)
    click.echo(f"{len(rows)} dead letters; `riskmon dlq show ID` decrypts one")


def show_letter(path: Path | None, letter_id: int, *, raw: bool) -> None:
    """Print one dead letter with its content."""
    with _ledger(path) as (_, ledger, vault):
        row, letter = reading.open_letter(ledger, vault, letter_id)
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    shown: dict[str, Any] = {
        **row._asdict(),
        "key": _bytes(letter.key),
        "headers": [[name, _bytes(value)] for name, value in letter.headers],
        "value": _bytes(letter.value),
    }
    click.echo(to_json(shown))


def requeue_letters(path: Path | None, ids: list[int], *, everything: bool) -> None:
    """Send dead letters to their topics again, or back into the spool, and note that on the chain."""
    if bool(ids) == everything:
        raise click.UsageError("name the letters, or give --all")
    from monitor.sources.kafka_admin import produce

    with _ledger(path) as (config, ledger, vault):
        if everything:
            ids = [row.id for row in reading.letters(ledger, limit=1_000_000) if row.requeued is None]
        records: list[Record] = []
        left: list[int] = []
        for letter_id in ids:
            row, letter = reading.open_letter(ledger, vault, letter_id)
            if letter.value is None:  # Kafka's tombstone: there is nothing to judge, now or later
                left.append(letter_id)
                continue
            place = (row.topic, row.partition, row.offset, row.time)
            records.append(Record(*place, letter.key, letter.value, letter.headers))
        to_kafka = [record for record in records if not is_spool(record.topic)]
        if to_kafka:
            produce(config.kafka, to_kafka, PRODUCE_SECONDS)
        _spool_again(config, ledger, vault, [record for record in records if is_spool(record.topic)])
        reading.mark_requeued(ledger, [i for i in ids if i not in left], SystemClock().now())
    click.echo(f"{len(records)} requeued" + (f"; {len(left)} without a value are left" if left else ""))


def _spool_again(config: Config, ledger: Ledger, vault: Vault, records: Sequence[Record]) -> None:
    """Put what the receiver once took back into its spool, whosever it is."""
    bounds = config.receiver
    now = SystemClock().now()
    for topic in sorted({record.topic for record in records}):
        bodies = [
            Received(topic, now, dict(record.headers)[CONTENT_TYPE].decode(), record.value or b"")
            for record in records
            if record.topic == topic
        ]
        spool = LedgerSpool(
            ledger, vault, (topic,), max_records=bounds.max_spool_records, max_bytes=bounds.max_spool_bytes
        )
        if spool.append(bodies) < len(bodies):
            raise Retryable(f"{topic}: the spool is full, not all letters were requeued")


def export_feedback(path: Path | None, form: str, output: IO[str]) -> None:
    """Write feedback items; the count goes to standard error."""
    from monitor.feedback.export import export

    with _ledger(path) as (_, ledger, _):
        count = export(reading.feedback_items(ledger), output, cast("Literal['jsonl']", form))
    click.echo(f"{count} items", err=True)


def list_positions(path: Path | None, *, as_json: bool) -> None:
    """Print where each partition stands."""
    with _ledger(path) as (_, ledger, _):
        rows = reading.positions(ledger)
    if as_json:
        click.echo(to_json(rows))
        return
    table = Table("topic", "partition", "next offset", "owner", "updated")
    for row in rows:
        anew = f" (log {row['incarnation']})" if row["incarnation"] else ""
        place = (row["topic"], str(row["partition"]), f"{row['next_offset']}{anew}")
        table.add_row(*place, row["owner"], _time(row["updated"]))
    Console().print(table)


def move_position(path: Path | None, topic: str, partition: int, offset: int, reason: str) -> None:
    """Move a partition's position, on record."""
    with _ledger(path) as (_, ledger, _):
        before = ledger.position(topic, partition)
        if before == offset:
            raise ConfigError(f"{topic}/{partition} is at {offset} already")
        ledger.move(topic, partition, offset, reason)
    click.echo(f"{topic}/{partition}: {before} -> {offset}; the daemon that owns it follows within seconds")


def list_spools(path: Path | None, *, as_json: bool) -> None:
    """Print what waits in the spools of all instances, and since when."""
    with _ledger(path) as (config, ledger, _):
        spools = usage_by_topic(ledger)
        own = set(config.spool_topics().values())
    rows: list[dict[str, Any]] = [
        {
            "topic": topic,
            "instance": topic.partition("@")[2],
            "records": usage.end - usage.begin,
            "bytes": usage.bytes,
            "oldest": oldest,
            "ours": topic in own,
        }
        for topic, (usage, oldest) in spools.items()
    ]
    if as_json:
        click.echo(to_json(rows))
        return
    table = Table("topic", "instance", "bodies", "bytes", "oldest")
    for row in rows:
        waiting = (str(row["records"]), str(row["bytes"]), _time(row["oldest"]))
        table.add_row(row["topic"], row["instance"], *waiting)
    Console().print(table)
    if any(not row["ours"] for row in rows):
        click.echo("what another instance received is judged when a daemon with its name runs on this ledger")


def _bytes(value: bytes | None) -> str | None:
    """Text where it is text; else base64, marked."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
