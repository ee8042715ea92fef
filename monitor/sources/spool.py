"""The receiver's spool as a source: one partition per topic, read on from the ledger's position.

A spool keeps no committed offset of its own: recording a position deletes what it has passed, so the spool
begins at that offset.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from monitor.clock import Clock
from monitor.errors import Retryable, Tampered
from monitor.events import Assigned, Event, Fetched, Lag, OutOfRange, Stuck, StuckReason, TopicPartition
from monitor.spool import SpoolUsage
from monitor.trace import Record

READ_BYTES: Final = 16 * 2**20  # one read stops here, however many records it may return


class SpoolReader(Protocol):
    """Reads the ledger's spool. Each method but `wait` may raise Retryable."""

    @property
    def topics(self) -> Sequence[str]:
        """Its topics, each of one partition."""
        ...

    def usage(self) -> Mapping[str, SpoolUsage]:
        """Return the usage of each topic."""
        ...

    def read(self, topic: str, offset: int, max_records: int, max_bytes: int) -> Sequence[Record]:
        """Return records from an offset on. Raises Tampered when the first one cannot be decrypted."""
        ...

    def end(self, topic: str) -> int:
        """Return the next offset to be written; cheap."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until something was written, at most this long."""
        ...


@dataclass
class _Reading:
    position: int
    delivering: bool = False
    last_time: float | None = None


class SpoolSource:
    """Reads a spool from the ledger's position on. Each call of `lag` reports the usage to `on_usage`."""

    def __init__(
        self,
        spool: SpoolReader,
        clock: Clock,
        on_usage: Callable[[Mapping[str, SpoolUsage]], None] = lambda _: None,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._on_usage = on_usage
        self._readings: dict[str, _Reading] = {}
        self._turn = deque(spool.topics)
        self._paused = False
        self._held: frozenset[TopicPartition] = frozenset()
        self._closed = False

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Return what happened, waiting at most `timeout` seconds. Raises Retryable for a busy ledger."""
        if self._closed:
            return ()
        if len(self._readings) < len(self._spool.topics):
            return self._assign()
        if self._paused:
            self._clock.sleep(timeout)
            return ()
        events = self._take(max_records)
        if not events and timeout > 0.0:
            self._spool.wait(timeout)
            events = self._take(max_records)
        return events

    def seek(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:  # noqa: ARG002 - it has none
        """Deliver a topic from `offset` on."""
        reading = self._readings.get(topic)
        if reading is not None and partition == 0:
            reading.position = offset
            reading.delivering = True

    def refresh(self, topic: str, partition: int) -> None:  # noqa: ARG002 - each topic has one
        """Deliver a topic no more and report it as assigned again."""
        if self._readings.pop(topic, None) is not None:
            self._turn.remove(topic)

    def pause(self) -> None:
        """Deliver nothing until `resume`. Idempotent."""
        self._paused = True

    def resume(self) -> None:
        """Deliver again. Idempotent."""
        self._paused = False

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing of these partitions until the next call. Idempotent."""
        self._held = frozenset(partitions)

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Do nothing: the ledger moved the position and deleted what is behind it in one transaction."""

    def lag(self) -> Sequence[Lag]:
        """Return the lag per topic, without asking the ledger; calls `on_usage` unless that is busy."""
        if self._readings:
            with contextlib.suppress(Retryable):
                self._on_usage(self._spool.usage())
        return [self._lag(topic, reading) for topic, reading in self._readings.items()]

    def health(self) -> Mapping[str, bool]:
        """Return no conditions: a spool fails with its ledger."""
        return {}

    def close(self, positions: Mapping[TopicPartition, int], seconds: float) -> None:  # noqa: ARG002 - nothing to commit, no one to wait for
        """Deliver no more. Idempotent."""
        self._closed = True

    def _assign(self) -> Sequence[Event]:
        usage = self._spool.usage()
        new = {topic: waiting for topic, waiting in usage.items() if topic not in self._readings}
        self._readings |= {topic: _Reading(waiting.begin) for topic, waiting in new.items()}
        self._turn.extend(topic for topic in new if topic not in self._turn)
        return [
            Assigned(topic, 0, waiting.begin, waiting.begin, waiting.end) for topic, waiting in new.items()
        ]

    def _take(self, limit: int) -> list[Event]:
        events: list[Event] = []
        self._turn.rotate()
        for topic in self._turn:
            reading = self._readings[topic]
            if reading.delivering and limit > 0 and (topic, 0) not in self._held:
                event = self._read(topic, reading, limit)
                if isinstance(event, Fetched):
                    limit -= len(event.records)
                events += [event] if event is not None else []
        return events

    def _read(self, topic: str, reading: _Reading, limit: int) -> Event | None:
        if reading.position == self._spool.end(topic):
            return None
        try:
            records = self._spool.read(topic, reading.position, limit, READ_BYTES)
        except Tampered:
            reading.delivering = False
            return Stuck(topic, 0, reading.position, StuckReason.CORRUPT_BATCH)
        if not records or records[0].offset != reading.position:
            reading.delivering = False  # an operator moved the position, or another daemon has this name
            waiting = self._spool.usage()[topic]
            return OutOfRange(topic, 0, reading.position, waiting.begin, waiting.end)
        reading.position = records[-1].offset + 1
        reading.last_time = records[-1].time
        return Fetched(topic, 0, records)

    def _lag(self, topic: str, reading: _Reading) -> Lag:
        records = max(0, self._spool.end(topic) - reading.position)
        known = records > 0 and reading.last_time is not None
        seconds = max(0.0, self._clock.now() - (reading.last_time or 0.0)) if known else 0.0
        return Lag(topic, 0, records, seconds)
