"""Reports about the engine's sources: partitions and their lag, Kafka, the receiver and its spool."""

from collections.abc import Mapping, Sequence

from monitor.clock import Clock
from monitor.events import Denial, GroupLook, Lag, Membership, TopicPartition
from monitor.ports import Incident
from monitor.spool import SpoolUsage
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.observer.reporter import Reporter, best_effort
from monitor.telemetry.ports import Log


class SourceReports(Reporter):
    """Reports of sources, and of the engine about their partitions."""

    def __init__(self, metrics: Metrics, clock: Clock, log: Log) -> None:
        super().__init__(metrics, clock, log)
        self._stuck: dict[TopicPartition, int | None] = {}
        self._unread: Sequence[Lag] = ()

    @best_effort
    def lag(self, lags: Sequence[Lag]) -> None:
        """Lag of every assigned partition. One that is read again, or given away, is no longer stuck.

        Partitions that no member of the group reads count as well, see `group`.
        """
        by_labels = {(lag.topic, str(lag.partition)): lag for lag in (*self._unread, *lags)}
        self._metrics.replace("lag_records", {key: lag.records for key, lag in by_labels.items()})
        self._metrics.replace("lag_seconds", {key: lag.seconds for key, lag in by_labels.items()})
        waiting = {(lag.topic, lag.partition): lag.records for lag in lags}
        # A stuck partition delivers nothing, so its backlog can only grow until it is read.
        self._stuck = {
            where: waiting[where]
            for where, before in self._stuck.items()
            if where in waiting and (before is None or waiting[where] >= before)
        }
        self._metrics.replace(
            "partition_stuck",
            {
                (topic, str(partition)): float((topic, partition) in self._stuck)
                for topic, partition in waiting
            },
        )

    @best_effort
    def incident(self, incident: Incident, topic: str = "", partition: int = -1) -> None:
        """Something to count, and to log when it is about a partition."""
        self._metrics.inc("incidents", incident=incident)
        if not topic:
            return
        if incident is Incident.STUCK:
            self._stuck[topic, partition] = None
            self._metrics.set("partition_stuck", 1.0, topic=topic, partition=str(partition))
            self._log.error("partition_incident", incident=incident, topic=topic, partition=partition)
        else:
            self._log.warning("partition_incident", incident=incident, topic=topic, partition=partition)

    @best_effort
    def broker(self, *, connected: bool) -> None:
        """Report whether any broker of Kafka is connected."""
        self._metrics.set("kafka_connected", float(connected))

    @best_effort
    def denied(self, denial: Denial, *, begins: bool) -> None:
        """Report that Kafka began to deny a right, or no longer denies it."""
        self._metrics.set("kafka_denied", float(begins), topic=denial.topic or "*", right=denial.right)

    @best_effort
    def named(self, topic: str, *, known: bool) -> None:
        """Report whether Kafka gives a topic an id."""
        self._metrics.set("kafka_topic_id_known", float(known), topic=topic)

    @best_effort
    def member(self, membership: Membership) -> None:
        """Report the membership of a source in a consumer group."""
        self._metrics.set("kafka_member", float(membership.live))
        self._metrics.set("kafka_member_answered_timestamp_seconds", membership.answered)
        self._metrics.total("kafka_renewals", membership.renewals)

    @best_effort
    def group(self, look: GroupLook | None) -> None:
        """Report the partitions that no member of the group reads; None when Kafka refuses to say."""
        self._metrics.set("kafka_group_visible", float(look is not None))
        self._metrics.replace(
            "partitions_unread", {(topic,): count for topic, count in look.unread.items()} if look else {}
        )
        self._unread = look.lags if look else ()

    @best_effort
    def answered(self, status: int | str) -> None:
        """A receiver answered a request, with a status of HTTP or the name of gRPC's code."""
        self._metrics.inc("receiver_requests", code=str(status))

    @best_effort
    def login_refused(self, port: str, outcome: str) -> None:
        """A request brought a wrong token to a port, or was not looked at after many of them."""
        self._metrics.inc("logins_refused", port=port, outcome=outcome)

    @best_effort
    def spooled(self, usage: Mapping[str, SpoolUsage]) -> None:
        """Report the usage of the spool."""
        self._metrics.replace("spool_records", {(t,): u.end - u.begin for t, u in usage.items()})
        self._metrics.replace("spool_bytes", {(t,): u.bytes for t, u in usage.items()})
