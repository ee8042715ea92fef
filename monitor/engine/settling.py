"""Settles accounts: versions, counts and reports of a transaction now durable, and of records given back."""

from collections import Counter

from monitor.engine.partitions import Partition
from monitor.engine.settings import Totals
from monitor.engine.staging import Staged
from monitor.ports import Observer


def settle(staged: Staged, totals: Totals, observer: Observer, now: float) -> None:
    """Advance versions and counts, then report. `now` is Unix seconds."""
    # The next transaction names the version it follows. If it named the old one, the ledger would take it for
    # this one, which it has, and drop it silently: see `Ledger._already_written`.
    for partition in staged.partitions():
        partition.version += 1
    for partition, records in staged.records().items():
        partition.pending -= records
        partition.few_left -= min(records, partition.few_left)
    for topic, records in staged.records_per_topic().items():
        totals.recorded += records
        observer.recorded(topic, records)
    letters = Counter((letter.topic, letter.reason) for _, letter in staged.dead)
    for (topic, reason), count in letters.items():
        totals.dead_lettered += count
        observer.dead_lettered(topic, reason, count)
    skips = Counter((partition.name[0], reason) for partition, reason in staged.skipped)
    for (topic, reason), count in skips.items():
        observer.skipped(topic, reason, count)
    judgements = [judgement for _, judgement in staged.judgements]
    totals.traces += len(judgements)
    if judgements:
        observer.judged(judgements, now if staged.started is None else staged.started, now)
    for judgement in judgements:
        if judgement.flags:
            totals.flags.update(flag.rule for flag in judgement.flags)


def count_released(partition: Partition, totals: Totals, observer: Observer) -> None:
    """Count the records taken and not recorded: whoever reads the partition next gets them again."""
    if partition.pending:
        totals.released += partition.pending
        observer.released(partition.name[0], partition.pending)
        partition.pending = 0
