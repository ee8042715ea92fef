"""What an expression may see of a judged trace: a declared schema, and the values behind it.

No text of a trace is among them, so no rule can put any into an alert. A rule group sees only the fields its
expressions read (`Projection`), which makes its outcome a pure function of a small key.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

from monitor.findings import Assessment, Evidence, Status
from monitor.trace import Trace

MAX_EVIDENCE = 256  # entries of one assessment a rule sees; the evaluator needs about 10 µs for each
TRACE = "trace"
DROPPED = "evidence_dropped"

Read: TypeAlias = tuple[str, ...]
"""A field an expression reads: (variable, field), or (variable, "values", key) for one signal."""


class Type(NamedTuple):
    """Type of an expression: bool, int, double, string, status, map, list of `element`, object `element`."""

    name: str
    element: str = ""

    def __str__(self) -> str:
        return f"{self.name} of {self.element}" if self.name == "list" else self.element or self.name


BOOL, INT, DOUBLE, STRING, STATUS = map(Type, ("bool", "int", "double", "string", "status"))
SIGNALS = Type("map")
EVIDENCE_LIST, STRING_LIST = Type("list", "evidence"), Type("list", "string")


class _Field(NamedTuple):
    """A field of a variable: its type, the attributes it is a function of, and that function."""

    type: Type
    attributes: tuple[str, ...]
    get: Callable[[Any], Any]


def _number(value: float) -> float:
    # Adding zero turns -0.0 into 0.0, which compare equal as keys but not as divisors.
    return float(value) + 0.0


def _score(assessment: Assessment) -> float:
    scored = assessment.status is Status.SCORED and assessment.score is not None
    return _number(assessment.score) if scored and assessment.score is not None else 0.0


def _shown(assessment: Assessment) -> Sequence[Evidence]:
    """Up to MAX_EVIDENCE entries: one per kind and direction first, then leaks, then the highest scores."""
    if len(assessment.evidence) <= MAX_EVIDENCE:
        return assessment.evidence
    firsts = {id(e) for e in {(e.kind, e.leaked): e for e in reversed(assessment.evidence)}.values()}
    ranked = sorted(assessment.evidence, key=lambda e: (id(e) not in firsts, not e.leaked, -e.score))
    return ranked[:MAX_EVIDENCE]


def _entry(evidence: Evidence) -> dict[str, Any]:
    return {
        "field": evidence.field,
        "start": evidence.start,
        "end": evidence.end,
        "kind": evidence.kind,
        "score": _number(evidence.score),
        "leaked": evidence.leaked,
    }


def _signals(assessment: Assessment) -> dict[str, float]:
    signals = {key: _number(value) for key, value in assessment.values.items()}
    dropped = len(assessment.evidence) - MAX_EVIDENCE
    return {**signals, DROPPED: float(dropped)} if dropped > 0 else signals


def _plain(type_: Type, name: str) -> _Field:
    return _Field(type_, (name,), attrgetter(name))


_DETECTOR: dict[str, _Field] = {
    "status": _Field(STATUS, ("status",), lambda a: a.status.value),
    "scored": _Field(BOOL, ("status",), lambda a: a.status is Status.SCORED),
    "score": _Field(DOUBLE, ("status", "score"), _score),
    "calibrated": _plain(BOOL, "calibrated"),
    "reason": _plain(STRING, "reason"),
    "tier": _plain(INT, "tier"),
    "probability": _Field(DOUBLE, ("probability",), lambda a: _number(a.probability)),
    "evidence": _Field(EVIDENCE_LIST, ("evidence",), lambda a: [_entry(e) for e in _shown(a)]),
    "leaked": _Field(EVIDENCE_LIST, ("evidence",), lambda a: [_entry(e) for e in _shown(a) if e.leaked]),
    "kinds": _Field(
        STRING_LIST, ("evidence",), lambda a: list(dict.fromkeys(e.kind for e in a.evidence))[:MAX_EVIDENCE]
    ),
    "values": _Field(SIGNALS, ("evidence",), _signals),
}

_TRACE: dict[str, _Field] = {
    **{
        name: _plain(STRING, name)
        for name in (
            "app",
            "environment",
            "provider",
            "model",
            "model_version",
            "prompt_name",
            "prompt_version",
            "finish_reason",
        )
    },
    "latency": _Field(DOUBLE, (), lambda t: None if t.latency is None else _number(t.latency)),
    "input_tokens": _Field(INT, (), lambda t: t.usage and t.usage.input_tokens),
    "output_tokens": _Field(INT, (), lambda t: t.usage and t.usage.output_tokens),
    "messages": _Field(INT, (), lambda t: len(t.messages)),
    "context": _Field(INT, (), lambda t: len(t.context)),
    "tool_calls": _Field(INT, (), lambda t: len(t.tool_calls)),
}

_EVIDENCE = {"field": STRING, "start": INT, "end": INT, "kind": STRING, "score": DOUBLE, "leaked": BOOL}

FIELDS: Mapping[str, Mapping[str, Type]] = {
    "detector": {name: field.type for name, field in _DETECTOR.items()},
    "trace": {name: field.type for name, field in _TRACE.items()},
    "evidence": _EVIDENCE,
}
"""Fields of each object type. `latency` and the token counts are absent when unknown: guard with `has()`."""


def variables(detectors: Sequence[str]) -> dict[str, Type]:
    """Return the variables of an expression: one for each detector, and `trace`."""
    return {**{name: Type("object", "detector") for name in detectors}, TRACE: Type("object", TRACE)}


class Projection:
    """The part of a judged trace that a set of reads can see, as a memo key and as values."""

    def __init__(self, reads: frozenset[Read]) -> None:
        self._trace = [(read[1], _TRACE[read[1]].get) for read in sorted(reads) if read[0] == TRACE]
        self._detectors = [
            _DetectorView(name, frozenset(read[1:] for read in reads if read[0] == name))
            for name in sorted({read[0] for read in reads} - {TRACE})
        ]

    def key(self, trace: Trace, given: Mapping[str, Assessment]) -> Hashable:
        """Return a key that is equal only for traces whose `values` are equal."""
        parts = [view.key(given.get(view.name, view.missing)) for view in self._detectors]
        if self._trace:
            parts += [get(trace) for _, get in self._trace]
        return tuple(parts) if len(parts) != 1 else parts[0]

    def values(self, trace: Trace, given: Mapping[str, Assessment]) -> dict[str, dict[str, Any]]:
        """Return the variables, each with only the fields that are read."""
        values = {view.name: view.values(given.get(view.name, view.missing)) for view in self._detectors}
        if self._trace:
            fields = {name: get(trace) for name, get in self._trace}
            values[TRACE] = {name: value for name, value in fields.items() if value is not None}
        return values


class _DetectorView:
    """The part of one assessment that is read. A detector that did not run is skipped as `disabled`."""

    def __init__(self, name: str, reads: frozenset[Read]) -> None:
        self.name = name
        self.missing = Assessment(detector=name, version="", status=Status.SKIPPED, reason="disabled")
        self._fields = {read[0]: _DETECTOR[read[0]].get for read in sorted(reads) if len(read) == 1}
        self._signals = tuple(read[1] for read in sorted(reads) if len(read) > 1)
        self._whole = "values" in self._fields
        attributes = {a for field in self._fields for a in _DETECTOR[field].attributes}
        if DROPPED in self._signals:
            attributes.add("evidence")
        self._attributes: Callable[[Assessment], Hashable] | None = (
            attrgetter(*sorted(attributes)) if attributes else None
        )

    def key(self, assessment: Assessment) -> Hashable:
        key = self._attributes(assessment) if self._attributes else None
        if self._whole:
            return key, *assessment.values.items()
        if self._signals:
            get = assessment.values.get
            return key, *[get(signal) for signal in self._signals]
        return key

    def values(self, assessment: Assessment) -> dict[str, Any]:
        values = {name: get(assessment) for name, get in self._fields.items()}
        if self._signals and not self._whole:
            signals = _signals(assessment)
            values["values"] = {key: signals[key] for key in self._signals if key in signals}
        return values
