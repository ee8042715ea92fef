"""Variables that expressions may read of a judged trace: a declared schema, and the values behind it.

No text of a trace is among them, so no rule can put any into an alert.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

from monitor.agents import runs
from monitor.agents.runs import Run
from monitor.findings import EVIDENCE_DROPPED, MAX_EVIDENCE, Assessment, Evidence, Status
from monitor.trace import TRAFFIC, Trace

TRACE, RUN = "trace", "run"

Read: TypeAlias = tuple[str, ...]
"""A field an expression reads: (variable, field), or (variable, "values", key) for one signal."""


class Reads(NamedTuple):
    """The inputs that an expression reads, as precisely as it distinguishes them.

    `exact` fields matter with their value. `compared` ones are numbers that are only compared with these
    thresholds (none: only tested with `has`). Of evidence entries only the fields `entry` are looked at.
    """

    exact: frozenset[Read]
    compared: Mapping[Read, frozenset[float]]
    entry: frozenset[str]

    def variables(self) -> frozenset[str]:
        """Return the names of the variables that are read."""
        return frozenset(read[0] for read in (*self.exact, *self.compared))


def merged(several: Iterable[Reads]) -> Reads:
    """Return what any of several expressions can tell apart."""
    exact: set[Read] = set()
    compared: dict[Read, frozenset[float]] = {}
    entry: set[str] = set()
    for reads in several:
        exact |= reads.exact
        entry |= reads.entry
        for read, thresholds in reads.compared.items():
            compared[read] = compared.get(read, frozenset()) | thresholds
    rest = {read: thresholds for read, thresholds in compared.items() if read not in exact}
    return Reads(frozenset(exact), rest, frozenset(entry))


class Type(NamedTuple):
    """Type of an expression: bool, int, double, string, status, map, list of `element`, object `element`."""

    name: str
    element: str = ""

    def __str__(self) -> str:
        return f"{self.name} of {self.element}" if self.name == "list" else self.element or self.name


BOOL, INT, DOUBLE, STRING, STATUS = map(Type, ("bool", "int", "double", "string", "status"))
SIGNALS = Type("map")
EVIDENCE_LIST, STRING_LIST = Type("list", "evidence"), Type("list", "string")


class Field(NamedTuple):
    """A field of a variable: its type and where its value comes from. None means that it is absent."""

    type: Type
    get: Callable[[Any], Any]


def number(value: float) -> float:
    """Return a float that is never -0.0, which equals 0.0 as a key but not as a divisor."""
    return float(value) + 0.0


def shown(assessment: Assessment) -> Sequence[Evidence]:
    """Return up to MAX_EVIDENCE entries: one per kind and direction, then leaks, then the highest scores."""
    if len(assessment.evidence) <= MAX_EVIDENCE:
        return assessment.evidence
    firsts = {id(e) for e in {(e.kind, e.leaked): e for e in reversed(assessment.evidence)}.values()}
    ranked = sorted(assessment.evidence, key=lambda e: (id(e) not in firsts, not e.leaked, -e.score))
    return ranked[:MAX_EVIDENCE]


def signals(assessment: Assessment) -> dict[str, float]:
    """Return the numeric signals of an assessment, and the number of evidence entries left out."""
    numbers = {key: number(value) for key, value in assessment.values.items()}
    dropped = len(assessment.evidence) - MAX_EVIDENCE
    return {**numbers, EVIDENCE_DROPPED: float(dropped)} if dropped > 0 else numbers


def _plain(type_: Type, name: str) -> Field:
    return Field(type_, attrgetter(name))


DETECTOR_FIELDS: dict[str, Field] = {
    "status": Field(STATUS, lambda a: a.status.value),
    "scored": Field(BOOL, lambda a: a.status is Status.SCORED),
    "score": Field(DOUBLE, lambda a: number(a.score or 0.0)),
    "calibrated": _plain(BOOL, "calibrated"),
    "reason": _plain(STRING, "reason"),
    "tier": _plain(INT, "tier"),
    "probability": Field(DOUBLE, lambda a: number(a.probability)),
    "evidence": Field(EVIDENCE_LIST, lambda a: list(shown(a))),
    "leaked": Field(EVIDENCE_LIST, lambda a: [e for e in shown(a) if e.leaked]),
    "kinds": Field(STRING_LIST, lambda a: list(dict.fromkeys(e.kind for e in a.evidence))[:MAX_EVIDENCE]),
    "values": Field(SIGNALS, signals),
}

TRACE_FIELDS: dict[str, Field] = {
    **{name: _plain(STRING, name) for name in (*TRAFFIC, "finish_reason", "error")},
    "blind": Field(BOOL, lambda t: bool(t.blind())),
    "latency": Field(DOUBLE, lambda t: None if t.latency is None else number(t.latency)),
    "input_tokens": Field(INT, lambda t: t.usage and t.usage.input_tokens),
    "output_tokens": Field(INT, lambda t: t.usage and t.usage.output_tokens),
    "messages": Field(INT, lambda t: len(t.messages)),
    "context": Field(INT, lambda t: len(t.context)),
    "tool_calls": Field(INT, lambda t: len(t.tool_calls)),
}

RUN_FIELDS: dict[str, Field] = {
    "agent": _plain(STRING, "agent"),
    **{
        name: _plain(INT, name)
        for name in (
            "steps",
            "tool_calls",
            "tools",
            "tool_errors",
            "chats",
            "retrievals",
            "handoffs",
            "agents",
            "depth",
            "tokens",
        )
    },
    "cost": Field(DOUBLE, lambda r: None if r.cost is None else number(r.cost)),
    "seconds": Field(DOUBLE, lambda r: number(r.seconds)),
}

SUBJECTS: Mapping[str, Mapping[str, Field]] = {TRACE: TRACE_FIELDS, RUN: RUN_FIELDS}
"""Variables besides the detectors, with their fields."""


def subjects(trace: Trace) -> dict[str, Trace | Run]:
    """Return the objects behind `SUBJECTS`."""
    return {TRACE: trace, RUN: runs.facts(trace)}


_EVIDENCE = {"field": STRING, "start": INT, "end": INT, "kind": STRING, "score": DOUBLE, "leaked": BOOL}

FIELDS: Mapping[str, Mapping[str, Type]] = {
    "detector": {name: field.type for name, field in DETECTOR_FIELDS.items()},
    **{subject: {name: field.type for name, field in fields.items()} for subject, fields in SUBJECTS.items()},
    "evidence": _EVIDENCE,
}
"""Fields of each object type. `latency`, tokens and `cost` are absent when unknown: guard with `has()`.

Without steps a run has zero of everything, and `agent` is empty unless the trace names one.
"""


def variables(detectors: Sequence[str]) -> dict[str, Type]:
    """Return the variables of an expression: one for each detector, `trace` and `run`."""
    named = {name: Type("object", "detector") for name in detectors}
    return named | {subject: Type("object", subject) for subject in SUBJECTS}
