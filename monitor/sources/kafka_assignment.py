"""Partitions that the group assigned to this member, and which of them the consumer may fetch now."""

from dataclasses import dataclass, field
from typing import Any

from monitor.clock import Clock
from monitor.events import Assigned, Lag, TopicPartition
from monitor.sources.kafka_logs import Epochs, Logs
from monitor.sources.kafka_rights import Rights
from monitor.sources.kafka_structs import library_partition


@dataclass(slots=True)
class OwnedPartition:
    """State of an owned partition. `position` is where delivery continues or would begin.

    `probed` is the announcement that waits for the partition's high watermark. `delivered` is the end of the
    delivered or skipped offsets. `cut_at` is the position at which the log was once reported cut off.
    """

    announced: bool = False
    probed: Assigned | None = None
    delivering: bool = False
    position: int = 0
    delivered: int = 0
    cut_at: int = -1
    end: int = 0
    last_time: float | None = None
    epochs: Epochs = field(default_factory=Epochs)


class Assignment:
    """The owned `partitions`, kept paused in the consumer unless they may be fetched.

    A partition waits for a look-up and then for a seek; all wait while the source is paused; a topic waits
    while reading it is denied, or while it may have been made anew. Used from the thread that polls.
    """

    def __init__(self, clock: Clock, logs: Logs, rights: Rights) -> None:
        self.partitions: dict[TopicPartition, OwnedPartition] = {}
        self.paused = False
        self.held: frozenset[TopicPartition] = frozenset()  # wait although the source is not paused
        self._clock = clock
        self._logs = logs
        self._rights = rights
        self._consumer: Any = None

    def attach(self, consumer: Any) -> None:
        """Pause and seek in this consumer from now on; None: in none."""
        self._consumer = consumer

    def is_withheld(self, key: TopicPartition) -> bool:
        """Return whether nothing of a partition may be fetched now, whatever its state."""
        return self._rights.holds(key[0]) or self._logs.doubted(key)

    def apply_pauses(self) -> None:
        """Pause and resume every partition in the consumer as its state demands."""
        if self._consumer is None:
            return
        for name in self._consumer.assignment():
            owned = self.partitions.get(name)
            waits = self.paused or tuple(name) in self.held
            reads = owned is not None and (owned.probed or (owned.delivering and not waits))
            if reads and not self.is_withheld(name):
                self._consumer.resume(name)
            else:
                self._consumer.pause(name)

    def pause(self, key: TopicPartition) -> None:
        """Fetch nothing of a partition until `apply_pauses`."""
        self._consumer.pause(library_partition(key))

    def hold(self, key: TopicPartition) -> None:
        """Deliver nothing of a partition until it is sought."""
        self.partitions[key].delivering = False
        self.pause(key)

    def begin(self, key: TopicPartition, offset: int, leader_epoch: int) -> None:
        """Deliver a partition from an offset on."""
        owned = self.partitions[key]
        owned.position = owned.delivered = offset
        owned.epochs = Epochs(offset, leader_epoch)
        owned.delivering = True
        self.move(key, offset, leader_epoch)
        if not self.paused and key not in self.held and not self.is_withheld(key):
            self._consumer.resume(library_partition(key))

    def move(self, key: TopicPartition, offset: int, leader_epoch: int) -> None:
        """Fetch a partition from an offset on; its state stays."""
        from kafka.structs import OffsetAndMetadata

        self._consumer.seek(library_partition(key), offset)
        if leader_epoch >= 0:  # `seek` takes none, and without an epoch a truncated log goes unnoticed
            self._consumer_state(key).position = OffsetAndMetadata(offset, "", leader_epoch)

    def place_unannounced(self) -> None:
        """Give a placeholder position to partitions that lost theirs: without one, `poll` raises."""
        for name in self._consumer.assignment():
            owned = self.partitions.get(name)
            if owned is None or not owned.delivering:
                self._consumer.pause(name)
                self._consumer.seek(name, 0)

    def lag(self, key: TopicPartition) -> Lag:
        """Return the lag of a partition, from the end last seen, and note how far delivery is."""
        owned = self.partitions[key]
        if owned.delivering:
            # `position` of the consumer would ask the broker, and raise what only a poll may handle.
            owned.position = self._consumer_state(key).position.offset
        owned.end = max(owned.end, self._consumer.highwater(library_partition(key)) or 0)
        records = max(0, owned.end - owned.position)
        is_behind = records > 0 and owned.last_time is not None
        seconds = max(0.0, self._clock.now() - owned.last_time) if is_behind and owned.last_time else 0.0
        return Lag(*key, records, seconds)

    def _consumer_state(self, key: TopicPartition) -> Any:
        return self._consumer._subscription.assignment[library_partition(key)]  # noqa: SLF001 - see the callers
