"""OTLP as protobuf: the bodies of export requests, as an OpenTelemetry Collector writes them to Kafka."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.errors import BadTrace
from monitor.ingest.fields import Path, check_keys, written
from monitor.ingest.lookalikes import named_protobuf
from monitor.ingest.wire import (
    EVENT_NAMES,
    Attributes,
    ExportedBatch,
    Scope,
    SpanEvent,
    Wanted,
    WireLog,
    WireSpan,
)

_ERROR: Final = 2  # STATUS_CODE_ERROR
_TRACE_ID, _SPAN_ID = 16, 8  # bytes
_NO_TRACE, _NO_SPAN = bytes(_TRACE_ID), bytes(_SPAN_ID)
_Values = Callable[[Any, Path], Attributes]


def spans(value: bytes, max_depth: int, wanted: Wanted) -> Iterator[ExportedBatch]:
    """Yield the batches of an ExportTraceServiceRequest, or of a TracesData: the bytes are alike.

    Raises BadTrace: invalid_protobuf, missing_field, and, from a batch's spans, bad_id, too_deep and
    duplicate_key.
    """
    request = _parse(ExportTraceServiceRequest, value)
    attributes = _values(max_depth)
    for r, resource in enumerate(request.resource_spans):
        of_resource = attributes(resource.resource.attributes, ("resource_spans", r, ".resource"))
        for s, scope in enumerate(resource.scope_spans):
            where = f"resource_spans[{r}].scope_spans[{s}].spans"
            of_scope = Scope(scope.scope.name, scope.scope.version)
            spans_of = _spans(scope.spans, attributes, where, wanted.events, of_scope)
            yield ExportedBatch(of_resource, spans=spans_of)
    if not any(resource.scope_spans for resource in request.resource_spans):
        _refuse_others(value, "resource_spans", is_empty=not request.resource_spans)


def logs(value: bytes, max_depth: int, wanted: Wanted) -> Iterator[ExportedBatch]:
    """Yield the batches of an ExportLogsServiceRequest, or of a LogsData: the records of `wanted` events.

    Raises BadTrace as `spans` does.
    """
    request = _parse(ExportLogsServiceRequest, value)
    attributes = _values(max_depth)
    for r, resource in enumerate(request.resource_logs):
        of_resource = attributes(resource.resource.attributes, ("resource_logs", r, ".resource"))
        for s, scope in enumerate(resource.scope_logs):
            where = f"resource_logs[{r}].scope_logs[{s}].log_records"
            of_scope = Scope(scope.scope.name, scope.scope.version)
            logs_of = _logs(scope.log_records, attributes, where, wanted.logs, max_depth, of_scope)
            yield ExportedBatch(of_resource, logs=logs_of)
    if not any(resource.scope_logs for resource in request.resource_logs):
        _refuse_others(value, "resource_logs", is_empty=not request.resource_logs)


def _refuse_others(value: bytes, field: str, *, is_empty: bool) -> None:
    """Refuse a request without any scope that is none, or is of another format: by chance it decodes."""
    if named := named_protobuf(value):
        raise BadTrace("missing_field", f"{field}: none; {named}")
    if is_empty:
        raise BadTrace("missing_field", f"{field}: none; is the topic of another format?")


def _parse(kind: Any, value: bytes) -> Any:
    try:
        return kind.FromString(value)
    except DecodeError:
        detail = "not an export request, or cut off, or a string is not UTF-8"
        why = named_protobuf(value) or "is the topic of another format?"
        raise BadTrace("invalid_protobuf", f"{detail}; {why}") from None


def _spans(
    items: Iterable[Any], attributes: _Values, where: str, events: frozenset[str], scope: Scope
) -> Iterator[WireSpan]:
    for n, span in enumerate(items):
        trace_id, span_id, parent_id, sent = span.trace_id, span.span_id, span.parent_span_id, span.events
        if len(trace_id) != _TRACE_ID or trace_id == _NO_TRACE:
            raise BadTrace("bad_id", f"{where}[{n}].trace_id: must be {_TRACE_ID} bytes, not all zero")
        if len(span_id) != _SPAN_ID or span_id == _NO_SPAN:
            raise BadTrace("bad_id", f"{where}[{n}].span_id: must be {_SPAN_ID} bytes, not all zero")
        if parent_id and len(parent_id) != _SPAN_ID:
            raise BadTrace("bad_id", f"{where}[{n}].parent_span_id: must be {_SPAN_ID} bytes or none")
        yield WireSpan(
            trace_id.hex(),
            span_id.hex(),
            "" if parent_id == _NO_SPAN else parent_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.status.code == _ERROR,
            attributes(span.attributes, (where, n)),
            [
                SpanEvent(e.name, e.time_unix_nano, attributes(e.attributes, (where, n, ".events")))
                for e in sent
                if e.name in events
            ]
            if sent
            else [],
            span.name,
            scope,
            sent,
        )


def _logs(
    items: Iterable[Any],
    attributes: _Values,
    where: str,
    wanted: frozenset[str],
    max_depth: int,
    scope: Scope,
) -> Iterator[WireLog]:
    for n, log in enumerate(items):
        name = log.event_name or next(
            (a.value.string_value for a in log.attributes if a.key in EVENT_NAMES), ""
        )
        if name not in wanted:
            # Some names are whole in the body alone.
            name = log.body.string_value
            if name not in wanted:
                continue
        trace_id, span_id = log.trace_id, log.span_id
        if len(trace_id) not in {0, _TRACE_ID} or len(span_id) not in {0, _SPAN_ID}:
            raise BadTrace("bad_id", f"{where}[{n}]: trace_id and span_id must be 16 and 8 bytes, or none")
        known = trace_id.strip(b"\0") and span_id.strip(b"\0")
        event = SpanEvent(
            name,
            log.time_unix_nano or log.observed_time_unix_nano,
            attributes(log.attributes, (where, n)),
            _any(log.body, max_depth, (where, n)),
        )
        yield WireLog(trace_id.hex() if known else "", span_id.hex() if known else "", event, scope)


def _values(max_depth: int) -> _Values:
    """Return the function that makes a dict of attributes, nested at most `max_depth` deep."""

    def attributes(pairs: Any, where: Path) -> Attributes:
        # The field of another type reads as empty: `string_value` as "", `int_value` as 0.
        made = {
            p.key: (v := p.value).string_value or v.int_value or v.double_value or _any(v, max_depth, where)
            for p in pairs
        }
        if len(made) != len(pairs):
            check_keys([pair.key for pair in pairs], where)
        return made

    return attributes


def _any(value: Any, depth: int, where: Path) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind in {"array_value", "kvlist_value"}:
        if depth <= 0:
            raise BadTrace("too_deep", f"{written(where)}: a value is nested too deep; flatten it")
        if kind == "array_value":
            return [v.string_value or _any(v, depth - 1, where) for v in value.array_value.values]
        pairs = value.kvlist_value.values
        made = {p.key: p.value.string_value or _any(p.value, depth - 1, where) for p in pairs}
        if len(made) != len(pairs):
            raise BadTrace(
                "duplicate_key", f"{written(where)}: a key occurs twice in one value; send it once"
            )
        return made
    content = getattr(value, kind)
    return b64encode(content).decode() if type(content) is bytes else content
