"""An independent watch on the whole group: which partitions of our topics no member reads.

It has a client and a thread of its own, so a consumer that hangs, or wrongly believes itself a member, does
not hide the partitions it leaves unread.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from monitor.clock import Clock, Deadline
from monitor.config import KafkaConfig
from monitor.errors import Retryable
from monitor.events import GroupLook, Lag, TopicPartition

LOOK_SECONDS: Final = 15.0
ANSWER_MS: Final = 10_000
JOIN_SECONDS: Final = 0.5
_SETTLED: Final = frozenset({"Stable", "Empty", "Dead"})
"""States in which the members' assignments are known and final."""


class Group(NamedTuple):
    """A group between two rebalances: its members' client ids, and the partitions they were assigned."""

    clients: frozenset[str]
    read: frozenset[TopicPartition]


class GroupWatch:
    """A thread that queries the group every `LOOK_SECONDS` and calls `on_look`.

    A partition counts as unread when two queries in a row found it so: one may fall between a rebalance's
    steps. While a rebalance is under way, or Kafka does not answer, the last result stays, as other metrics
    report both. `on_look` gets None when Kafka refuses, or has no way, to describe the group. `turn` is one
    query, so a test can drive it without a thread.
    """

    def __init__(
        self,
        config: KafkaConfig,
        clock: Clock,
        *,
        client_id: str,
        log: FilteringBoundLogger,
        on_look: Callable[[GroupLook | None], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._client_id = client_id
        self._log = log
        self._on_look = on_look
        self._since: dict[TopicPartition, float] = {}  # when unread partitions were first seen so
        self._error = ""
        self._admin: Any = None
        self._ended = threading.Event()
        # A daemon thread: a client that never answers must not keep the process past its deadline.
        self._thread = threading.Thread(target=self._run, name="riskmon-group", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """End. Idempotent, and safe before `start`."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(min(JOIN_SECONDS, deadline.remaining()))  # leave the time to the other steps

    def turn(self) -> None:
        """Query the group once."""
        try:
            with _classified():
                self._admin = self._admin or _open(self._config, self._client_id)
                look = self._look(self._admin)
        except Retryable as error:
            self._note(str(error))
        except _RefusedError as error:
            self._note(str(error), error.remedy)
            self._since.clear()
            self._on_look(None)
        else:
            self._note("")
            if look is not None:
                self._on_look(look)

    def _note(self, error: str, remedy: str = "the daemon tries again") -> None:
        """Log an error of a query when it changes, and start over with a new client."""
        if error:
            self._close()
            if error != self._error:
                self._log.warning("kafka_group_not_seen", error=error, remedy=remedy)
        self._error = error

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.turn()
        self._close()

    def _close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _look(self, admin: Any) -> GroupLook | None:
        name = self._config.group_id
        group = described(admin.describe_groups([name])[name])
        if group is None:
            return None
        known = partitions(admin.describe_topics(list(self._config.topics)))
        now = self._clock.monotonic()
        before = self._since
        self._since = {key: before.get(key, now) for key in sorted(known - group.read)}
        unread = {key: since for key, since in self._since.items() if key in before}
        counts = Counter({topic: 0 for topic, _ in known})
        counts.update(topic for topic, _ in unread)
        # All daemons see the same, so only one reports: the first member, or each when there is no member.
        if not unread or self._client_id != min(group.clients, default=self._client_id):
            return GroupLook(counts, ())
        waiting = _waiting(admin, name, list(unread))
        lags = [Lag(*key, records, now - unread[key] if records else 0.0) for key, records in waiting.items()]
        return GroupLook(counts, lags)


def hidden(config: KafkaConfig) -> str:
    """Return why Kafka does not describe the group to a daemon, with the remedy; empty if it does.

    Raises Retryable when it does not answer.
    """
    try:
        with _classified():
            admin = _open(config, "riskmon-check")
            try:
                admin.describe_groups([config.group_id])
            finally:
                admin.close()
    except _RefusedError as error:
        return f"{error}; {error.remedy}"
    return ""


def committed(config: KafkaConfig) -> dict[TopicPartition, int]:
    """Return the offsets that the group has committed. Raises Retryable when Kafka does not say."""
    try:
        with _classified():
            admin = _open(config, "riskmon-check")
            try:
                offsets = admin.list_group_offsets({config.group_id: None})[config.group_id]
            finally:
                admin.close()
    except _RefusedError as error:
        raise Retryable(str(error)) from None
    return {(name.topic, name.partition): each.offset for name, each in offsets.items() if each.offset >= 0}


class _RefusedError(Exception):
    """Kafka does not describe the group to us; the message is the kind of its answer."""

    def __init__(self, error: Exception, remedy: str) -> None:
        super().__init__(type(error).__name__)
        self.remedy = f"{remedy}; otherwise unread partitions go unnoticed"


@contextmanager
def _classified() -> Iterator[None]:
    """Separate refusals and missing features of Kafka from failures that may pass."""
    from kafka.errors import AuthorizationError, KafkaError, UnsupportedVersionError

    try:
        yield
    except AuthorizationError as error:
        remedy = "allow this user to DESCRIBE kafka.group_id, which READ implies"
        raise _RefusedError(error, remedy) from error
    except (UnsupportedVersionError, ValueError) as error:  # ValueError: an answer the library cannot read
        raise _RefusedError(error, "use a broker that describes groups as Apache Kafka does") from error
    except (KafkaError, OSError) as error:
        raise Retryable(type(error).__name__) from error


def _open(config: KafkaConfig, client_id: str) -> Any:
    from kafka import KafkaAdminClient

    return KafkaAdminClient(
        **config.connection(),
        client_id=client_id,
        bootstrap_timeout_ms=ANSWER_MS,
        request_timeout_ms=ANSWER_MS,
    )


def described(answer: Mapping[str, Any]) -> Group | None:
    """Read the answer of `KafkaAdminClient.describe_groups` for one group.

    None while it is rebalancing or its coordinator is not ready: the assignments are not final then.
    """
    if answer["group_state"] not in _SETTLED:
        return None
    members = answer["members"]
    assigned = [member["member_assignment"] or {"assigned_partitions": ()} for member in members]
    read = {
        (topic["topic"], partition)
        for assignment in assigned
        for topic in assignment["assigned_partitions"]
        for partition in topic["partitions"]
    }
    return Group(frozenset(member["client_id"] for member in members), frozenset(read))


def partitions(topics: Sequence[Mapping[str, Any]]) -> frozenset[TopicPartition]:
    """Read the answer of `KafkaAdminClient.describe_topics`; a topic that does not exist has none."""
    return frozenset(
        (topic["name"], each["partition_index"]) for topic in topics for each in topic["partitions"]
    )


def _waiting(admin: Any, group: str, keys: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Count the records from the group's committed position, or the beginning, to the end."""
    from kafka.admin import OffsetSpec
    from kafka.structs import TopicPartition as Name

    names = [Name(*key) for key in keys]
    begins = admin.list_partition_offsets(dict.fromkeys(names, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(names, OffsetSpec.LATEST))
    committed = admin.list_group_offsets({group: names})[group]
    return {
        key: max(0, ends[name].offset - max(begins[name].offset, committed[name].offset))
        for key, name in zip(keys, names, strict=True)
    }
