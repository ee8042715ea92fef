"""Metrics of telemetry itself."""

from typing import Literal, TypeAlias

from monitor.telemetry.catalogue.families import Bound, Family, Kind, Label

Counter: TypeAlias = Literal[
    "label_overflow",
    "telemetry_errors",
]
Gauge: TypeAlias = Literal["build_info"]

FAMILIES: dict[Counter | Gauge, Family] = {
    "label_overflow": Family(
        Kind.COUNTER,
        "Label values replaced by `other`, by the label's set.",
        (Label("label", Bound.CONFIG),),
    ),
    "telemetry_errors": Family(Kind.COUNTER, "Observations lost to a fault of telemetry itself."),
    "build_info": Family(
        Kind.GAUGE,
        "1; the labels identify the build.",
        (Label("version", Bound.CONFIG), Label("python", Bound.CONFIG)),
    ),
}
