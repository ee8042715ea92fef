"""Identity of each partition's log: topics recreated under their name, and the epochs of their leaders.

A topic that was deleted and recreated, and is fetched by its name, is read on at the old offset as soon as it
is that long. So each partition is fetched by the id that its topic had when it was looked up (Kafka 3.1 and
later), and the id (Kafka 2.8 and later) is compared whenever metadata is refreshed. It is also asked for,
before anything more is delivered, whenever a topic may have been recreated unseen: a fetch failed, or none
was under way for a while. Deleting a topic ends the fetches that wait for its records with an error.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NamedTuple

from monitor.clock import Clock, Deadline
from monitor.events import TopicPartition
from monitor.sources.kafka_fetch_ids import fetch_by_id

UNSEEN_SECONDS: Final = 0.4  # between polls: for half a second after one a fetch waits for records
ANSWER_SECONDS: Final = 0.1  # how long fetched records are kept until an answer identifies their topic
TICK_SECONDS: Final = 0.002
AGAIN_SECONDS: Final = 1.0  # between requests for metadata while a topic is not there
ENOUGH_REFRESHES: Final = 2  # the first answer may have been asked for before the topics were named
NO_ID: Final = "00000000-0000-0000-0000-000000000000"


def topic_id(value: Any) -> str:
    """Return the topic id in metadata as text, empty for none."""
    return "" if value is None or str(value) == NO_ID else str(value)


class LogChanges(NamedTuple):
    """Result of `Logs.look`: partitions of topics recreated, possibly recreated, and proved unchanged."""

    changed: list[TopicPartition]
    doubted: list[TopicPartition]
    settled: list[TopicPartition]


class _Doubt:
    """A request for metadata that is to end a doubt. `outdated`: its answer may be of before, so ask again.

    The library answers with the response to a request that is under way, although that was sent earlier.
    """

    def __init__(self, cluster: Any, now: float) -> None:
        self.ask(cluster, now)

    def ask(self, cluster: Any, now: float) -> None:
        """Request metadata. Checked first: a request that begins in between is new enough."""
        self.outdated = bool(cluster.metadata_refresh_in_progress)
        self.answer, self.asked = cluster.request_update(), now

    def answered(self, cluster: Any) -> bool:
        """Return whether there is an answer that counts; ask again for one that does not."""
        if self.answer.is_done and self.outdated:
            self.ask(cluster, self.asked)
        return bool(self.answer.is_done)


class Logs:
    """Knows the topic's id of each announced partition. Used from the thread that polls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cluster: Any = None
        self._known: dict[TopicPartition, str] = {}
        self._ids: dict[str, str] = {}  # by topic, as last known; read by the IO thread, too
        self._doubts: dict[TopicPartition, _Doubt] = {}
        self._failed: deque[TopicPartition | None] = deque()  # None: any; written by the IO thread, too
        self._unheld: list[TopicPartition] = []  # doubted since the last look
        self._refreshed = False
        self._refreshes = 0
        self._read_at = float("-inf")

    def attach(self, consumer: Any, cluster: Any) -> None:
        """Watch a consumer and its metadata. Raises AttributeError for a release that cannot be watched."""
        self._cluster = cluster
        _ = cluster.metadata_refresh_in_progress  # so that a release without it is refused here, not later
        self._refreshes = 0
        fetcher = consumer._fetcher  # noqa: SLF001 - nothing public tells of a fetch that failed
        fetcher._parse_fetched_data = self._watched(fetcher._parse_fetched_data)  # noqa: SLF001 - as above
        fetcher._handle_fetch_error = self._told(fetcher._handle_fetch_error)  # noqa: SLF001 - as above
        fetch_by_id(fetcher, self._ids.get)
        cluster.add_listener(self._refresh)

    def topic_id(self, topic: str) -> str:
        """Return a topic's id in the current metadata, empty where it has none or does not exist."""
        return topic_id(self._cluster.topic_id(topic))

    def complete(self) -> bool:
        """Return whether metadata lists all topics that exist; request it until it does."""
        if self._refreshes < ENOUGH_REFRESHES:
            self._cluster.request_update()
        return self._refreshes >= ENOUGH_REFRESHES

    def know(self, key: TopicPartition, topic_id: str) -> None:
        """Remember the topic id of a partition."""
        self._known[key] = topic_id
        self._ids[key[0]] = topic_id
        self._doubts.pop(key, None)

    def question(self, key: TopicPartition) -> None:
        """Doubt a partition until metadata asked for from now on name its topic's id.

        Those at hand may be minutes old: of before a rebalance that gave us the partition of another topic.
        """
        self._doubt({key}, anew=True)

    def forget(self, key: TopicPartition) -> None:
        """Forget a partition that is no longer ours."""
        self._known.pop(key, None)
        self._doubts.pop(key, None)

    def doubted(self, key: TopicPartition) -> bool:
        """Return whether the partition may be another log by now, so that none of it may be delivered."""
        return key in self._doubts

    def reads(self) -> None:
        """Note that partitions are being fetched now."""
        now = self._clock.monotonic()
        if now - self._read_at > UNSEEN_SECONDS:
            self._doubt(self._known.keys(), anew=True)
        self._read_at = now

    def look(self, fetched: Iterable[TopicPartition]) -> LogChanges:
        """Compare ids where there is a reason to; wait a moment for those of `fetched` partitions."""
        self._take_failed()
        end = Deadline(self._clock, ANSWER_SECONDS)
        for key in fetched:
            while key in self._doubts and not self._doubts[key].answered(self._cluster) and not end.expired():
                self._clock.sleep(TICK_SECONDS)
        changes = LogChanges([], self._unheld, [])
        self._unheld = []
        if not self._refreshed and not self._doubts:
            return changes
        self._refreshed = False
        for key in dict.fromkeys([*self._known, *self._doubts]):
            current = self.topic_id(key[0])
            known = self._known.get(key, current)
            if known and current and current != known:
                self._doubts.pop(key, None)
                changes.changed.append(key)
            elif key in self._doubts and self._settles(key, same=current == known):
                changes.settled.append(key)
        for key in changes.changed:
            del self._known[key]
        return changes

    def _settles(self, key: TopicPartition, *, same: bool) -> bool:
        doubt = self._doubts[key]
        if not doubt.answered(self._cluster):
            return False
        if same and doubt.answer.succeeded():
            del self._doubts[key]
            return True
        now = self._clock.monotonic()
        if now - doubt.asked >= AGAIN_SECONDS:
            doubt.ask(self._cluster, now)  # for all partitions that share it
        return False

    def _take_failed(self) -> None:
        while self._failed:
            key = self._failed.popleft()
            self._doubt(self._known.keys() if key is None else {key} & self._known.keys())

    def _doubt(self, keys: Collection[TopicPartition], *, anew: bool = False) -> None:
        """Doubt partitions; `anew`: an answer that an earlier doubt still waits for is not enough."""
        new = []
        for key in keys:
            if key not in self._doubts:
                new.append(key)
            elif anew:
                self._doubts[key].outdated = True
        if new:
            doubt = _Doubt(self._cluster, self._clock.monotonic())
            self._doubts |= dict.fromkeys(new, doubt)
            self._unheld += new

    def _refresh(self, _cluster: Any) -> None:
        self._refreshed = True
        self._refreshes += 1

    def _watched(self, parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def watched(fetch: Any) -> Any:
            if fetch.partition_data.error_code:
                self._failed.append(tuple(fetch.topic_partition))
            return parse(fetch)

        return watched

    def _told(self, handle: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def noted(node: Any, error: Any) -> Any:
            self._failed.append(None)
            return handle(node, error)

        return noted


class Epochs:
    """Leader epochs of the delivered records of a partition, as far back as a commit may be."""

    KEPT: Final = 16  # changes of leader within the records that are on their way

    def __init__(self, offset: int = 0, leader_epoch: int = -1) -> None:
        self._starts = [offset]
        self._epochs = [leader_epoch]

    def saw(self, epochs: Iterable[tuple[int, int]]) -> None:
        """Note delivered records: offset and leader epoch."""
        for offset, epoch in epochs:
            if epoch != self._epochs[-1]:
                self._starts = [*self._starts, offset + 1][-self.KEPT :]
                self._epochs = [*self._epochs, epoch][-self.KEPT :]

    def before(self, offset: int) -> int:
        """Return the leader epoch of the record before an offset, -1 where unknown."""
        place = bisect_left(self._starts, offset + 1) - 1
        return self._epochs[place] if place >= 0 else -1
