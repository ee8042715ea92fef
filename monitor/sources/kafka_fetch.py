"""Fetches of owned partitions: kafka-python's records and exceptions become events, or errors of ours."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock
from monitor.errors import Retryable
from monitor.events import Event, Fetched, Stuck, StuckReason, TopicPartition
from monitor.sources.kafka_assignment import Assignment
from monitor.sources.kafka_diagnosis import raise_for_good
from monitor.sources.kafka_logs import Logs
from monitor.sources.kafka_lookups import Lookup, Lookups
from monitor.sources.kafka_repairs import BadFetch
from monitor.sources.kafka_rights import Rights
from monitor.sources.kafka_structs import to_record


class Fetcher:
    """Polls a consumer. `errors` counts polls that failed. Used from the thread that polls."""

    def __init__(
        self,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        assignment: Assignment,
        logs: Logs,
        lookups: Lookups,
        rights: Rights,
        emit: Callable[[Event], None],
    ) -> None:
        self._clock = clock
        self._log = log
        self._assignment = assignment
        self._logs = logs
        self._lookups = lookups
        self._rights = rights
        self._emit = emit
        self.errors = 0

    def fetch(self, consumer: Any, timeout: float, max_records: int) -> Mapping[Any, Sequence[Any]]:
        """Return the next records by partition, waiting at most about `timeout` seconds.

        Raises Retryable for a refusal that may pass, ConfigError for one that does not.
        """
        if self._rights.holds_all:
            self._clock.sleep(timeout)
            return {}
        return self._poll(consumer, timeout, max_records)

    def _poll(self, consumer: Any, timeout: float, max_records: int) -> Mapping[Any, Sequence[Any]]:
        from kafka.errors import KafkaError, LogTruncationError, NoOffsetForPartitionError, RetriableError

        if not self._assignment.paused:
            self._logs.reads()
        try:
            batches: Mapping[Any, Sequence[Any]] = consumer.poll(
                timeout_ms=int(timeout * 1000), max_records=max_records
            )
        except BadFetch as bad:
            self._take_bad_fetch(bad)
        except LogTruncationError as error:
            for key, diverged in error.divergent_offsets.items():
                self._take_cut_off(tuple(key), -1 if diverged is None else diverged.offset)
        except NoOffsetForPartitionError:
            self.errors += 1
            self._assignment.place_unannounced()
        except RetriableError as error:
            self.errors += 1
            self._log.info("kafka_poll_failed", error=type(error).__name__)
        except KafkaError as error:
            self.errors += 1
            if self._rights.refused(error):
                self._assignment.apply_pauses()
                return {}
            raise_for_good(error)
            raise Retryable(f"kafka: the broker answered {type(error).__name__}") from error
        else:
            return batches
        return {}

    def deliver(self, batches: Mapping[Any, Sequence[Any]]) -> None:
        """Emit the records of partitions that deliver, except of topics that may have been made anew."""
        self._compare_logs(batches)
        for name, records in batches.items():
            owned = self._assignment.partitions.get(name)
            if owned is None or not owned.delivering:
                continue
            first, last = records[0], records[-1]
            if self._logs.doubted(name):
                # Fetched from a log that may be another one: fetch it again once that is known.
                self._assignment.move(name, first.offset, owned.epochs.before(first.offset))
                continue
            now = self._clock.now()
            fetched = [to_record(record, time_if_none=now) for record in records]
            # Epochs only grow along a log: where both ends agree, so do all records between.
            ends = (first, last) if first.leader_epoch == last.leader_epoch else records
            owned.epochs.saw((record.offset, record.leader_epoch) for record in ends)
            owned.last_time = fetched[-1].time
            owned.delivered = last.offset + 1
            topic, number = name
            self._emit(Fetched(topic, number, fetched, last.leader_epoch, last.timestamp >= 0))

    def _compare_logs(self, fetched: Iterable[TopicPartition]) -> None:
        """Hold back topics that were or may have been recreated: their records are not the old topic's."""
        changes = self._logs.look(fetched)
        for key in changes.changed:
            self._look_up_again(key)
        for key in changes.doubted:
            if self._logs.doubted(key) and key in self._assignment.partitions:
                self._assignment.pause(key)
        if changes.settled:
            self._assignment.apply_pauses()

    def _take_bad_fetch(self, bad: BadFetch) -> None:
        from kafka.errors import BrokerResponseError, CorruptRecordError, OffsetOutOfRangeError

        error = bad.__cause__
        owned = self._assignment.partitions.get(bad.key)
        if owned is None:
            return
        if owned.probed:
            # The last record was fetched only for the high watermark: fall back to the listed end.
            self._lookups.announce(bad.key, owned.probed.end)
        elif isinstance(error, OffsetOutOfRangeError):
            self._look_up_again(bad.key)
        elif error is not None and self._rights.refused(error, bad.key[0]):
            self._assignment.apply_pauses()
        elif bad.decoding or isinstance(error, CorruptRecordError):
            self._assignment.hold(bad.key)
            owned.position = bad.offset
            self._emit(Stuck(*bad.key, bad.offset, StuckReason.CORRUPT_BATCH))
            self._log.error(
                "kafka_batch_unreadable",
                topic=bad.key[0],
                partition=bad.key[1],
                offset=bad.offset,
                error=type(error).__name__,
            )
        else:
            self.errors += 1
            if isinstance(error, BrokerResponseError):
                raise_for_good(error)
            raise Retryable(f"kafka: fetching {bad.key[0]} failed with {type(error).__name__}") from error

    def _take_cut_off(self, key: TopicPartition, diverged: int) -> None:
        """Accept that a log was cut off once the library reports it twice for one position.

        The library keeps its finding and reports it at the next poll, even after a seek.
        """
        owned = self._assignment.partitions.get(key)
        if owned is None or diverged >= owned.delivered:
            return
        if owned.cut_at == owned.delivered:
            self._look_up_again(key, diverged)
            return
        owned.cut_at = owned.delivered
        self._assignment.move(key, owned.delivered, owned.epochs.before(owned.delivered))

    def _look_up_again(self, key: TopicPartition, diverged: int | None = None) -> None:
        """Hold a partition whose position does not fit its log until it is looked up."""
        owned = self._assignment.partitions.get(key)
        if owned is not None and owned.announced:
            self._assignment.hold(key)
            self._lookups.ask(key, Lookup(owned.delivered, diverged))
