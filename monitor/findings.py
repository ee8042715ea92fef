"""What the stages find: assessments by detectors, flags by rules, and what the ledger keeps of them."""

from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from monitor.trace import Origin, SafeText, Trace


class Status(StrEnum):
    """How a detector left a trace. There is no fifth way: silence does not exist."""

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
    """What a rule wants done with a flag."""

    AUDIT = "audit"
    ALERT = "alert"
    REVIEW = "review"
    FEEDBACK = "feedback"


ALERT_LABELS: Final = ("alertname", "severity", "app", "environment", "model", "detector")
"""Labels of an alert that riskmon sets; a rule sets its severity and none of the others."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """A span of the trace that made the score, by offset; the text itself stays in the trace.

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
    that looked, `probability` how likely that tier was to look at this trace. `reason` names why a trace was
    skipped or failed, from a bounded set. `values` are further numeric signals rules may use. `vector` is a
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


class Judgement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A judged trace: one assessment per enabled detector, and the flags the rules raised."""

    origin: Origin
    trace: Trace
    assessments: tuple[Assessment, ...]
    flags: tuple[Flag, ...]


class Span(msgspec.Struct, frozen=True, gc=False):
    """A half-open range of offsets [start, end)."""

    start: int
    end: int


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction finished of one partition; the evidence that nothing was skipped.

    `ranges` are the offsets finished, holes left by compaction and transaction markers included;
    `records` how many records they held; `dead` how many of those were dead-lettered; `traces` how many
    traces; `statuses` counts "detector.status"; `flags` how many flags.
    """

    topic: str
    partition: int
    ranges: tuple[Span, ...]
    records: int
    dead: int
    traces: int
    statuses: dict[str, int]
    flags: int


class FlagRow(msgspec.Struct, frozen=True, kw_only=True):
    """A flag as the ledger keeps it: identifiers, numbers, and excerpts only as `SafeText`."""

    flag: Flag
    origin: Origin
    trace_id: str
    time: float
    app: str
    environment: str
    model: str
    assessments: tuple[Assessment, ...]
    prompt: SafeText
    response: SafeText
    evidence: tuple[SafeText, ...]


class FlagFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which flags on record are wanted; what is left out is no condition.

    `equal` maps one of `FLAG_FIELDS` to the values it may have. `detector` must be among those whose
    assessment the flag rests on. `since` and `until` bound the time of recording, Unix seconds, both
    included. `before` is time and id of a flag: only what was recorded earlier, or then with a lesser id.
    """

    equal: dict[str, tuple[str, ...]] = {}
    detector: str = ""
    since: float | None = None
    until: float | None = None
    before: tuple[float, str] | None = None


FLAG_FIELDS: Final = ("app", "rule", "environment", "model", "severity", "trace_id")


class FlagPage(NamedTuple):
    """Flags on record, the newest first, and whether there are more behind the last one."""

    flags: tuple[FlagRow, ...]
    more: bool


class FeedbackItem(msgspec.Struct, frozen=True, kw_only=True):
    """A flagged sample offered for retraining. `id` is the flag id; all text is redacted."""

    id: str
    body: dict[str, Any]


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One message for the outside. `key` is its idempotency key, unique per destination."""

    destination: str
    key: str
    body: dict[str, Any]


class Leased(NamedTuple):
    """A row of the outbox, held by this daemon for a while.

    `key` is the idempotency key, unique per destination; `attempts` how many tries have failed so far;
    `created` Unix seconds of when it was written.
    """

    id: int
    destination: str
    key: str
    body: dict[str, Any]
    attempts: int
    created: float


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be judged, with its original bytes; the ledger encrypts all three of them."""

    topic: str
    partition: int
    offset: int
    time: float
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    incarnation: int = 0


class TierStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a tier of a detector can run here; `riskmon check` prints it and a metric exports it.

    `version` identifies its weights; `cost` says in one line what is missed without it and how to get it.
    """

    detector: str
    tier: int
    name: str
    present: bool
    version: str = ""
    cost: str = ""
