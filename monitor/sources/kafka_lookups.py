"""Look-ups at the broker before a partition is delivered: its beginning, end and committed offset."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock, Deadline
from monitor.config import KafkaConfig
from monitor.events import Assigned, Event, Existing, OutOfRange, TopicPartition
from monitor.sources.kafka_assignment import OwnedPartition
from monitor.sources.kafka_diagnosis import raise_for_good
from monitor.sources.kafka_logs import Logs
from monitor.sources.kafka_rights import Rights
from monitor.sources.kafka_structs import library_partition

LOOKUP_SECONDS: Final = 1.0  # least time for an offset look-up that queues behind a fetch
NO_ID_REMEDY: Final = (
    "a recreated topic is recognised only by its length and the record before the position; "
    "Kafka 2.8 and later give topics ids"
)
END_SECONDS: Final = 5.0  # how often the ends of partitions that are not being fetched are asked for


class Lookup(NamedTuple):
    """Question about a partition: to announce it, or where `position` does not fit its log.

    `diverged` is the first new offset; -1 where all of them are.
    """

    position: int | None = None
    diverged: int | None = None


class Lookups:
    """Look-ups of owned `partitions`, answered as events to `emit`. Used from the thread that polls.

    `errors` counts questions that the broker did not answer; they are asked again.
    """

    def __init__(
        self,
        config: KafkaConfig,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        partitions: Mapping[TopicPartition, OwnedPartition],
        logs: Logs,
        rights: Rights,
        emit: Callable[[Event], None],
        on_topic: Callable[[str, bool], None],
        fetch_seconds: float,
    ) -> None:
        self._config = config
        self._clock = clock
        self._log = log
        self._partitions = partitions
        self._logs = logs
        self._rights = rights
        self._emit = emit
        self._on_topic = on_topic
        self._named: dict[str, bool] = {}
        # A look-up queues on the connection behind a fetch that waits for records to come.
        self._seconds = LOOKUP_SECONDS + fetch_seconds
        self._consumer: Any = None
        self._cluster: Any = None
        self._waiting: dict[TopicPartition, Lookup] = {}
        self._looked = config.start != "latest"
        self._ends_due = 0.0
        self.errors = 0

    def attach(self, consumer: Any, cluster: Any) -> None:
        """Ask through this consumer from now on."""
        self._consumer, self._cluster = consumer, cluster

    def ask(self, key: TopicPartition, lookup: Lookup) -> None:
        """Look a partition up as soon as the broker answers. Its last known end no longer counts."""
        self._waiting[key] = lookup
        self._logs.question(key)
        state = self._consumer._subscription.assignment.get(library_partition(key))  # noqa: SLF001 - nothing public forgets it
        if state is not None:
            state.highwater = None

    def drop(self, key: TopicPartition) -> None:
        """Cancel a look-up."""
        self._waiting.pop(key, None)

    def turn(self, deadline: Deadline, *, idle: bool) -> None:
        """Send the questions that wait, and take the answers; `idle`: nothing is being fetched."""
        self._finish_probes()
        if self._looked or self._look_first(deadline):
            self._look_up(deadline)
        self._refresh_ends(idle=idle)

    def announce(self, key: TopicPartition, end: int) -> None:
        """Report a partition as assigned, with this end."""
        owned = self._partitions[key]
        if owned.probed:
            self._emit(owned.probed._replace(end=end))
        self._consumer.pause(library_partition(key))
        owned.announced = True
        owned.probed = None
        owned.end = end

    def _look_up(self, deadline: Deadline) -> None:
        from kafka.errors import KafkaError

        withheld = (key for key in self._waiting if self._rights.holds(key[0]) or self._logs.doubted(key))
        for key in self._waiting.keys() - set(withheld):
            name, lookup = library_partition(key), self._waiting.pop(key)
            topic_id = self._logs.topic_id(key[0])
            milliseconds = self._milliseconds(deadline)
            try:
                begin = self._consumer.beginning_offsets([name], timeout_ms=milliseconds)[name]
                end = self._consumer.end_offsets([name], timeout_ms=milliseconds)[name]
                announces = lookup.position is None
                committed = self._consumer.committed(name, timeout_ms=milliseconds) if announces else None
            except KafkaError as error:
                self._waiting[key] = lookup  # at the end, so that one bad partition holds up no other
                if self._failed(error, key):
                    continue
                return
            if topic_id != self._logs.topic_id(key[0]):
                self._waiting[key] = lookup  # it was recreated between the questions
                continue
            self._logs.know(key, topic_id)
            self._name_topic(key[0], known=bool(topic_id))
            owned = self._partitions[key]
            if lookup.position is not None:
                owned.end = end
                diverged = begin if lookup.diverged == -1 else lookup.diverged
                self._emit(OutOfRange(*key, lookup.position, begin, end, topic_id, diverged))
                continue
            owned.position = begin if committed is None else committed
            owned.probed = Assigned(*key, committed, begin, end, topic_id)
            if end > begin:
                self._consumer.seek(name, end - 1)
                self._consumer.resume(name)
            else:
                self.announce(key, end)

    def _name_topic(self, topic: str, *, known: bool) -> None:
        if self._named.get(topic) is known:
            return
        self._named[topic] = known
        self._on_topic(topic, known)
        if not known:
            self._log.warning("kafka_topic_without_id", topic=topic, remedy=NO_ID_REMEDY)

    def _look_first(self, deadline: Deadline) -> bool:
        """Report the ends of the topics before announcing any partition: only these may begin at the end."""
        from kafka.errors import KafkaError

        if not self._logs.complete():
            return False
        names = [
            library_partition((topic, number))
            for topic in self._config.topics
            if not self._rights.holds(topic)
            for number in sorted(self._cluster.partitions_for_topic(topic) or ())
        ]
        try:
            ends = self._ends(names, deadline)
        except KafkaError as error:
            self._failed(error, None)
            return False
        self._emit(Existing({(name.topic, name.partition): end for name, end in ends.items()}))
        self._looked = True
        return True

    def _finish_probes(self) -> None:
        """Announce partitions whose last record was fetched (and dropped) to learn the high watermark.

        The end that is listed is not the next offset to be written: in front of an open transaction it is the
        last stable offset, and Tansu (the demo broker) lists the start of the last batch plus one. Taken for
        the end, either would make a sound position seem to lie beyond it.
        """
        for key, owned in self._partitions.items():
            if owned.probed:
                highwater = self._consumer.highwater(library_partition(key))
                if highwater is not None:
                    self.announce(key, max(highwater, owned.probed.end))

    def _refresh_ends(self, *, idle: bool) -> None:
        """Keep lag correct where nothing is being fetched, since only fetch answers carry the end."""
        from kafka.errors import KafkaError

        now = self._clock.monotonic()
        names = [
            library_partition(key)
            for key, owned in self._partitions.items()
            if owned.announced and (idle or not owned.delivering) and not self._rights.holds(key[0])
        ]
        if not names or now < self._ends_due:
            return
        self._ends_due = now + END_SECONDS
        try:
            ends = self._ends(names, Deadline(self._clock, 0.0))
        except KafkaError as error:
            self._failed(error, None)
            return
        for name in names:
            self._partitions[name].end = max(self._partitions[name].end, ends[name])

    def _ends(self, names: Sequence[Any], deadline: Deadline) -> Mapping[Any, int]:
        ends: Mapping[Any, int] = (
            self._consumer.end_offsets(names, timeout_ms=self._milliseconds(deadline)) if names else {}
        )
        return ends

    def _milliseconds(self, deadline: Deadline) -> int:
        return int(max(deadline.remaining(), self._seconds) * 1000)

    def _failed(self, error: Exception, key: TopicPartition | None) -> bool:
        """Count a missing answer; return whether a missing right is the cause."""
        self.errors += 1
        if self._rights.refused(error, key[0]) if key else self._rights.refused(error):
            return True
        raise_for_good(error)
        where = {} if key is None else {"topic": key[0], "partition": key[1]}
        self._log.info("kafka_lookup_failed", **where, error=type(error).__name__)
        return False
