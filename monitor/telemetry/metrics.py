"""Storage of metric values between scrapes: bounded, typed by name, and cheap to update in bulk.

Values are kept here and handed to prometheus_client only when scraped, as families of a custom collector.
Its own metric classes were not used for three reasons: they take a lock per observation (the engine
aggregates whole batches), they cannot bound label values, and their `_created` series can be switched
off only for the whole process, a decision that a library must not make.
"""

import math
import platform
import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, product
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from monitor import __version__
from monitor.clock import Clock, SystemClock
from monitor.config import TelemetryConfig
from monitor.telemetry.catalogue import (
    FAMILIES,
    OTHER,
    PREFIX,
    Bound,
    CounterName,
    Family,
    GaugeName,
    HistogramName,
    Kind,
    Label,
    MetricName,
)

MAX_VALUE_CHARS: Final = 128
IDLE_SECONDS: Final = 7200.0
"""A name that nothing was counted under for so long gives its place to others, once they want it.

Longer than the window of the risk rates (`monitor.telemetry.rates`), which would bring the name back.
"""
_MAX_INITIAL_SETS: Final = 500
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")

LabelSet: TypeAlias = tuple[str, ...]
_Set = TypeVar("_Set", bound=LabelSet)


class _Histogram:
    """Counts per bucket (the last one is +Inf), the sum, and the latest exemplar of each bucket."""

    __slots__ = ("counts", "exemplars", "sum")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def copy(self) -> "_Histogram":
        twin = _Histogram(len(self.counts) - 1)
        twin.counts, twin.sum, twin.exemplars = self.counts.copy(), self.sum, self.exemplars.copy()
        return twin


