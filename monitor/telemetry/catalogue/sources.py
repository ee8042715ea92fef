"""Metrics of the engine's sources: lag, Kafka, the OTLP receiver and its spool."""

from typing import Literal, TypeAlias

from monitor.events import Right
from monitor.telemetry.catalogue.families import PARTITION, TOPIC, Family, Kind, closed

Counter: TypeAlias = Literal[
    "kafka_renewals",
    "receiver_requests",
    "logins_refused",
]
Gauge: TypeAlias = Literal[
    "lag_records",
    "lag_seconds",
    "partition_stuck",
    "partitions_unread",
    "kafka_connected",
    "kafka_denied",
    "kafka_topic_id_known",
    "kafka_member",
    "kafka_member_answered_timestamp_seconds",
    "kafka_group_visible",
    "spool_records",
    "spool_bytes",
]

_HTTP = ("200", "400", "401", "403", "404", "405", "413", "415", "421", "429", "500", "503")
_GRPC = (
    "OK",
    "CANCELLED",
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "UNIMPLEMENTED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "INTERNAL",
)

FAMILIES: dict[Counter | Gauge, Family] = {
    "lag_records": Family(
        Kind.GAUGE,
        "Records of a partition that wait to be delivered, also where no member of the group reads it.",
        (TOPIC, PARTITION),
        "records",
    ),
    "lag_seconds": Family(
        Kind.GAUGE,
        "Age of the last delivered record while later ones wait, or how long no member has read them.",
        (TOPIC, PARTITION),
        "seconds",
    ),
    "partition_stuck": Family(
        Kind.GAUGE, "1 while a partition is paused until an operator acts.", (TOPIC, PARTITION)
    ),
    "partitions_unread": Family(
        Kind.GAUGE,
        "Partitions that no member of the group reads; absent while Kafka refuses to say.",
        (TOPIC,),
    ),
    "kafka_connected": Family(
        Kind.GAUGE, "1 while a broker is connected and answers, 0 while none does; absent without Kafka."
    ),
    "kafka_denied": Family(
        Kind.GAUGE,
        "1 while Kafka denies a right, 0 once it no longer does; `topic` is `*` for a right on the group.",
        (TOPIC, closed("right", Right)),
    ),
    "kafka_topic_id_known": Family(
        Kind.GAUGE,
        "1 where the topic has an id; 0 where only its length and records show that it was recreated.",
        (TOPIC,),
    ),
    "kafka_member": Family(
        Kind.GAUGE, "1 while this daemon is a live member of its consumer group; absent without Kafka."
    ),
    "kafka_member_answered_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time the group last answered this member; 0 before.", (), "seconds"
    ),
    "kafka_renewals": Family(
        Kind.COUNTER, "Kafka clients replaced because they had dropped out of the group."
    ),
    "kafka_group_visible": Family(
        Kind.GAUGE,
        "1 while Kafka says which partitions the group reads, 0 while it refuses; absent without Kafka.",
    ),
    "receiver_requests": Family(
        Kind.COUNTER,
        "Requests the receiver answered, by HTTP's status or gRPC's code; 200 and OK: on disk.",
        (closed("code", (*_HTTP, *_GRPC)),),
    ),
    "logins_refused": Family(
        Kind.COUNTER,
        "Requests with a wrong token, by port; `slowed`: not looked at, after many from one address.",
        (closed("port", ("receiver", "review")), closed("outcome", ("wrong", "slowed"))),
    ),
    "spool_records": Family(Kind.GAUGE, "Bodies received and not judged yet.", (TOPIC,), "records"),
    "spool_bytes": Family(Kind.GAUGE, "Bytes of the bodies received and not judged yet.", (TOPIC,), "bytes"),
}
