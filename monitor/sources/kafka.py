"""Kafka as a source: a member of a consumer group that delivers nothing before a seek.

Offsets are committed explicitly and only as advice; the ledger decides where a partition begins, through
`seek`. `poll`, `seek`, `commit` and the rest are called from one thread; the library's IO thread only queues
rebalances, which the next `poll` returns as events.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock, Deadline
from monitor.config import KafkaConfig
from monitor.errors import ConfigError
from monitor.events import Denial, Event, Lag, Membership, Passed, Revoked, TopicPartition
from monitor.sources.kafka_assignment import Assignment, OwnedPartition
from monitor.sources.kafka_client import (
    LEAVE_MS,
    Rebalance,
    discard,
    in_thread,
    open_consumer,
    settings,
    unbuildable,
)
from monitor.sources.kafka_commits import Commits
from monitor.sources.kafka_diagnosis import Diagnosis, Outages, raise_for_good
from monitor.sources.kafka_fetch import Fetcher
from monitor.sources.kafka_logs import Logs
from monitor.sources.kafka_lookups import Lookup, Lookups
from monitor.sources.kafka_membership import Liveness
from monitor.sources.kafka_repairs import unrepairable
from monitor.sources.kafka_rights import Rights


class KafkaStats(NamedTuple):
    """Counts since the start, and whether any broker is connected now."""

    commit_failures: int
    poll_errors: int
    rebalances: int
    connected: bool


class KafkaSource:
    """Records of `config.topics` as a member of `config.group_id`. Connects while it is polled.

    `on_connection` gets whether any broker is connected, before the first attempt and at each change; a
    silent broker counts as connected until a request to it times out (30 s by default).
    `on_denial` gets each missing right, once when it is found and once when it is granted.
    `on_topic` gets each topic that is looked up, and whether it has an id.
    `on_member` gets each answer of the group, and whether this is a live member of it.
    Raises ConfigError at once for settings that cannot work or would break the delivery promise.
    """

    def __init__(
        self,
        config: KafkaConfig,
        clock: Clock,
        *,
        client_id: str,
        log: FilteringBoundLogger,
        on_connection: Callable[[bool], None] = lambda _: None,
        on_denial: Callable[[Denial, bool], None] = lambda _denial, _begins: None,
        on_topic: Callable[[str, bool], None] = lambda _topic, _known: None,
        on_member: Callable[[Membership], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._log = log
        self._settings = settings(config, client_id)
        self._opening: Future[tuple[Any, Any]] | None = None
        self._consumer: Any = None
        self._client: Any = None
        self._notes: deque[Rebalance] = deque()  # written by the IO thread
        self._logs = Logs(clock)
        self._events: list[Event] = []
        self._closed = False
        self._diagnosis = Diagnosis(config)
        self._outages = Outages(clock, log, self._diagnosis)
        self._rights = Rights(config, clock, log, on_denial)
        self._assignment = Assignment(clock, self._logs, self._rights)
        self._partitions = self._assignment.partitions
        self._lookups = Lookups(
            config,
            clock,
            log,
            partitions=self._partitions,
            logs=self._logs,
            rights=self._rights,
            emit=self._events.append,
            on_topic=on_topic,
            fetch_seconds=self._settings["fetch_max_wait_ms"] / 1000,
        )
        self._fetcher = Fetcher(
            clock,
            log,
            assignment=self._assignment,
            logs=self._logs,
            lookups=self._lookups,
            rights=self._rights,
            emit=self._events.append,
        )
        self._liveness = Liveness(config, clock, self._outages, on_connection, on_member)
        self._commits = Commits(clock, log)
        self._open_errors = 0
        self._rebalances = 0

    @property
    def stats(self) -> KafkaStats:
        """Return the counts for telemetry; cheap."""
        errors = (
            self._open_errors + self._fetcher.errors + self._lookups.errors + self._liveness.disconnections
        )
        return KafkaStats(self._commits.failures, errors, self._rebalances, self._liveness.connected)

    def poll(self, timeout: float, max_records: int) -> Sequence[Event]:
        """Return what happened, waiting at most about `timeout` seconds; must be called even while paused.

        An unreachable broker is counted and waited for, not raised; so is a missing right (see `health`).
        Raises Retryable for a refusal that may pass, ConfigError for one that does not.
        """
        if self._closed:
            return ()
        deadline = Deadline(self._clock, timeout)
        if self._liveness.is_lost() and not self._rights.group_denied:
            return self._renew()
        if self._consumer is None and not self._open(timeout):
            return ()
        self._commits.send(self._consumer, self._partitions)
        if self._rights.turn(asking=self._liveness.connected and not self._assignment.paused):
            self._assignment.apply_pauses()
        try:
            limit = min(max_records, self._config.max_poll_records)
            batches = self._fetcher.fetch(self._consumer, deadline.remaining(), limit)
        finally:
            self._take_notes()
            self._liveness.observe(self._consumer, self._client)
        self._fetcher.deliver(batches)
        self._lookups.turn(deadline, idle=self._assignment.paused)
        return self._take_events()

    def seek(self, topic: str, partition: int, offset: int, leader_epoch: int = -1) -> None:
        """Deliver a partition from `offset` on. Ignores one that is no longer assigned."""
        owned = self._partitions.get((topic, partition))
        if owned is not None and owned.announced:
            self._lookups.drop((topic, partition))
            self._assignment.begin((topic, partition), offset, leader_epoch)

    def refresh(self, topic: str, partition: int) -> None:
        """Deliver an assigned partition no more and report it as `Assigned` again, looked up anew."""
        key = (topic, partition)
        if key in self._partitions and self._consumer is not None:
            self._assignment.hold(key)
            self._partitions[key] = OwnedPartition()
            self._lookups.ask(key, Lookup())

    def pause(self) -> None:
        """Deliver nothing until `resume`. Idempotent."""
        self._assignment.paused = True
        self._assignment.apply_pauses()

    def resume(self) -> None:
        """Deliver again, except partitions that wait for a seek. Idempotent."""
        self._assignment.paused = False
        self._assignment.apply_pauses()

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing of these partitions until the next call. Idempotent."""
        self._assignment.held = frozenset(partitions)
        self._assignment.apply_pauses()

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Tell the broker the next offset per partition: at most one request at a time, the newest wins."""
        self._commits.add(positions)
        if self._consumer is not None:
            self._commits.send(self._consumer, self._partitions)

    def lag(self) -> Sequence[Lag]:
        """Return the lag per announced partition, from the ends last seen."""
        lags = [self._assignment.lag(key) for key, owned in self._partitions.items() if owned.announced]
        for key, owned in self._partitions.items():
            # Offsets passed without a record hold nothing to judge: aborted records, markers.
            if owned.delivering and owned.position > owned.delivered:
                owned.delivered = owned.position
                self._events.append(Passed(*key, owned.position))
        return lags

    def health(self) -> Mapping[str, bool]:
        """Return the conditions: a live group member, allowed to read, connected now or a moment ago."""
        return {**self._liveness.health(), "kafka_authorized": self._rights.complete}

    def close(self, positions: Mapping[TopicPartition, int], seconds: float) -> None:
        """Commit for the last time and leave the group, within about `seconds`. Idempotent.

        Each library call runs in a thread of its own, because it may never return.
        """
        if self._closed:
            return
        self._closed = True
        if self._consumer is None:
            if self._opening is not None:
                # Giving up needs the client's thread, which is gone once the client was opened and discarded.
                if not self._opening.done():
                    self._diagnosis.give_up()
                self._opening.add_done_callback(discard)
            return
        deadline = Deadline(self._clock, seconds)
        self._commits.add(positions)
        offsets = self._commits.take(self._partitions)
        if offsets:
            # The commit gets half of the time: it is advice, while leaving lets others take over at once.
            self._bounded("commit", seconds / 2, partial(self._consumer.commit, offsets))
        milliseconds = int(deadline.remaining() * 1000)
        leave = partial(self._consumer.close, autocommit=False, timeout_ms=milliseconds)
        self._bounded("close", deadline.remaining(), leave)
        self._liveness.left()

    def _bounded(self, step: str, seconds: float, call: Any) -> None:
        try:
            in_thread(f"kafka-{step}", call).result(seconds)
        except Exception as error:  # noqa: BLE001 - the stop continues, whatever the library raises
            self._commits.failures += step == "commit"
            self._log.warning("kafka_stop_failed", step=step, error=type(error).__name__)

    def _renew(self) -> Sequence[Event]:
        """Replace a consumer that dropped out of its group; give its partitions up as after a rebalance."""
        self._log.error("kafka_renewed", group=self._config.group_id)
        # It may never return; the notes it still takes go to a list that is dropped.
        in_thread("kafka-leave", partial(self._consumer.close, autocommit=False, timeout_ms=LEAVE_MS))
        self._consumer = self._opening = None
        self._assignment.attach(None)
        self._notes = deque()
        for topic, number in list(self._partitions):
            self._forget(topic, number)
        self._commits.abandon()
        self._liveness.renewed()
        return self._take_events()

    def _open(self, timeout: float) -> bool:
        from kafka.errors import KafkaError

        if self._opening is None:
            self._liveness.left()
            topics, watchers = list(self._config.topics), (self._diagnosis, self._rights)
            begin = partial(open_consumer, self._settings, topics, self._notes.append, *watchers)
            self._opening = in_thread("kafka-open", begin)
        try:
            self._consumer, self._client = self._opening.result(timeout)
            self._assignment.attach(self._consumer)
            self._logs.attach(self._consumer, self._client.cluster)
            self._lookups.attach(self._consumer, self._client.cluster)
        except TimeoutError:
            self._outages.away()
            return False
        except AttributeError as error:
            raise unrepairable(error) from None
        except ConfigError:
            raise
        except KafkaError as error:
            self._opening = None
            self._open_errors += 1
            raise_for_good(error)
            self._outages.away()
            return False
        except (ValueError, TypeError, AssertionError, ImportError) as error:
            raise unbuildable(error) from error
        return True

    def _take_notes(self) -> None:
        if not self._notes:
            return
        self._rebalances += 1
        while self._notes:
            note = self._notes.popleft()
            for topic, number in note.partitions:
                if note.gained:
                    self._partitions[topic, number] = OwnedPartition()
                    self._lookups.ask((topic, number), Lookup())
                else:
                    self._forget(topic, number)
        # The library keeps or forgets pauses across a rebalance depending on its release.
        self._assignment.apply_pauses()

    def _forget(self, topic: str, number: int) -> None:
        owned = self._partitions.pop((topic, number), None)
        self._lookups.drop((topic, number))
        self._commits.forget((topic, number))
        self._logs.forget((topic, number))
        if owned is not None and owned.announced:
            self._events.append(Revoked(topic, number))

    def _take_events(self) -> Sequence[Event]:
        events = self._events[:]
        self._events.clear()
        return events
