"""Several sources as one, e.g. Kafka and the spool; a partition belongs to the source that announced it."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from monitor.clock import Clock, Deadline
from monitor.errors import Retryable
from monitor.events import Assigned, Event, Exhausted, Fetched, Lag, TopicPartition
from monitor.ports import Source


class CombinedSource:
    """Polls its sources in turn. Their topics must differ.

    A source that refuses for now does not hold up the others: Retryable is raised only when none had events.
    Exhausted comes once all sources have ended.
    """

    def __init__(self, sources: Sequence[Source], clock: Clock) -> None:
        self._sources = tuple(sources)
        self._turn = deque(sources)
        self._clock = clock
        self._owners: dict[TopicPartition, Source] = {}
        self._exhausted: set[int] = set()

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Return what happened in any source, waiting at most about `timeout` seconds.

        Each call begins with another source, so a busy one does not starve the others.
        """
        self._turn.rotate()
        events = self._ask(0.0, max_records)
        if not events and timeout > 0.0:
            events = self._ask(timeout / len(self._turn), max_records)
        return events

    def seek(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:
        """Deliver a partition from `offset` on. One that no source has announced is ignored."""
        owner = self._owners.get((topic, partition))
        if owner is not None:
            self._exhausted.discard(id(owner))
            owner.seek(topic, partition, offset, leader_epoch)

    def refresh(self, topic: str, partition: int) -> None:
        """Look a partition up anew. One that no source has announced is ignored."""
        owner = self._owners.get((topic, partition))
        if owner is not None:
            owner.refresh(topic, partition)

    def pause(self) -> None:
        """Deliver nothing until `resume`. Idempotent."""
        for source in self._turn:
            source.pause()

    def resume(self) -> None:
        """Deliver again. Idempotent."""
        for source in self._turn:
            source.resume()

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing of these partitions until the next call. Idempotent."""
        for source in self._turn:
            source.hold([key for key in partitions if self._owners.get(key) is source])

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit to each source the positions of its partitions."""
        for source in self._turn:
            own = self._of(source, positions)
            if own:
                source.commit(own)

    def lag(self) -> Sequence[Lag]:
        """Return the lag of every source's partitions."""
        return [lag for source in self._turn for lag in source.lag()]

    def health(self) -> Mapping[str, bool]:
        """Return the conditions of every source."""
        return {name: holds for source in self._sources for name, holds in source.health().items()}

    def close(self, positions: Mapping[TopicPartition, int], seconds: float) -> None:
        """Close every source, all within about `seconds`. Idempotent."""
        deadline = Deadline(self._clock, seconds)
        for source in self._turn:
            source.close(self._of(source, positions), deadline.remaining())

    def _ask(self, timeout: float, limit: int) -> list[Event]:
        events: list[Event] = []
        refusal: Retryable | None = None
        for source in self._turn:
            try:
                polled = source.poll(0.0 if events else timeout, limit)
            except Retryable as error:
                refusal = error
                continue
            for event in polled:
                if isinstance(event, Exhausted):
                    self._exhausted.add(id(source))
                    events += [event] if len(self._exhausted) == len(self._turn) else []
                    continue
                if isinstance(event, Assigned):
                    self._owners[event.topic, event.partition] = source
                elif isinstance(event, Fetched):
                    limit -= len(event.records)
                events.append(event)
            if limit <= 0:
                break
        if refusal is not None and not events:
            raise refusal
        return events

    def _of(self, source: Source, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {key: at for key, at in positions.items() if self._owners.get(key) is source}
