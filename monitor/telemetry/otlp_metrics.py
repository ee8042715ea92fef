"""Export the scraped metrics by OTLP too, for collectors that do not scrape.

A thread of its own reads the registry and exports; a collector that is down or hangs costs only one period's
values. Names stay those of the scrape without `_total`, which OTLP's own receivers for
Prometheus add again (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/).
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample

from monitor import __version__
from monitor.clock import Clock, Deadline

_EXPORT_SECONDS: Final = 5.0
_NANOS: Final = 1_000_000_000
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


class MetricsPusher:
    """Exports a registry every `seconds`; `push` is one turn, so that a test needs no thread."""

    def __init__(
        self,
        exporter: MetricExporter,
        registry: CollectorRegistry,
        clock: Clock,
        seconds: float,
        instance: str,
    ) -> None:
        self._exporter = exporter
        self._registry = registry
        self._clock = clock
        self._seconds = seconds
        self._started = int(clock.now() * _NANOS)
        self._resource = Resource(
            {"service.name": "riskmon", "service.version": __version__, "service.instance.id": instance}
        )
        self._ended = threading.Event()
        # A daemon thread: a collector that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name="riskmon-otlp-metrics", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Send once more and end, within the deadline. Idempotent, and safe before `start`."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(deadline.remaining())

    def push(self) -> bool:
        """Export once; return whether the collector took it. The SDK logs a refusal."""
        now = int(self._clock.now() * _NANOS)
        metrics = [*_metrics(self._registry.collect(), self._started, now)]
        scope = ScopeMetrics(InstrumentationScope("riskmon", __version__), metrics, "")
        data = MetricsData([ResourceMetrics(self._resource, [scope], "")])
        return self._exporter.export(data, _EXPORT_SECONDS * 1000) is MetricExportResult.SUCCESS

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.push()
        self.push()
        self._exporter.shutdown(timeout_millis=1000)


def connect(
    endpoint: str, registry: CollectorRegistry, clock: Clock, seconds: float, instance: str
) -> MetricsPusher:
    """Return a pusher by OTLP/HTTP to base URL `endpoint`; nothing needs to listen there yet."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(endpoint=f"{endpoint.rstrip('/')}/v1/metrics", timeout=_EXPORT_SECONDS)
    return MetricsPusher(exporter, registry, clock, seconds, instance)


def _metrics(families: Iterable[Family], start: int, now: int) -> Iterator[Metric]:
    for family in families:
        data: Sum | Gauge | Histogram
        if family.type == "histogram":
            data = Histogram([*_distributions(family.samples, start, now)], _CUMULATIVE)
        else:
            points = [
                NumberDataPoint(sample.labels, start, now, sample.value)
                for sample in family.samples
                if not sample.name.endswith("_created")
            ]
            monotonic = family.type == "counter"
            data = Sum(points, _CUMULATIVE, is_monotonic=True) if monotonic else Gauge(points)
        if data.data_points:
            yield Metric(family.name, family.documentation, None, data)


def _distributions(samples: Iterable[Sample], start: int, now: int) -> Iterator[HistogramDataPoint]:
    """Return one point per label set; Prometheus' buckets are cumulative, OTLP's are not."""
    buckets: defaultdict[frozenset[tuple[str, str]], dict[str, float]] = defaultdict(dict)
    sums: dict[frozenset[tuple[str, str]], float] = {}
    for sample in samples:
        key = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets[key][sample.labels["le"]] = sample.value
        elif sample.name.endswith("_sum"):
            sums[key] = sample.value
    for key, counted in buckets.items():
        upto = [int(count) for count in counted.values()]
        yield HistogramDataPoint(
            attributes=dict(key),
            start_time_unix_nano=start,
            time_unix_nano=now,
            count=upto[-1],
            sum=sums[key],
            bucket_counts=[b - a for a, b in zip([0, *upto], upto, strict=False)],
            explicit_bounds=[float(bound) for bound in counted if bound != "+Inf"],
            min=None,  # type: ignore[arg-type] # optional in OTLP, and Prometheus keeps none
            max=None,  # type: ignore[arg-type] # see min
        )
