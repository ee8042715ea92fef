"""Every metric riskmon exports, in one table; a module per subject.

Call sites write these names (`metrics.inc("records_consumed", …)`), so mypy rejects a misspelt one;
`Family.exported` is the name in Prometheus. Conventions: https://prometheus.io/docs/practices/naming/
(prefix, base units, `_total` for counters, `_ratio` in [0, 1], `_info`, `_timestamp_seconds`).
"""

from itertools import chain
from typing import Literal, TypeAlias

from monitor.telemetry.catalogue import delivery, detectors, engine, exporter, ledger, rules, sources
from monitor.telemetry.catalogue.families import OTHER, PREFIX, Bound, Family, Kind, Label

__all__ = [
    "FAMILIES",
    "OTHER",
    "PREFIX",
    "Bound",
    "CounterName",
    "Family",
    "GaugeName",
    "HistogramName",
    "Kind",
    "Label",
    "MetricName",
]

CounterName: TypeAlias = Literal[
    engine.Counter, detectors.Counter, rules.Counter, sources.Counter, delivery.Counter, exporter.Counter
]
GaugeName: TypeAlias = Literal[
    engine.Gauge, detectors.Gauge, rules.Gauge, sources.Gauge, ledger.Gauge, delivery.Gauge, exporter.Gauge
]
HistogramName: TypeAlias = Literal[engine.Histogram, detectors.Histogram, ledger.Histogram]
MetricName: TypeAlias = CounterName | GaugeName | HistogramName

FAMILIES: dict[MetricName, Family] = dict(
    chain[tuple[MetricName, Family]](
        engine.FAMILIES.items(),
        detectors.FAMILIES.items(),
        rules.FAMILIES.items(),
        sources.FAMILIES.items(),
        ledger.FAMILIES.items(),
        delivery.FAMILIES.items(),
        exporter.FAMILIES.items(),
    )
)
