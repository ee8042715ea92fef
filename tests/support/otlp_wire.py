"""Requests of OTLP/JSON built from plain attributes, and what decoders make of them."""

import base64
import json
from typing import Any

import pytest
from checkout import DATA
from ingest_cases import decoded, exchanges

from monitor.config import Format, IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import decoder_for
from monitor.trace import Record, Span, Trace

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "c1ad6b7169203332"
START = 1_795_327_200_000_000_000


def decode(value: Any, form: Format = "otlp_json", **settings: Any) -> list[Any]:
    """What one record holds; a dict is sent as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    decoder = decoder_for(IngestConfig(format=form, **settings), lambda user: f"pseudonym-{len(user)}")
    return list(decoder(Record("t", 0, 0, 1_600_000_000.0, None, raw)))


def refusal(value: Any, form: Format = "otlp_json", **settings: Any) -> BadTrace:
    """The error that decoding this value raises."""
    with pytest.raises(BadTrace) as caught:
        decode(value, form, **settings)
    return caught.value


def wire(value: Any) -> dict[str, Any]:
    """An AnyValue of OTLP/JSON."""
    if isinstance(value, list):
        return {"arrayValue": {"values": [wire(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if type(value) is int:
        return {"intValue": str(value)}
    names = {str: "stringValue", bool: "boolValue", float: "doubleValue"}
    return {} if value is None else {names[type(value)]: value}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes of OTLP/JSON."""
    return [{"key": key, "value": wire(value)} for key, value in values.items()]


def span_of(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A span of OTLP/JSON with these attributes."""
    made = {"traceId": TRACE, "spanId": SPAN, "name": "x", "startTimeUnixNano": str(START)}
    return made | {"endTimeUnixNano": str(START + 10**9), "attributes": attributes(values)} | changes


def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    """An export request of OTLP/JSON."""
    sent = {"attributes": attributes(resource or {})}
    return {"resourceSpans": [{"resource": sent, "scopeSpans": [{"spans": list(spans)}]}]}


def log_request(name: str, body: Any, values: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """An export request with one log record."""
    record = {"eventName": name, "traceId": TRACE, "spanId": SPAN, "timeUnixNano": str(START)}
    record |= {"body": wire(body), "attributes": attributes(values or {})} | changes
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


def one(values: dict[str, Any], resource: dict[str, Any] | None = None, **changes: Any) -> Span:
    """The span that these attributes make."""
    (span,) = decode(request(span_of(values, **changes), resource=resource))
    assert isinstance(span, Span)
    return span


def chat(**values: Any) -> Trace:
    """The exchange of a chat span with these attributes, dots written as two underscores."""
    named = {key.replace("__", "."): value for key, value in values.items()}
    exchange = one({"gen_ai.operation.name": "chat"} | named).exchange
    assert exchange
    return exchange


def sample(name: str) -> bytes:
    """A payload in the shape that the conventions' documents show."""
    return (DATA / "otlp" / f"{name}.json").read_bytes()


def parts(role: str, text: str) -> str:
    """A list of one message, as JSON."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def talk(question: str, answer: str) -> dict[str, Any]:
    """The texts of a call."""
    return {
        "gen_ai.input.messages": parts("user", question),
        "gen_ai.output.messages": parts("assistant", answer),
    }


def judged(*bodies: dict[str, Any]) -> Trace:
    """The one exchange of several records, spans and log records alike."""
    pieces = [piece for body in bodies for piece in decoded(json.dumps(body).encode(), "otlp_json")]
    (trace,) = exchanges(pieces)
    return trace
