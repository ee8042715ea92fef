"""Offset commits as advice: one request in flight, the newest position wins, a failure is tried again."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock
from monitor.events import TopicPartition
from monitor.sources.kafka_assignment import OwnedPartition
from monitor.sources.kafka_structs import library_partition

ANSWER_SECONDS: Final = 30.0  # a commit without an answer for this long counts as failed
RETRY_SECONDS: Final = 1.0
SAY_SECONDS: Final = 60.0  # how often failures that go on are logged


class Commits:
    """Positions to commit, and the one request that is under way. `failures` counts requests that failed."""

    def __init__(self, clock: Clock, log: FilteringBoundLogger) -> None:
        self._clock = clock
        self._log = log
        self._waiting: dict[TopicPartition, int] = {}
        self._number = 0
        self._sent: float | None = None
        self._due = 0.0
        self._said: float | None = None
        self._left_out = 0
        self.failures = 0

    def add(self, positions: Mapping[TopicPartition, int]) -> None:
        """Queue these next offsets to be committed."""
        self._waiting.update(positions)

    def forget(self, key: TopicPartition) -> None:
        """Drop a partition that is no longer owned; a commit could set its new owner back."""
        self._waiting.pop(key, None)

    def take(self, owned: Mapping[TopicPartition, OwnedPartition]) -> dict[Any, Any]:
        """Remove the waiting offsets and return those of owned partitions, in the library's form."""
        from kafka.structs import OffsetAndMetadata

        waiting, self._waiting = self._waiting, {}
        return {
            library_partition(key): OffsetAndMetadata(at, "", owned[key].epochs.before(at))
            for key, at in waiting.items()
            if key in owned
        }

    def send(self, consumer: Any, owned: Mapping[TopicPartition, OwnedPartition]) -> None:
        """Send the waiting offsets unless a request is under way or failed just now. Never blocks."""
        from kafka.errors import KafkaError

        now = self._clock.monotonic()
        if self._sent is not None and now - self._sent >= ANSWER_SECONDS:
            self._failed({}, "NoAnswer")
        if not self._waiting or self._sent is not None or now < self._due:
            return
        offsets = self.take(owned)
        if not offsets:
            return
        self._number += 1
        self._sent = now
        try:
            consumer.commit_async(offsets, callback=partial(self._answered, self._number))
        except KafkaError as error:
            self._failed(offsets, type(error).__name__)

    def abandon(self) -> None:
        """Forget the request under way, as its consumer is given up."""
        self._number += 1
        self._sent = None

    def _answered(self, number: int, offsets: Mapping[Any, Any], answer: Any) -> None:
        # Called by the library from poll or commit_async, in our thread. One given up on may still come.
        if number != self._number:
            return
        if isinstance(answer, Exception):
            self._failed(offsets, type(answer).__name__)
        else:
            self._sent = None

    def _failed(self, offsets: Mapping[Any, Any], error: str) -> None:
        self._number += 1
        self._sent = None
        self._due = self._clock.monotonic() + RETRY_SECONDS
        self.failures += 1
        self._waiting = {tuple(name): each.offset for name, each in offsets.items()} | self._waiting
        now = self._clock.monotonic()
        if self._said is not None and now - self._said < SAY_SECONDS:
            self._left_out += 1
            return
        self._log.warning("kafka_commit_failed", error=error, left_out=self._left_out)
        self._said, self._left_out = now, 0
