"""Base of the parts of the observer: their metrics, clock and log, and the promise never to raise."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from monitor.clock import Clock
from monitor.telemetry.catalogue import CounterName
from monitor.telemetry.metrics import Metrics
from monitor.telemetry.ports import Log

_P = ParamSpec("_P")
_R = TypeVar("_R", bound="Reporter")


class Reporter:
    """Turns reports into metrics and log lines. Thread-safe, as `Metrics` is."""

    def __init__(self, metrics: Metrics, clock: Clock, log: Log) -> None:
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._faulty: set[str] = set()
        self._totals: dict[tuple[CounterName, str], tuple[str, int]] = {}
        metrics.set("start_timestamp_seconds", clock.now())
        metrics.set("last_recorded_timestamp_seconds", 0.0)

    def _by_label(self, name: CounterName, totals: Mapping[str, int]) -> Mapping[str, int]:
        """Return totals by one guarded label, those of values beyond its bound added up.

        `totals` has a bounded number of values. One beyond the bound overflows when its total has grown, not
        whenever it is reported.
        """
        by_label: Counter[str] = Counter()
        for value, total in totals.items():
            label, before = self._totals.get((name, value), ("", -1))
            if total != before:
                (label,) = self._metrics.admitted(name, (value,))
                self._totals[name, value] = label, total
            by_label[label] += total
        return by_label

    def faulted(self, where: str, error: Exception) -> None:
        """Count an observation that was lost, and log each place and kind once."""
        self._metrics.inc("telemetry_errors")
        kind = type(error).__name__
        if f"{where} {kind}" not in self._faulty:
            self._faulty.add(f"{where} {kind}")
            self._log.error("telemetry_fault", where=where, error=kind)


def best_effort(method: Callable[Concatenate[_R, _P], None]) -> Callable[Concatenate[_R, _P], None]:
    """Count a fault of telemetry and log its kind: judging must not stop because observing did."""

    @wraps(method)
    def guarded(self: _R, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the Observer contract: calls never raise
            self.faulted(method.__name__, error)

    return guarded
