"""Metrics of outgoing messages."""

from typing import Literal, TypeAlias

from monitor.telemetry.catalogue.families import DESTINATION, Bound, Family, Kind, Label, closed

Counter: TypeAlias = Literal[
    "deliveries",
    "delivery_failures",
    "evaluation_events",
]
Gauge: TypeAlias = Literal[
    "outbox_pending",
    "outbox_oldest_seconds",
]

_EXPORTS = ("exported", "failed", "dropped")
_OUTCOMES = ("delivered", "failed", "rejected")

FAMILIES: dict[Counter | Gauge, Family] = {
    "outbox_pending": Family(Kind.GAUGE, "Messages waiting for a destination.", (DESTINATION,)),
    "outbox_oldest_seconds": Family(
        Kind.GAUGE, "Age of the oldest message waiting for a destination.", (DESTINATION,), "seconds"
    ),
    "deliveries": Family(
        Kind.COUNTER,
        "Messages offered to a destination, by outcome; `failed` ones are tried again.",
        (DESTINATION, closed("outcome", _OUTCOMES)),
    ),
    "delivery_failures": Family(
        Kind.COUNTER,
        "Messages that failed or were rejected, by reason.",
        (DESTINATION, Label("reason", Bound.GUARDED, key="delivery_reason")),
    ),
    "evaluation_events": Family(
        Kind.COUNTER,
        "Evaluation events for the OTLP endpoint; `dropped`: the queue was full, `failed`: not taken.",
        (closed("outcome", _EXPORTS),),
    ),
}
