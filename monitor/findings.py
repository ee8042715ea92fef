"""Results of the stages: assessments by detectors, and flags by rules."""

from enum import StrEnum
from typing import Final

import msgspec

from monitor.trace import Origin, SafeText, Trace

PII: Final = "pii"
DRIFT: Final = "drift"
"""Names of detectors whose answers redaction and metrics use too, not only rules."""

NO_TEXT: Final = "no_text"
"""Reason of a detector that skips a trace: the texts that it reads are empty or were not read."""

MAX_EVIDENCE: Final = 256
"""Entries of one assessment that a rule sees; the evaluator needs about 10 µs for each."""
EVIDENCE_DROPPED: Final = "evidence_dropped"
"""Key in `Assessment.values`: the number of pieces of evidence dropped beyond the limit."""


class Status(StrEnum):
    """Outcome of one detector for one trace; every trace gets exactly one."""

    SCORED = "scored"
    SKIPPED = "skipped"
    TIMEOUT = "timeout"
    ERROR = "error"


class Severity(StrEnum):
    """Severity of a flag, lowest first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Action(StrEnum):
    """Action that a rule requests for a flag."""

    AUDIT = "audit"
    ALERT = "alert"
    REVIEW = "review"
    FEEDBACK = "feedback"


ALERT_LABELS: Final = ("alertname", "severity", "app", "environment", "model", "detector")
"""Labels of an alert that riskmon sets; a rule sets its severity and none of the others."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """A span of the trace that caused the score, by offset; the text itself stays in the trace.

    `field` is a path such as `response`, `messages.0`, `context.2`, `tool_calls.0.result`, `steps.4.input`;
    `steps.4` alone names a step and holds no text. `start` and `end` are character offsets into it; `kind` is
    an enum-like name (entity type, label, signal), never text; `score` is in [0, 1]; `leaked` marks personal
    data that neither prompt nor context held.
    """

    field: str
    start: int
    end: int
    kind: str
    score: float
    leaked: bool = False


class Assessment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One detector's answer for one trace.

    `version` identifies code and weights (`1+<12 hex of SHA-256>`). `score` is in [0, 1], higher is riskier,
    None unless `status` is scored; it is a probability only where `calibrated`. `tier` is the highest tier
    that ran, `probability` how likely that tier was to run on this trace. `reason` names why a trace was
    skipped or failed, from a bounded set. `values` are further numeric signals for rules. `vector` is a
    little-endian float32 feature vector (drift only); it never leaves the engine. `seconds` is wall time.
    """

    detector: str
    version: str
    status: Status
    score: float | None = None
    calibrated: bool = False
    evidence: tuple[Evidence, ...] = ()
    tier: int = 0
    probability: float = 1.0
    reason: str = ""
    values: dict[str, float] = {}
    vector: bytes = b""
    seconds: float = 0.0


def skipped(detector: str, version: str, reason: str = NO_TEXT) -> Assessment:
    """Return the assessment of a trace that a detector had nothing to judge of."""
    return Assessment(detector=detector, version=version, status=Status.SKIPPED, reason=reason)


class Flag(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rule that fired on a trace. `id` is deterministic in (origin, rule), so a repeat adds none."""

    id: str
    rule: str
    rule_version: str
    severity: Severity
    actions: tuple[Action, ...]
    detectors: tuple[str, ...]
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    controls: tuple[str, ...] = ()


class Redaction(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The texts of a flagged trace as they are kept: its last prompt, its response, excerpts by detector."""

    prompt: SafeText
    response: SafeText
    excerpts: dict[str, tuple[SafeText, ...]]


class Judgement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A judged trace: one assessment per enabled detector, the flags the rules raised, and their texts.

    Only a flagged trace has a `redaction`.
    """

    origin: Origin
    trace: Trace
    assessments: tuple[Assessment, ...]
    flags: tuple[Flag, ...]
    redaction: Redaction | None = None


class TierStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Availability of a detector's tier here; `riskmon check` prints it and a metric exports it.

    `version` identifies its weights; `cost` is one line: the loss without the tier, and how to install it.
    """

    detector: str
    tier: int
    name: str
    present: bool
    version: str = ""
    cost: str = ""
