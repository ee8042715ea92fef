"""Description of a metric in the catalogue: type, labels with their bounds, help."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from monitor.findings import Severity

PREFIX = "riskmon_"
OTHER = "other"
"""The value of a guarded label once its set is full."""


class Kind(StrEnum):
    """Prometheus metric types in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Bound(StrEnum):
    """Bound on the number of a label's values."""

    CLOSED = "fixed in code"
    CONFIG = "set by the operator"
    GUARDED = "the first `telemetry.max_label_values`, then `other`"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its bound. `key` names its set in `telemetry.allow` and in `known` of `Metrics`."""

    name: str
    bound: Bound
    values: tuple[str, ...] = ()
    key: str = ""

    @property
    def domain(self) -> str:
        """Key of the label's value set: several labels of one name may have different sets."""
        return self.key or self.name


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its type, unit (empty: none), labels in order, help, and for histograms its bounds.

    `cap` is the number of label sets after which new ones have their guarded labels set to `other`, because
    a product of bounded labels is not small. Caps are for `telemetry.max_series` at its default.
    """

    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()
    cap: int = 200

    def exported(self, name: str) -> str:
        """Return the name as Prometheus stores it; a histogram's series carry further suffixes."""
        return f"{PREFIX}{name}_total" if self.kind is Kind.COUNTER else f"{PREFIX}{name}"


def closed(name: str, values: Iterable[str]) -> Label:
    """Make a label whose values are fixed in code."""
    return Label(name, Bound.CLOSED, tuple(values))


# Labels of several subjects.
TOPIC = Label("topic", Bound.CONFIG)
PARTITION = Label("partition", Bound.CONFIG)
DETECTOR = Label("detector", Bound.CONFIG)
RULE = Label("rule", Bound.CONFIG)
DESTINATION = Label("destination", Bound.CONFIG)
APP = Label("app", Bound.GUARDED)
MODEL = Label("model", Bound.GUARDED)
ENVIRONMENT = closed("environment", ("production", "staging", "internal", "sandbox", "unknown"))
SEVERITY = closed("severity", Severity)
