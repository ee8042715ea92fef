"""Liveness of this daemon's group membership, judged by the group's last answers.

The library's own view is not enough: a consumer may go on fetching its old assignment, with no heartbeat sent
and no error raised, long after the group has expelled it and its partitions have no reader.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from monitor.clock import Clock
from monitor.config import KafkaConfig
from monitor.events import Membership
from monitor.sources.kafka_diagnosis import Outages

BOOTSTRAP_SECONDS: Final = 5.0
"""Without a connection, and between tries, until bootstrap servers are asked who the brokers are now."""


class Liveness:
    """Connection and membership of one consumer, and when it has to be built anew.

    A member is live from its first assignment, for as long as a heartbeat or a join was answered within the
    session time-out: for that long the group keeps it, also while a rebalance is under way. `health` is for
    any thread, the rest for the one that polls. `disconnections` and `renewals` count from the start.
    """

    def __init__(
        self,
        config: KafkaConfig,
        clock: Clock,
        outages: Outages,
        on_connection: Callable[[bool], None],
        on_member: Callable[[Membership], None],
    ) -> None:
        self._clock = clock
        self._outages = outages
        self._session_seconds = config.session_timeout_ms / 1000
        self._rejoin_seconds = config.rejoin_within
        self._unreachable_seconds = config.unreachable_seconds
        self._on_connection = on_connection
        self._on_member = on_member
        self._told: Membership | None = None
        self._answer: object = None  # what changes with each answer of the group; None while it is no member
        self._answered = self._answered_time = 0.0
        self._disconnected_since: float | None = clock.monotonic()
        self._lost_since: float | None = None
        self._bootstrap_at = 0.0
        self.disconnections = 0
        self.renewals = 0

    @property
    def connected(self) -> bool:
        """Return whether any broker is connected; a silent one counts until a request times out."""
        return self._disconnected_since is None

    def is_lost(self) -> bool:
        """Return whether membership is lost for longer than any rebalance takes, with a broker connected."""
        since = self._lost_since
        return since is not None and self._clock.monotonic() - since >= self._rejoin_seconds

    def health(self) -> Mapping[str, bool]:
        """Return the conditions of readiness, by name."""
        since = self._disconnected_since
        away = 0.0 if since is None else self._clock.monotonic() - since
        return {"group_member": self._is_live(), "broker_connected": away < self._unreachable_seconds}

    def observe(self, consumer: Any, client: Any) -> None:
        """Observe a consumer and its network client after a poll."""
        self._connection(any(client.connected(broker.node_id) for broker in client.cluster.brokers()))
        if not self.connected:
            self._bootstrap(client)
        self._membership(consumer)

    def left(self) -> None:
        """Note that there is no consumer: it is closed, or not open yet."""
        if self._disconnected_since is None:
            self._disconnected_since = self._clock.monotonic()
        self._answer = self._lost_since = None
        self._on_connection(False)
        self._tell()

    def renewed(self) -> None:
        """Note that another consumer replaces this one."""
        self.renewals += 1
        self.left()

    def _connection(self, connected: bool) -> None:  # noqa: FBT001 - private
        if not connected:
            self._outages.away()
        if connected == self.connected:
            return
        self._disconnected_since = None if connected else self._clock.monotonic()
        self._on_connection(connected)
        if connected:
            self._outages.back()
        else:
            self.disconnections += 1

    def _bootstrap(self, client: Any) -> None:
        """Ask the bootstrap servers again: the library only knows the brokers of its last answer.

        As Kafka's own client does since 3.8 (KIP-899).
        """
        now = self._clock.monotonic()
        since = self._disconnected_since
        if since is None or now < max(since + BOOTSTRAP_SECONDS, self._bootstrap_at):
            return
        self._bootstrap_at = now + BOOTSTRAP_SECONDS
        # Nothing while one is under way.
        client._manager.bootstrap_async(timeout_ms=BOOTSTRAP_SECONDS * 1000)  # noqa: SLF001 - nothing public asks again

    def _membership(self, consumer: Any) -> None:
        from kafka.structs import MemberState

        now = self._clock.monotonic()
        member = consumer.group_metadata()
        if member.generation_id < 0:
            self._answer = None
        # During a rebalance, generation and heartbeat are those from before it: they prove nothing.
        elif member.state is MemberState.STABLE:
            answer = (member.generation_id, member.member_id, last_heartbeat(consumer))
            if answer != self._answer:
                self._answered, self._answered_time = now, self._clock.now()
                self._answer = answer
        # Without a connection nobody can join: that is an outage, which `broker_connected` reports.
        if self._is_live() or not self.connected:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = now
        self._tell()

    def _is_live(self) -> bool:
        return self._answer is not None and self._clock.monotonic() - self._answered < self._session_seconds

    def _tell(self) -> None:
        membership = Membership(self._is_live(), self._answered_time, self.renewals)
        if membership != self._told:
            self._told = membership
            self._on_member(membership)


def last_heartbeat(consumer: Any) -> float:
    """Return when a heartbeat was last answered, on the library's clock; minus infinity before the first.

    Raises AttributeError for a release that keeps it elsewhere.
    """
    heartbeat: float = consumer._coordinator.heartbeat.last_receive  # noqa: SLF001 - nothing public tells it
    return heartbeat
