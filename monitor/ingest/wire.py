"""Spans and log records as a wire format gives them to a dialect: attributes as plain values.

A value of an attribute is str, bool, int, float, None, a list or a dict of these; bytes are base64 text.
"""

from typing import Any, NamedTuple

import msgspec

Attributes = dict[str, Any]
EVENT_NAMES = frozenset({"event.name", "event_name"})  # of log records without the field; one is LiteLLM's
NANO = 10**9


class SpanEvent(msgspec.Struct, gc=False):
    """One event of a span, or one log record. `time` is Unix nanoseconds, 0 where it has none."""

    name: str
    time: int
    attributes: Attributes
    body: Any = None


class Scope(NamedTuple):
    """The instrumentation that made a span or log record, as it names itself: not cleaned."""

    name: str = ""
    version: str = ""


NO_SCOPE = Scope()


class WireSpan(msgspec.Struct, gc=False):
    """One span of either wire format: ids in lower-case hexadecimal, times in Unix nanoseconds, 0 is none.

    Ids are random bytes of a fixed length, and may be logged; `name` is not cleaned, `sent` all its events.
    """

    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool
    attributes: Attributes
    events: list[SpanEvent]
    name: str = ""
    scope: Scope = NO_SCOPE
    sent: Any = ()

    def exception_type(self) -> object:
        """Return the type that the first event of an exception names; None without one."""
        return next((e.attributes.get("exception.type") for e in self.events if e.name == "exception"), None)


class WireLog(msgspec.Struct, gc=False):
    """One log record that a dialect reads. Ids are empty where it belongs to no span.

    An emitter that sends log records and no spans has ids from its dialect, with `log_only`, so that the
    records of one exchange are joined.
    """

    trace_id: str
    span_id: str
    event: SpanEvent
    scope: Scope = NO_SCOPE
    parent_id: str = ""
    log_only: bool = False


class Wanted(NamedTuple):
    """Names of the events that are read, of spans and as log records. Others are not even built."""

    events: frozenset[str]
    logs: frozenset[str]


class ExportedBatch(NamedTuple):
    """Spans and logs of one resource in one scope, as iterators: a bad one raises when it is reached."""

    resource: Attributes
    spans: Any = ()
    logs: Any = ()
