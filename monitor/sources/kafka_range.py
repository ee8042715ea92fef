"""A bounded range of Kafka's records as a source: no group, no commits, no effect on others."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Self, TypeAlias

from monitor.clock import Clock, Deadline
from monitor.config import KafkaConfig
from monitor.errors import ConfigError, Retryable
from monitor.events import Assigned, Event, Exhausted, Fetched, Lag, TopicPartition
from monitor.sources.kafka_client import settings
from monitor.sources.kafka_repairs import BadFetch, repair_fetcher
from monitor.sources.kafka_structs import library_partition, to_record

WATERMARK_SECONDS: Final = 10.0

Point: TypeAlias = int | datetime
"""Begin or end of a range: an offset, or the first record of a time."""


class Range(NamedTuple):
    """Offsets [start, stop) of a partition."""

    start: int
    stop: int


class RangeSource:
    """Delivers `ranges` and then reports Exhausted. Unreadable batches end it: a replay has no operator."""

    def __init__(self, consumer: Any, ranges: Mapping[TopicPartition, Range], clock: Clock) -> None:
        self.ranges = ranges
        self._consumer = consumer
        self._clock = clock
        self._positions: dict[TopicPartition, int] = {}
        self._again: list[TopicPartition] = sorted(ranges)  # to be reported as assigned
        self._held: frozenset[TopicPartition] = frozenset()
        self._paused = self._exhausted = self._closed = False

    @classmethod
    def open(
        cls,
        config: KafkaConfig,
        topics: Sequence[str],
        partition: int | None,
        start: Point,
        stop: Point | None,
        clock: Clock,
    ) -> Self:
        """Connect and find a range's offsets in all partitions of topics, or in one; `stop` None: the end.

        Raises ConfigError for a topic or partition that does not exist, Retryable when the broker is away.
        """
        from kafka import KafkaConsumer
        from kafka.errors import KafkaError

        keywords = settings(config, "riskmon-replay") | {"group_id": None}
        try:
            consumer = KafkaConsumer(**keywords)
            try:
                repair_fetcher(consumer)
                names = [
                    library_partition((topic, number))
                    for topic in topics
                    for number in _numbers(consumer, topic, partition)
                ]
                begins, ends = consumer.beginning_offsets(names), consumer.end_offsets(names)
                consumer.assign(names)
                ends = _watermarks(consumer, begins, ends, clock)
                starts = _offsets(consumer, start, ends)
                stops = ends if stop is None else _offsets(consumer, stop, ends)
                for name in names:
                    consumer.pause(name)
                    consumer.seek(name, begins[name])
            except BaseException:
                consumer.close(autocommit=False)
                raise
        except (KafkaError, OSError) as error:
            raise Retryable(f"the broker does not answer ({type(error).__name__})") from None
        within = {}
        for name in names:
            first = min(max(starts[name], begins[name]), ends[name])
            within[name.topic, name.partition] = Range(first, max(first, min(stops[name], ends[name])))
        return cls(consumer, within, clock)

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Return the next records. Raises Retryable when the broker does not answer."""
        from kafka.errors import KafkaError

        if self._closed:
            return ()
        if self._again:
            keys, self._again = self._again, []
            return [Assigned(*key, None, *self.ranges[key]) for key in keys]
        if self._exhausted or self._paused:
            self._clock.sleep(timeout)
            return ()
        try:
            batches = self._consumer.poll(int(timeout * 1000), max_records=max_records)
        except BadFetch as error:
            raise ConfigError(f"{error} cannot be read; replay what is before or behind it") from None
        except (KafkaError, OSError) as error:
            raise Retryable(f"the broker does not answer ({type(error).__name__})") from None
        events: list[Event] = [
            Fetched(name.topic, name.partition, records)
            for name, batch in batches.items()
            if (
                records := [
                    to_record(record, time_if_none=0.0)
                    for record in batch
                    if record.offset < self.ranges[tuple(name)].stop
                ]
            )
        ]
        self._advance()
        if not events and not any(lag.records for lag in self.lag()):
            self._exhausted = True
            return [Exhausted()]
        return events

    def seek(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:  # noqa: ARG002 - it has none
        """Deliver a partition of the range from `offset` on."""
        if (topic, partition) in self.ranges and not self._closed:
            self._exhausted = False
            self._positions[topic, partition] = offset
            self._consumer.seek(library_partition((topic, partition)), offset)
            if (topic, partition) not in self._held:
                self._consumer.resume(library_partition((topic, partition)))
            self._advance()

    def refresh(self, topic: str, partition: int) -> None:
        """Report the range of a partition as assigned again."""
        if (topic, partition) in self.ranges and not self._closed:
            self._consumer.pause(library_partition((topic, partition)))
            self._again.append((topic, partition))

    def pause(self) -> None:
        """Deliver nothing until `resume`. Idempotent."""
        self._paused = True

    def resume(self) -> None:
        """Deliver again. Idempotent."""
        self._paused = False

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing of these partitions until the next call. Idempotent."""
        for key in self._held ^ frozenset(partitions):
            if key in self._positions and self._positions[key] < self.ranges[key].stop:
                name = library_partition(key)
                (self._consumer.pause if key in partitions else self._consumer.resume)(name)
        self._held = frozenset(partitions)

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Do nothing: a replay leaves no trace."""

    def lag(self) -> Sequence[Lag]:
        """Return the offsets of each range that were not delivered yet."""
        return [
            Lag(*key, max(0, bounds.stop - self._positions.get(key, bounds.start)), 0.0)
            for key, bounds in self.ranges.items()
        ]

    def health(self) -> Mapping[str, bool]:
        """Return no conditions: a replay ends, it does not serve."""
        return {}

    def close(self, positions: Mapping[TopicPartition, int], seconds: float) -> None:  # noqa: ARG002 - nothing to commit
        """Leave. Idempotent."""
        self._closed = True
        self._consumer.close(autocommit=False)

    def _advance(self) -> None:
        """Note how far delivery is, gaps of compaction and markers included; stop fetching what is done."""
        for key, position in self._positions.items():
            name = library_partition(key)
            self._positions[key] = max(position, self._consumer.position(name))
            if self._positions[key] >= self.ranges[key].stop:
                self._consumer.pause(name)


def _numbers(consumer: Any, topic: str, partition: int | None) -> Sequence[int]:
    known = sorted(consumer.partitions_for_topic(topic) or ())
    if not known:
        raise ConfigError(f"kafka.topics: topic {topic} does not exist; name one with --topic")
    if partition is None:
        return known
    if partition not in known:
        raise ConfigError(f"{topic} has no partition {partition}; it has {known[0]} to {known[-1]}")
    return [partition]


def _watermarks(
    consumer: Any, begins: Mapping[Any, int], ends: Mapping[Any, int], clock: Clock
) -> Mapping[Any, int]:
    """Return ends that include the last batch: some brokers answer with an offset inside it."""
    asked = {name: end for name, end in ends.items() if end > begins[name]}
    for name in ends:
        if name in asked:
            consumer.seek(name, asked[name] - 1)
        else:
            consumer.pause(name)
            consumer.seek(name, ends[name])
    deadline = Deadline(clock, WATERMARK_SECONDS)
    while not deadline.expired() and any(consumer.highwater(name) is None for name in asked):
        consumer.poll(100)
    return {name: max(end, consumer.highwater(name) or 0) for name, end in ends.items()}


def _offsets(consumer: Any, point: Point, ends: Mapping[Any, int]) -> dict[Any, int]:
    if isinstance(point, int):
        return dict.fromkeys(ends, point)
    answers = consumer.offsets_for_times(dict.fromkeys(ends, int(point.timestamp() * 1000)))
    # No record of that time or later: brokers answer with nothing, or with a timestamp of -1.
    return {
        name: at.offset if (at := answers.get(name)) is not None and at.timestamp >= 0 else end
        for name, end in ends.items()
    }
