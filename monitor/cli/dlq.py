"""`riskmon dlq`: inspect and requeue records that could not be judged."""

import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.cli.shared import config_option, inspected_ledger, json_option, opened_ledger, utc
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.daemon.build import open_vault
from monitor.errors import Retryable
from monitor.ledger import queries
from monitor.ledger.spool import CONTENT_TYPE, LedgerSpool
from monitor.ledger.store import Ledger
from monitor.output import as_json as to_json
from monitor.output import printable
from monitor.privacy.vault import Vault
from monitor.sources.kafka_admin import produce
from monitor.spool import Received, is_spool
from monitor.trace import Record

PRODUCE_SECONDS: Final = 30.0


@click.group()
def command() -> None:
    """Inspect and requeue records that could not be judged."""


@command.command("list")
@config_option
@json_option
@click.option("--reason", help="List only dead letters with this reason.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True)
def list_letters(path: Path | None, reason: str | None, limit: int, *, as_json: bool) -> None:
    """List dead letters, oldest first."""
    with inspected_ledger(path) as (_, ledger):
        rows = queries.letters(ledger, reason=reason, limit=limit)
    if as_json:
        for row in rows:
            click.echo(to_json(row._asdict()))
        return
    table = Table("id", "topic", "partition", "offset", "reason", "detail", "requeued")
    for row in rows:
        place = (str(row.id), row.topic, str(row.partition), str(row.offset))
        cells = (*place, row.reason, row.detail, utc(row.requeued))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)
    click.echo(f"{len(rows)} dead letters; `riskmon dlq show ID` decrypts one")


@command.command("show")
@click.argument("letter", type=int)
@config_option
@click.option("--raw", is_flag=True, help="Write the original value's bytes and nothing else.")
def show(letter: int, path: Path | None, *, raw: bool) -> None:
    """Decrypt one dead letter. Its content may be personal data."""
    if raw and _is_terminal():
        raise click.UsageError(
            "--raw writes the record's bytes unchanged, and they may control your terminal: write to a file"
        )
    with inspected_ledger(path) as (config, ledger):
        row, content = queries.open_letter(ledger, open_vault(config, ledger), letter)
    if raw:
        sys.stdout.buffer.write(content.value or b"")
        return
    shown: dict[str, Any] = {
        **row._asdict(),
        "key": _bytes(content.key),
        "headers": [[name, _bytes(value)] for name, value in content.headers],
        "value": _bytes(content.value),
    }
    click.echo(to_json(shown))


@command.command("requeue")
@click.argument("letters", type=int, nargs=-1)
@config_option
@click.option("--all", "everything", is_flag=True, help="Requeue all that were not requeued yet.")
def requeue(letters: tuple[int, ...], path: Path | None, *, everything: bool) -> None:
    """Send dead letters to their topics again, e.g. after an upgrade that can decode them."""
    if bool(letters) == everything:
        raise click.UsageError("name the letters, or give --all")
    with opened_ledger(path) as (config, ledger):
        vault = open_vault(config, ledger)
        ids = list(letters)
        if everything:
            ids = [row.id for row in queries.letters(ledger, limit=1_000_000) if row.requeued is None]
        records: list[Record] = []
        left: list[int] = []
        for letter_id in ids:
            row, letter = queries.open_letter(ledger, vault, letter_id)
            if letter.value is None:  # Kafka's tombstone: there is nothing to judge, now or later
                left.append(letter_id)
                continue
            place = (row.topic, row.partition, row.offset, row.time)
            records.append(Record(*place, letter.key, letter.value, letter.headers))
        to_kafka = [record for record in records if not is_spool(record.topic)]
        if to_kafka:
            produce(config.kafka, to_kafka, PRODUCE_SECONDS)
        _spool_again(config, ledger, vault, [record for record in records if is_spool(record.topic)])
        queries.mark_requeued(ledger, [i for i in ids if i not in left], SystemClock().now())
    click.echo(f"{len(records)} requeued" + (f"; {len(left)} without a value are left" if left else ""))


def _spool_again(config: Config, ledger: Ledger, vault: Vault, records: Sequence[Record]) -> None:
    """Put a received record back into the spool it came from, also another instance's."""
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


def _bytes(value: bytes | None) -> str | None:
    """Return bytes as text where they are text; else as base64, marked."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _is_terminal() -> bool:
    return sys.stdout.isatty()
