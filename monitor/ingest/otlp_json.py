"""OTLP as JSON: ids in hexadecimal, 64-bit integers as strings or numbers, bytes in base64.

Not protobuf's JSON mapping, whose parser takes hexadecimal ids for base64 and corrupts them. Source: OTLP
specification 1.x, "JSON Protobuf Encoding". Keys are lowerCamelCase; protobuf's original names are read too.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from monitor.errors import BadTrace
from monitor.ingest import strict_json
from monitor.ingest.fields import Path, check_keys, convert, written
from monitor.ingest.lookalikes import named_json, named_protobuf
from monitor.ingest.wire import (
    EVENT_NAMES,
    NO_SCOPE,
    Attributes,
    ExportedBatch,
    Scope,
    SpanEvent,
    Wanted,
    WireLog,
    WireSpan,
)

_ERROR: Final = 2
_HEX: Final = "0123456789abcdef"
_TRACE_ID, _SPAN_ID = 32, 16  # hexadecimal digits
_NO_TRACE, _NO_SPAN = "0" * _TRACE_ID, "0" * _SPAN_ID
_DEEPEST: Final = 10**9  # containers of the format itself; values are bounded where they are read
_MAX_DIGITS: Final = 20  # of a 64-bit integer


class _AnyValue(msgspec.Struct, rename="camel", gc=False):
    string_value: str | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bool_value: bool | None = None
    array_value: "_ArrayValue | None" = None
    kvlist_value: "_KvList | None" = None
    bytes_value: str | None = None


class _ArrayValue(msgspec.Struct, gc=False):
    values: list[_AnyValue | None] | None = None


class _KeyValue(msgspec.Struct, gc=False):
    key: str = ""
    value: _AnyValue | None = None


class _KvList(msgspec.Struct, gc=False):
    values: list[_KeyValue] | None = None


class _Event(msgspec.Struct, rename="camel", gc=False):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: list[_KeyValue] | None = None


class _Status(msgspec.Struct, gc=False):
    code: int | str | None = None


class _Span(msgspec.Struct, rename="camel", gc=False):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    name: str | None = None
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_KeyValue] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _Log(msgspec.Struct, rename="camel", gc=False):
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    attributes: list[_KeyValue] | None = None
    body: _AnyValue | None = None


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_KeyValue] | None = None


class _Scope(msgspec.Struct, gc=False):
    name: str | None = None
    version: str | None = None


class _ScopeSpans(msgspec.Struct, gc=False):
    scope: _Scope | None = None
    spans: list[_Span] | None = None


class _ScopeLogs(msgspec.Struct, rename="camel", gc=False):
    scope: _Scope | None = None
    log_records: list[_Log] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel", gc=False):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _ResourceLogs(msgspec.Struct, rename="camel", gc=False):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _Request(msgspec.Struct, rename="camel", gc=False):
    resource_spans: list[_ResourceSpans] | None = None
    resource_logs: list[_ResourceLogs] | None = None


_STRUCTS = (
    _AnyValue, _ArrayValue, _KeyValue, _KvList, _Event, _Status, _Span, _Log, _Resource, _Scope,
    _ScopeSpans, _ScopeLogs, _ResourceSpans, _ResourceLogs, _Request,
)  # fmt: skip
_ORIGINAL = {
    original: sent
    for struct in _STRUCTS
    for original, sent in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    if original != sent
}
_STRICT: Final = frozenset({
    "resourceSpans", "scopeSpans", "spans", "resourceLogs", "scopeLogs", "logRecords", "traceId", "spanId",
    "parentSpanId", "attributes", "values", "key",
})  # fmt: skip
"""Fields without which spans, or what they say, would be lost."""
KNOWN = frozenset(sent for struct in _STRUCTS for sent in struct.__struct_encode_fields__) | frozenset(
    _ORIGINAL
)


def read(value: bytes, max_depth: int, wanted: Wanted) -> Iterator[ExportedBatch]:
    """Yield the batches of an export request of spans or of logs, with the log records of `wanted` events.

    Values of wrong types are mended, or left out. Raises BadTrace: those of `strict_json.parse`, wrong_type,
    missing_field, and, from a batch's spans, bad_id, too_deep, duplicate_key.
    """
    try:
        payload = strict_json.parse(value, _DEEPEST, KNOWN)
    except BadTrace as error:
        if named := named_protobuf(value):
            raise BadTrace(error.reason, f"{error.detail}; {named}") from None
        raise
    if type(payload) is not dict:
        raise BadTrace("wrong_type", named_json(payload) or "the record: must hold one JSON object")
    if "resource_spans" in payload or "resource_logs" in payload:
        payload = _renamed(payload)
    request = convert(payload, _Request, [], strict=_STRICT)
    if request.resource_spans is None and request.resource_logs is None:
        why = named_json(payload) or "is the topic of another format?"
        raise BadTrace("missing_field", f"resourceSpans or resourceLogs: required; {why}")
    for r, resource in enumerate(request.resource_spans or ()):
        where = f"resourceSpans[{r}]"
        attributes = _of_resource(resource.resource, max_depth, where)
        for s, scope in enumerate(resource.scope_spans or ()):
            yield ExportedBatch(
                attributes,
                spans=_spans(
                    scope.spans or (),
                    max_depth,
                    f"{where}.scopeSpans[{s}].spans",
                    wanted.events,
                    _scope(scope.scope),
                ),
            )
    for r, logged in enumerate(request.resource_logs or ()):
        where = f"resourceLogs[{r}]"
        attributes = _of_resource(logged.resource, max_depth, where)
        for s, of_scope in enumerate(logged.scope_logs or ()):
            records = of_scope.log_records or ()
            yield ExportedBatch(
                attributes,
                logs=_logs(
                    records,
                    max_depth,
                    f"{where}.scopeLogs[{s}].logRecords",
                    wanted.logs,
                    _scope(of_scope.scope),
                ),
            )


def _scope(sent: _Scope | None) -> Scope:
    return Scope(sent.name or "", sent.version or "") if sent else NO_SCOPE


def _spans(
    items: Any, max_depth: int, where: str, wanted: frozenset[str], scope: Scope
) -> Iterator[WireSpan]:
    for n, span in enumerate(items):
        path = (where, n)
        trace_id, span_id = span.trace_id.lower(), span.span_id.lower()
        if not _is_id(trace_id, _TRACE_ID) or trace_id == _NO_TRACE:
            raise BadTrace(
                "bad_id", f"{where}[{n}].traceId: must be {_TRACE_ID} hexadecimal digits, not all zero"
            )
        if not _is_id(span_id, _SPAN_ID) or span_id == _NO_SPAN:
            raise BadTrace(
                "bad_id", f"{where}[{n}].spanId: must be {_SPAN_ID} hexadecimal digits, not all zero"
            )
        parent_id = span.parent_span_id
        if parent_id:
            parent_id = parent_id.lower()
            if not _is_id(parent_id, _SPAN_ID):
                raise BadTrace(
                    "bad_id", f"{where}[{n}].parentSpanId: must be {_SPAN_ID} hexadecimal digits or none"
                )
        sent = span.events or ()
        yield WireSpan(
            trace_id,
            span_id,
            "" if not parent_id or parent_id == _NO_SPAN else parent_id,
            _time(span.start_time_unix_nano),
            _time(span.end_time_unix_nano),
            span.status is not None and span.status.code in {_ERROR, "STATUS_CODE_ERROR"},
            _attributes(span.attributes, max_depth, path),
            [
                SpanEvent(e.name, _time(e.time_unix_nano), _attributes(e.attributes, max_depth, path))
                for e in sent
                if e.name in wanted
            ],
            span.name or "",
            scope,
            sent,
        )


def _logs(items: Any, max_depth: int, where: str, wanted: frozenset[str], scope: Scope) -> Iterator[WireLog]:
    for n, log in enumerate(items):
        path = (where, n)
        name = log.event_name or next(
            (a.value.string_value or "" for a in log.attributes or () if a.key in EVENT_NAMES and a.value),
            "",
        )
        if name not in wanted:
            # Some names are whole in the body alone.
            name = (log.body and log.body.string_value) or ""
            if name not in wanted:
                continue
        trace_id, span_id = (log.trace_id or "").lower(), (log.span_id or "").lower()
        if (trace_id and not _is_id(trace_id, _TRACE_ID)) or (span_id and not _is_id(span_id, _SPAN_ID)):
            raise BadTrace(
                "bad_id", f"{where}[{n}]: traceId and spanId must be 32 and 16 hexadecimal digits, or none"
            )
        known = trace_id.strip("0") and span_id.strip("0")
        event = SpanEvent(
            name,
            _time(log.time_unix_nano) or _time(log.observed_time_unix_nano),
            _attributes(log.attributes, max_depth, path),
            _any(log.body, max_depth, path) if log.body else None,
        )
        yield WireLog(trace_id if known else "", span_id if known else "", event, scope)


def _is_id(text: str, digits: int) -> bool:
    return len(text) == digits and not text.strip(_HEX)


def _integer(value: int | str) -> int | str:
    """Return a 64-bit integer; a text that is none unchanged."""
    if isinstance(value, int):
        return value
    digits = value.removeprefix("-")
    known = digits.isdecimal() and digits.isascii() and len(digits) <= _MAX_DIGITS
    return int(value) if known else value


def _time(value: int | str) -> int:
    """Return nanoseconds; 0, which means that there is none, for what is no number."""
    made = _integer(value)
    return made if isinstance(made, int) else 0


def _of_resource(resource: _Resource | None, max_depth: int, where: str) -> Attributes:
    return _attributes(resource.attributes, max_depth, (where, ".resource")) if resource else {}


def _attributes(pairs: list[_KeyValue] | None, max_depth: int, where: Path) -> Attributes:
    if not pairs:
        return {}
    made = {
        p.key: p.value.string_value or _any(p.value, max_depth, where) for p in pairs if p.value is not None
    }
    if len(made) != len(pairs):
        check_keys([pair.key for pair in pairs], where)
    return made


def _any(value: _AnyValue, depth: int, where: Path) -> Any:
    if value.array_value is not None or value.kvlist_value is not None:
        return _nested(value, depth, where)
    if value.int_value is not None:
        return _integer(value.int_value)
    if value.double_value is not None:
        return _double(value.double_value)
    if value.string_value is not None:
        return value.string_value
    return value.bytes_value if value.bool_value is None else value.bool_value


def _nested(value: _AnyValue, depth: int, where: Path) -> Any:
    if depth <= 0:
        raise BadTrace("too_deep", f"{written(where)}: a value is nested too deep; flatten it")
    if value.array_value is not None:
        return [v and _any(v, depth - 1, where) for v in value.array_value.values or ()]
    pairs = (value.kvlist_value and value.kvlist_value.values) or []
    made = {p.key: p.value and _any(p.value, depth - 1, where) for p in pairs}
    if len(made) != len(pairs):
        raise BadTrace("duplicate_key", f"{written(where)}: a key occurs twice in one value; send it once")
    return made


def _double(value: float | str) -> float | str:
    try:
        return float(value)  # "NaN" and "Infinity" are strings here
    except ValueError:
        return value


def _renamed(value: Any) -> Any:
    """Return the value with lowerCamelCase keys for protobuf's original names.

    Raises BadTrace: duplicate_key.
    """
    if type(value) is list:
        return [_renamed(item) for item in value]
    if type(value) is not dict:
        return value
    made = {_ORIGINAL.get(key, key): _renamed(item) for key, item in value.items()}
    if len(made) != len(value):
        raise BadTrace("duplicate_key", "a field occurs in one object under both of its names; send it once")
    return made