class Metrics(Collector):
    """All metrics of one daemon, with its own registry. Thread-safe.

    `known` maps a label's set (`Label.domain`) to values that are always kept; families all of whose labels
    are known start at 0, so that the first event is an increase Prometheus can see. A name outside the
    catalogue or a wrong label raises KeyError or TypeError: a bug of the caller, not of the traffic.
    """

    def __init__(
        self,
        settings: TelemetryConfig | None = None,
        known: Mapping[str, Iterable[str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = settings or TelemetryConfig()
        self._clock = clock or SystemClock()
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._max_values = settings.max_label_values
        self._scale = settings.max_series / TelemetryConfig().max_series
        self._admitted: dict[str, set[str]] = {}
        self._values: dict[MetricName, dict[LabelSet, float]] = {}
        self._histograms: dict[MetricName, dict[LabelSet, _Histogram]] = {}
        self._exemplars: dict[tuple[MetricName, LabelSet], Exemplar] = {}
        self._crowded = False  # whether a value became `other` since the next two were taken
        self._counts: dict[tuple[MetricName, LabelSet], float] = {}
        self._counts_due = float("-inf")
        self._reported: set[MetricName] = set()  # counters of others, set whether they grow or not
        for name, family in FAMILIES.items():
            if family.kind is Kind.HISTOGRAM:
                self._histograms[name] = {}
            else:
                self._values[name] = {}
            for label in family.labels:
                always = {
                    *label.values,
                    *settings.allow.get(label.domain, ()),
                    *(known or {}).get(label.domain, ()),
                }
                self._admitted.setdefault(label.domain, set()).update(always)
        self._reserved = {domain: frozenset(values) for domain, values in self._admitted.items()}
        self._start_at_zero()
        self.set("build_info", 1.0, version=__version__, python=platform.python_version())
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def keep(self, names: Mapping[str, Iterable[str]]) -> None:
        """Keep more values apart from now on, by the label's set, however many others came before them."""
        with self._lock:
            for domain, values in names.items():
                if domain in self._admitted:
                    self._admitted[domain].update(values)
                    self._reserved[domain] = self._reserved[domain].union(values)

    def inc(self, name: CounterName, amount: float = 1.0, /, **labels: str) -> None:
        """Add to a counter."""
        self.add(name, {_ordered(name, labels): amount})

    def add(self, name: CounterName, amounts: Mapping[_Set, float]) -> None:
        """Add to many series of a counter; label values are in the catalogue's order."""
        with self._lock:
            series = self._values[name]
            for values, amount in amounts.items():
                key = values if values in series else self._admit(name, values, series)
                series[key] = series.get(key, 0.0) + amount

    def exemplar(self, name: CounterName, values: LabelSet, trace_id: str, now: float) -> None:
        """Attach a trace to a series of a counter; ignored unless `trace_id` is 32 lower-case hex digits."""
        if not _TRACE_ID.fullmatch(trace_id):
            return
        with self._lock:
            series = self._values[name]
            key = values if values in series else self._admit(name, values, series)
            if key in series:
                self._exemplars[name, key] = Exemplar({"trace_id": trace_id}, 1.0, now)

    def total(self, name: CounterName, value: float, /, **labels: str) -> None:
        """Export a counter kept elsewhere; a value below the last one means that its owner restarted."""
        self._reported.add(name)
        self._put(name, value, _ordered(name, labels))

    def set(self, name: GaugeName, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        self._put(name, value, _ordered(name, labels))

    def replace(self, name: GaugeName, values: Mapping[LabelSet, float]) -> None:
        """Set a gauge's series to exactly these, so that a partition given away does not linger."""
        with self._lock:
            series: dict[LabelSet, float] = {}
            for key, value in values.items():
                series[self._admit(name, key, series)] = value
            self._values[name] = series

    def observe(self, name: HistogramName, values: Sequence[float], labels: LabelSet = ()) -> None:
        """Add observations to one series of a histogram. Values that are not finite are left out."""
        total = sum(values)
        if not math.isfinite(total):
            values = [value for value in values if math.isfinite(value)]
            total = sum(values)
        buckets = np.bincount(np.searchsorted(FAMILIES[name].buckets, values))
        with self._lock:
            histogram = self._histogram(name, labels)
            histogram.sum += total
            for bucket, count in enumerate(buckets.tolist()):
                histogram.counts[bucket] += count

    def observe_exemplar(self, name: HistogramName, value: float, trace_id: str, now: float) -> None:
        """Attach a trace to the bucket of `value` (already observed); ignored unless the id is valid."""
        if not _TRACE_ID.fullmatch(trace_id):
            return
        with self._lock:
            bucket = bisect_left(FAMILIES[name].buckets, value)
            self._histogram(name, ()).exemplars[bucket] = Exemplar({"trace_id": trace_id}, value, now)

    def admitted(self, name: MetricName, values: LabelSet) -> LabelSet:
        """Return the labels under which a series is kept, its values beyond a bound replaced."""
        with self._lock:
            return self._admit(name, values, self._histograms.get(name) or self._values.get(name, {}))

    def value(self, name: CounterName | GaugeName, /, **labels: str) -> float:
        """Return the current value of one series. Raises KeyError when it does not exist."""
        with self._lock:
            return self._values[name][_ordered(name, labels)]

    def total_of(self, name: CounterName | GaugeName) -> float:
        """Return the sum over all series of a metric; 0 when there is none."""
        with self._lock:
            return math.fsum(self._values[name].values())

    def collect(self) -> Iterator[Metric]:
        """Yield every family, from a consistent copy. Called by prometheus_client for each scrape."""
        with self._lock:
            values = {name: series.copy() for name, series in self._values.items()}
            histograms = {
                name: {key: histogram.copy() for key, histogram in series.items()}
                for name, series in self._histograms.items()
            }
            exemplars = self._exemplars.copy()
        for name, series in values.items():
            family = FAMILIES[name]
            names = [label.name for label in family.labels]
            if family.kind is Kind.COUNTER:
                counter = CounterMetricFamily(PREFIX + name, family.help, labels=names)
                for key, value in series.items():
                    counter.add_metric(key, value, exemplar=exemplars.get((name, key)))
                yield counter
            else:
                gauge = GaugeMetricFamily(PREFIX + name, family.help, labels=names, unit=family.unit)
                for key, value in series.items():
                    gauge.add_metric(key, value)
                yield gauge
        for name, by_labels in histograms.items():
            yield _histogram_family(name, by_labels)

    def describe(self) -> Iterator[Metric]:
        """Return nothing: registration must not collect."""
        return iter(())

    def _put(self, name: CounterName | GaugeName, value: float, values: LabelSet) -> None:
        with self._lock:
            series = self._values[name]
            series[values if values in series else self._admit(name, values, series)] = value

    def _histogram(self, name: MetricName, values: LabelSet) -> _Histogram:
        series = self._histograms[name]
        histogram = series.get(values)
        if histogram is None:
            key = self._admit(name, values, series)
            histogram = series.setdefault(key, _Histogram(len(FAMILIES[name].buckets)))
        return histogram

    def _admit(self, name: MetricName, values: LabelSet, series: Mapping[LabelSet, object]) -> LabelSet:
        """Return the label set under which `values` may be kept: values beyond a bound become `other`."""
        labels = FAMILIES[name].labels
        if len(values) != len(labels):
            raise TypeError(f"{name}: needs the labels {[label.name for label in labels]}")
        if self._crowded:
            self._forget_idle()
        key = tuple(map(self._admit_value, labels, values))
        if key in series or len(series) < FAMILIES[name].cap * self._scale:
            return key
        full = [
            label.bound is Bound.GUARDED and value not in self._reserved[label.domain]
            for label, value in zip(labels, key, strict=True)
        ]
        for label, collapse, value in zip(labels, full, key, strict=True):
            if collapse and value != OTHER:
                self._overflow(label)
        return tuple(OTHER if collapse else value for collapse, value in zip(full, key, strict=True))

    def _admit_value(self, label: Label, value: str) -> str:
        value = str(value) or "unknown"
        admitted = self._admitted[label.domain]
        if value in admitted or value == OTHER:
            return value
        clean = len(value) <= MAX_VALUE_CHARS and value.isprintable()
        room = label.bound is not Bound.CLOSED and (
            label.bound is Bound.CONFIG
            or len(admitted) < self._max_values + len(self._reserved[label.domain])
        )
        if clean and room:
            if label.bound is Bound.GUARDED:
                admitted.add(value)
            return value
        self._overflow(label)
        return OTHER

    def _overflow(self, label: Label) -> None:
        counter = self._values["label_overflow"]
        counter[(label.domain,)] = counter.get((label.domain,), 0.0) + 1.0
        self._crowded = True

    def _forget_idle(self) -> None:
        """Drop the names, with their series, that nothing was counted under for `IDLE_SECONDS` or longer."""
        now = self._clock.monotonic()
        if now < self._counts_due:
            return
        self._crowded, self._counts_due = False, now + IDLE_SECONDS
        before = self._counts
        self._counts = {
            (name, key): value
            for name, series in self._values.items()
            if FAMILIES[name].kind is Kind.COUNTER
            for key, value in series.items()
        }
        idle, busy = set[tuple[str, str]](), set[tuple[str, str]]()
        for (name, key), value in self._counts.items():
            is_idle = name not in self._reported and before.get((name, key)) == value
            (idle if is_idle else busy).update(_named(name, key))
        gone = {
            (domain, label)
            for domain, label in idle - busy
            if label in self._admitted[domain] and label not in self._reserved[domain]
        }
        for domain, label in gone:
            self._admitted[domain].remove(label)
        stores: list[tuple[MetricName, dict[LabelSet, Any]]]
        stores = [*self._values.items(), *self._histograms.items()]
        for name, series in stores:
            for key in [key for key in series if not gone.isdisjoint(_named(name, key))]:
                del series[key]
                self._exemplars.pop((name, key), None)

    def _start_at_zero(self) -> None:
        """Create the foreseeable series; where only the reason is not, create it as `other`."""
        for name, family in FAMILIES.items():
            guarded = sum(label.bound is Bound.GUARDED for label in family.labels)
            domains = [
                sorted(self._reserved[label.domain])
                + [OTHER] * (label.bound is Bound.GUARDED and guarded == 1)
                for label in family.labels
            ]
            if family.kind is Kind.GAUGE or math.prod(map(len, domains)) > _MAX_INITIAL_SETS:
                continue
            for values in product(*domains):
                if family.kind is Kind.HISTOGRAM:
                    self._histogram(name, values)
                else:
                    self._values[name][values] = 0.0


def _named(name: MetricName, values: LabelSet) -> Iterator[tuple[str, str]]:
    """Yield the labels of a series with the sets that their values are of."""
    return zip((label.domain for label in FAMILIES[name].labels), values, strict=True)


def _ordered(name: MetricName, labels: Mapping[str, str]) -> LabelSet:
    names = FAMILIES[name].labels
    if len(labels) != len(names):
        raise TypeError(f"{name}: needs the labels {[label.name for label in names]}, not {sorted(labels)}")
    return tuple(str(labels[label.name]) for label in names)


def _histogram_family(name: MetricName, series: Mapping[LabelSet, _Histogram]) -> Metric:
    family: Family = FAMILIES[name]
    metric = HistogramMetricFamily(
        PREFIX + name, family.help, labels=[label.name for label in family.labels], unit=family.unit
    )
    bounds = [*map(_bound_text, family.buckets), "+Inf"]
    for key, histogram in series.items():
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
            (bound, count, histogram.exemplars[index]) if index in histogram.exemplars else (bound, count)
            for index, (bound, count) in enumerate(zip(bounds, accumulate(histogram.counts), strict=True))
        ]
        metric.add_metric(key, buckets, histogram.sum)
    return metric


def _bound_text(bound: float) -> str:
    return repr(float(bound))
