"""The staged transaction: judged but not yet in the ledger; retried whole, dropped only when fenced."""

from collections.abc import Iterable, Mapping
from itertools import chain

from monitor.assembly import ExchangeId
from monitor.engine.partitions import Partition
from monitor.events import OffsetRange, TopicPartition
from monitor.findings import Judgement
from monitor.outcome.effects import Policy, add_effects
from monitor.outcome.transaction import Claimed, EngineVersion, Finished, Transaction, coverage_of
from monitor.records import DeadLetter
from monitor.trace import Record


class Staged:
    """The content of the next transaction.

    Progress is already advanced in memory, so a partition whose work is dropped must be claimed anew to be
    read again.
    """

    def __init__(self) -> None:
        self.judgements: list[tuple[Partition, Judgement]] = []
        self.assembled: list[tuple[Partition, ExchangeId]] = []
        self.dead: list[tuple[Partition, DeadLetter]] = []
        self.skipped: list[tuple[Partition, str]] = []  # and why
        self.finished: dict[Partition, list[Finished]] = {}
        self.advanced_by_parts: set[Partition] = set()  # by parts done without a judgement of their own
        self.snapshots: dict[str, bytes] = {}
        self.started: float | None = None
        self.rules_version = ""  # of the rules that decided on the judgements; they may be reloaded since

    def __bool__(self) -> bool:
        return bool(self.judgements or self.finished or self.advanced_by_parts)

    def finish(self, partition: Partition, offset: int, parts: tuple[int, ...]) -> None:
        """Count parts of a record as done (none: the record holds none, or is a dead letter)."""
        span = partition.progress.finish(offset, parts)
        if span is not None:
            self._cover(partition, span, 1)

    def pass_to(self, partition: Partition, offset: int) -> None:
        """Cover the offsets between the last record and `offset`: they hold nothing to judge."""
        span = partition.progress.pass_to(offset)
        if span is not None:
            self._cover(partition, span, 0)

    def _cover(self, partition: Partition, span: OffsetRange, records: int) -> None:
        ranges = self.finished.setdefault(partition, [])
        if ranges and (last := ranges[-1]).span.end == span.start:  # as usual: keeps one range per partition
            last.span = OffsetRange(last.span.start, span.end)
            last.records += records
        else:
            ranges.append(Finished(*partition.name, span, records))

    def finish_parts(self, parts: Iterable[tuple[Partition, int, int]]) -> None:
        """Count parts (partition, offset, part) as done that need no judgement of their own."""
        for partition, offset, part in parts:
            if partition.alive:
                # A record with parts left covers nothing yet, but its partition's mark must be written.
                self.advanced_by_parts.add(partition)
                self.finish(partition, offset, (part,))

    def dead_letter(self, partition: Partition, record: Record, reason: str, detail: str) -> DeadLetter:
        """Count a record as a dead letter."""
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            time=record.time,
            reason=reason,
            detail=detail,
            key=record.key,
            value=record.value,
            headers=record.headers,
            incarnation=partition.incarnation,
        )
        self.dead.append((partition, letter))
        self.finish(partition, record.offset, ())
        return letter

    def judge(self, partition: Partition, judgement: Judgement, exchange: ExchangeId | None) -> None:
        """Count the part of a record that a judgement is about as done."""
        self.judgements.append((partition, judgement))
        if exchange is not None:
            self.assembled.append((partition, exchange))
        self.finish(partition, judgement.origin.offset, (judgement.origin.part,))

    def skip(self, partition: Partition, offset: int, reason: str) -> None:
        """Count a record without anything to judge as done."""
        self.skipped.append((partition, reason))
        self.finish(partition, offset, ())

    def drop(self, names: frozenset[TopicPartition]) -> None:
        """Forget the work of partitions we no longer own."""
        self.judgements = [item for item in self.judgements if item[0].name not in names]
        self.assembled = [item for item in self.assembled if item[0].name not in names]
        self.dead = [item for item in self.dead if item[0].name not in names]
        self.skipped = [item for item in self.skipped if item[0].name not in names]
        self.advanced_by_parts = {p for p in self.advanced_by_parts if p.name not in names}
        self.finished = {p: ranges for p, ranges in self.finished.items() if p.name not in names}
        if not self:
            self.started, self.rules_version = None, ""  # those of what comes next
        # `snapshots` stay: a monitor cannot take back what it has seen. Traces that this daemon judges again
        # count twice in its state, and those that another judges count there too. For drift and an agent's
        # usual runs these are few among hundreds; a conversation may have turns too many.

    def partitions(self) -> set[Partition]:
        """Return the partitions that the transaction advances."""
        return {partition for partition, _ in self.judgements} | self.finished.keys() | self.advanced_by_parts

    def records(self) -> Mapping[Partition, int]:
        """Finished records per partition, dead letters included."""
        return {p: sum(item.records for item in ranges) for p, ranges in self.finished.items()}

    def records_per_topic(self) -> Mapping[str, int]:
        """Finished records that are not dead letters, per topic."""
        counts: dict[str, int] = {}
        for partition, records in self.records().items():
            topic = partition.name[0]
            counts[topic] = counts.get(topic, 0) + records
        for partition, _ in self.dead:
            counts[partition.name[0]] -= 1
        return counts

    def transaction(self, owner: str, version: EngineVersion, policy: Policy, now: float) -> Transaction:
        """Build the transaction. Building it again gives the same one, except for the time."""
        judgements = [judgement for _, judgement in self.judgements]
        dead = [letter for _, letter in self.dead]
        transaction = Transaction(
            owner=owner,
            version=version,
            marks={
                partition.name: Claimed(
                    partition.epoch, partition.version, partition.progress.mark(), partition.incarnation
                )
                for partition in self.partitions()
            },
            coverage=coverage_of(list(chain.from_iterable(self.finished.values())), judgements, dead),
            flags=[],
            feedback=[],
            outgoing=[],
            kept_traces=[],
            dead_letters=dead,
            snapshots=dict(self.snapshots),
        )
        add_effects(judgements, policy, now, transaction)
        return transaction
