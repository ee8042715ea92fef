"""Metrics of outgoing messages."""

from typing import Literal, TypeAlias

from monitor.telemetry.catalogue.families import DESTINATION, Bound, Family, Kind, Label, closed

Counter: TypeAlias = Literal[
    "deliveries",
    "delivery_failures",
    "delivery_lane_restarts",
    "evaluation_events",
    "log_lines_dropped",
]
Gauge: TypeAlias = Literal[
    "outbox_pending",
    "outbox_oldest_seconds",
    "outbox_failing",
    "outbox_set_aside",
]

_EXPORTS = ("exported", "failed", "dropped")
_REASON = Label("reason", Bound.GUARDED, key="delivery_reason")
_OUTCOMES = ("delivered", "failed", "rejected")

FAMILIES: dict[Counter | Gauge, Family] = {
    "outbox_pending": Family(Kind.GAUGE, "Messages waiting for a destination.", (DESTINATION,)),
    "outbox_oldest_seconds": Family(
        Kind.GAUGE, "Age of the oldest message waiting for a destination.", (DESTINATION,), "seconds"
    ),
    "outbox_failing": Family(
        Kind.GAUGE,
        "Waiting messages whose last try failed, by reason; they are tried again.",
        (DESTINATION, _REASON),
    ),
    "outbox_set_aside": Family(
        Kind.GAUGE,
        "Messages that a destination called malformed; `riskmon outbox retry` sends them again.",
        (DESTINATION, _REASON),
    ),
    "deliveries": Family(
        Kind.COUNTER,
        "Messages offered to a destination, by outcome; `failed` ones are tried again, `rejected` set aside.",
        (DESTINATION, closed("outcome", _OUTCOMES)),
    ),
    "delivery_failures": Family(
        Kind.COUNTER,
        "Messages that failed or were rejected, by reason.",
        (DESTINATION, _REASON),
    ),
    "delivery_lane_restarts": Family(
        Kind.COUNTER, "Faults after which the delivery to a destination began anew.", (DESTINATION,)
    ),
    "log_lines_dropped": Family(Kind.COUNTER, "Lines of the log that were lost because nobody read it."),
    "evaluation_events": Family(
        Kind.COUNTER,
        "Evaluation events for the OTLP endpoint; `dropped`: the queue was full, `failed`: not taken.",
        (closed("outcome", _EXPORTS),),
    ),
}
