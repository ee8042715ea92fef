"""Spans of Jaeger and Zipkin on a topic of OTLP are dead letters that name them, whatever else decodes."""

import json
import random
from typing import Any

import pytest
from checkout import SHARED
from hypothesis import given
from hypothesis import strategies as st

from monitor.bench import decode as bench_decode
from monitor.config import Format, IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import decoder
from monitor.ingest.lookalikes import named_json, named_protobuf
from monitor.trace import Record

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
COLLECTOR = SHARED / "cases" / "ingest" / "collector"


def refusal(value: bytes, form: Format) -> BadTrace:
    """The error that decoding a record of this value raises."""
    with pytest.raises(BadTrace) as caught:
        decoder(form, IngestConfig(), str)(Record("t", 0, 0, 1.0, None, value))
    return caught.value


def field(number: int, content: bytes) -> bytes:
    """A field of bytes in protobuf."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


ids = st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8)


@given(*ids, st.text(max_size=9), st.binary(max_size=20), st.booleans())
def test_jaegers_spans_are_named(trace: bytes, span: bytes, name: str, more: bytes, falling: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever ids it has, in whatever order of its fields, a span is a dead letter with its name."""
    fields = [field(1, trace), field(2, span), field(3, name.encode()), field(8, more)]
    value = b"".join(reversed(fields) if falling else fields)
    error = refusal(value, "otlp_proto")
    assert "Jaeger" in error.detail
    assert error.reason in {"invalid_protobuf", "missing_field"}
    assert "Jaeger" in refusal(value, "otlp_json").detail


@given(*ids, st.sampled_from([8, 16]), st.text(max_size=9), st.integers(1, 4))
def test_zipkins_spans_are_named(trace: bytes, span: bytes, size: int, name: str, count: int) -> None:
    """A list of spans with trace ids of either length is a dead letter with its name, for spans and logs."""
    one = field(1, trace[:size]) + field(3, span) + field(5, name.encode())
    for form in ("otlp_proto", "otlp_proto_logs", "otlp_json"):
        assert "Zipkin" in refusal(field(1, one) * count, form).detail


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({"traceID": TRACE, "spanID": SPAN, "operationName": "chat", "tags": []}, "Jaeger"),
        ({"traceId": TRACE, "spanId": SPAN, "operationName": "chat", "process": {}}, "Jaeger"),
        ({"data": [{"traceID": TRACE, "spans": [{"operationName": "chat"}], "processes": {}}]}, "Jaeger"),
        ({"process": {}, "spans": [{"traceId": TRACE, "operationName": "chat"}]}, "Jaeger"),
        ([{"traceId": TRACE, "id": SPAN, "name": "chat", "localEndpoint": {"serviceName": "a"}}], "Zipkin"),
        ([{"traceId": TRACE, "id": SPAN, "timestamp": 1, "duration": 2}], "Zipkin"),
        ({"traceId": TRACE, "id": SPAN, "timestamp": 1, "duration": 2}, "Zipkin"),
    ],
)
def test_their_json_is_named(payload: Any, name: str) -> None:
    """On a topic of OTLP/JSON, of protobuf and of any format, the dead letter says whose spans these are."""
    raw = json.dumps(payload).encode()
    forms: tuple[Format, ...] = ("otlp_json", "otlp_proto", "auto")
    assert [form for form in forms if name not in refusal(raw, form).detail] == []


@pytest.mark.parametrize(
    ("file", "form", "name"),
    [
        ("jaeger_json.bin", "otlp_json", "Jaeger"),
        ("jaeger_proto.bin", "otlp_proto", "Jaeger"),
        ("zipkin_proto_head.bin", "otlp_proto", "Zipkin"),
    ],
)
def test_what_a_collector_wrote_is_named(file: str, form: Format, name: str) -> None:
    """Records of a real Collector with these encodings."""
    if not COLLECTOR.exists():
        pytest.skip("no ../shared/cases/ingest")
    assert name in refusal((COLLECTOR / file).read_bytes(), form).detail


def test_otlp_is_not_taken_for_another() -> None:
    """Export requests in both encodings look like neither, and one of nothing but a resource is in order."""
    sent = bench_decode.request(1)
    assert (named_json(sent), named_protobuf(bench_decode.protobuf(sent))) == ("", "")
    resource = field(1, field(1, field(1, field(1, b"service.name") + field(2, field(1, b"shop")))))
    assert decoder("otlp_proto", IngestConfig(), str)(Record("t", 0, 0, 1.0, None, resource)) == ()


@given(st.binary(max_size=60))
def test_any_bytes_have_a_name_or_none(value: bytes) -> None:
    """Bytes of no known shape, cut anywhere, raise nothing."""
    rng = random.Random(0)
    for start in (b"", b"\x0a\x10", b"\x0a\x20\x0a\x10"):
        named_protobuf(start + value[: rng.randrange(61)])
