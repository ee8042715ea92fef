"""Dialects of spans and log records: who wrote a span, and what it says.

A dialect is a module with `MARKS`, attributes of which any one shows it, and `read(span, document_keys)`,
which returns a partial `Reading`, or None where the marks mislead. It may have `EVENTS`, names of span events
that it reads (they mark it too), and `LOGS`, names of log records for its `read_log(log, document_keys)`.
`NAME` is its emitter's, and `CONTENT_ON` says how to switch on that texts are sent. A span may be of several
dialects: their readings are merged, the first of `DIALECTS` first.
"""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final

from monitor.ingest import redaction
from monitor.ingest.dialects import (
    adk,
    claude_code,
    cloudflare,
    emitters,
    genai,
    genkit,
    langfuse,
    langsmith,
    litellm,
    llamaindex,
    logfire,
    mcp,
    mlflow,
    openinference,
    openlit,
    openllmetry,
    pydantic_ai,
    springai,
    vercel,
)
from monitor.ingest.spans import Reading
from monitor.ingest.texts import fuller_answer, fuller_prompt
from monitor.ingest.wire import Wanted, WireLog, WireSpan

DIALECTS: Final[tuple[ModuleType, ...]] = (
    claude_code,
    logfire,
    pydantic_ai,
    adk,
    mcp,
    litellm,
    openlit,
    openinference,
    langsmith,
    vercel,
    mlflow,
    genkit,
    springai,
    llamaindex,
    openllmetry,
    cloudflare,
    langfuse,
    genai,
)
"""In order of precedence: what a framework says of its own spans comes before GenAI's general attributes."""

_MARKS: Final[Mapping[str, int]] = {
    mark: number for number, dialect in enumerate(DIALECTS) for mark in dialect.MARKS
}
_EVENTS: Final[Mapping[str, int]] = {
    name: number for number, dialect in enumerate(DIALECTS) for name in getattr(dialect, "EVENTS", ())
}
_LOGS: Final[Mapping[str, Callable[[WireLog, tuple[str, ...]], Reading]]] = {
    name: dialect.read_log for dialect in DIALECTS for name in getattr(dialect, "LOGS", ())
}
WANTED: Final = Wanted(frozenset({"exception", *_EVENTS}), frozenset(_LOGS))
"""Names of the events that some dialect reads."""
_mark_of: Final[Callable[[str], Any]] = _MARKS.get
_SLUGS: Final = tuple(dialect.__name__.rpartition(".")[2] for dialect in DIALECTS)
_GENERAL: Final = {DIALECTS.index(genai)}
_FIELDS: Final = tuple(
    name for name in Reading.__struct_fields__ if name not in {"kind", "asked", "answered", "labels"}
)
_DEFAULTS: Final = tuple((name, getattr(Reading(), name)) for name in _FIELDS)


def read_span(span: WireSpan, document_keys: tuple[str, ...]) -> Reading | None:
    """Read a span; None if it is of no dialect."""
    numbers = {*map(_mark_of, span.attributes)}
    numbers.discard(None)
    if span.events:
        numbers.update([_EVENTS[event.name] for event in span.events if event.name in _EVENTS])
    if not numbers:
        return None
    masked: frozenset[str] = frozenset()
    if redaction.MASKED in span.attributes or redaction.REMOVED in span.attributes:
        span.attributes, masked = redaction.unmasked(span.attributes)
    reading: Reading | None
    if numbers == _GENERAL:
        reading = genai.read(span, document_keys)
        # Many instrumentations write this dialect, and only their scope tells them apart.
        reading.emitter = span.scope.name or _SLUGS[-1]
    else:
        order = sorted(numbers)
        readings = [each for number in order if (each := DIALECTS[number].read(span, document_keys))]
        reading = merged(readings)
        if reading is None:
            return None
        reading.emitter = _SLUGS[order[0]]
        # A framework that names no user leaves it to the application, which has the general names.
        if not reading.user:
            reading.user = _first_of(span, _USERS)
        if not reading.conversation:
            reading.conversation = _first_of(span, _CONVERSATIONS)
    if masked:
        redaction.note_masked(reading, masked)
    return reading


_USERS: Final = ("user.id", "enduser.id")
_CONVERSATIONS: Final = ("gen_ai.conversation.id", "session.id")


def _first_of(span: WireSpan, names: tuple[str, ...]) -> object:
    return next((value for name in names if (value := span.attributes.get(name))), None)


def read_log(log: WireLog, document_keys: tuple[str, ...]) -> Reading:
    """Read a log record of one of `WANTED.logs`."""
    held = log.event.attributes
    masked: frozenset[str] = frozenset()
    if redaction.MASKED in held or redaction.REMOVED in held:
        log.event.attributes, masked = redaction.unmasked(held)
    reading = _LOGS[log.event.name](log, document_keys)
    if masked:
        redaction.note_masked(reading, masked)
    own = log.event.name.startswith(claude_code.PREFIX)
    reading.emitter = _SLUGS[0] if own else log.scope.name
    return reading


def content_on(emitter: str) -> str:
    """Return how to switch on that an emitter, as in `Trace.emitter`, sends its texts."""
    own = DIALECTS[_SLUGS.index(emitter)].CONTENT_ON if emitter in _SLUGS else emitters.content_on(emitter)
    return str(own or genai.CONTENT_ON)


def looks_foreign(span: WireSpan) -> bool:
    """Return whether a span of no dialect looks like a model's call, by names of attributes and events."""
    if span.name == litellm.RAW:
        return False
    names = (*span.attributes, *_names_of_events(span)) if span.sent else span.attributes
    return any(name.startswith(_LOOKS) and not name.startswith(_BAGGAGE) for name in names)


def _names_of_events(span: WireSpan) -> Iterator[str]:
    for event in span.sent:
        yield event.name
        for attribute in event.attributes or ():
            yield attribute.key


_LOOKS: Final = (
    "gen_ai.", "llm.", "ai.", "langfuse.", "mlflow.", "traceloop.", "gcp.vertex.agent.", "openinference.",
)  # fmt: skip
_BAGGAGE: Final = (
    "traceloop.association.", "traceloop.workflow.", "traceloop.entity.path", "langfuse.trace.",
    "langfuse.environment", "langfuse.release", "langfuse.version", "langfuse.session.", "langfuse.user.",
    "langfuse.internal.", "gen_ai.conversation.", "gen_ai.agent.", "mlflow.traceRequestId",
    "gen_ai.evaluation.",
)  # fmt: skip
"""What SDKs copy onto every span below a call, of a database too; and what is said about calls elsewhere."""


def merged(readings: list[Reading]) -> Reading | None:
    """Return one reading: of each value the first that any gives, of each side the fullest text."""
    if not readings:
        return None
    first, *others = readings
    for other in others:
        if first.kind is None:
            first.kind = other.kind
        for name, nothing in _DEFAULTS:
            if getattr(first, name) == nothing and (value := getattr(other, name)) != nothing:
                setattr(first, name, value)
        first.asked = fuller_prompt(first.asked, other.asked)
        first.answered = fuller_answer(first.answered, other.answered)
        if other.labels:
            first.labels = other.labels | first.labels
    return first
