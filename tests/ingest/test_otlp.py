"""OTLP's two encodings: they say the same, and what neither can say is refused with a reason."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_wire import PARENT, START, TRACE, attributes, decode, one, refusal, request, sample, span_of

from monitor.bench import decode as bench_decode
from monitor.config import Format
from monitor.errors import BadTrace
from monitor.ingest.dialects import DIALECTS
from monitor.trace import Span, StepKind


def test_both_encodings_say_the_same() -> None:
    """A request in protobuf and in JSON decodes to equal spans."""
    sent = bench_decode.request(7)
    raw = json.dumps(sent).encode()
    assert decode(raw) == decode(bench_decode.protobuf(sent), "otlp_proto")


def test_original_field_names_are_read_too() -> None:
    """Protobuf's names instead of lowerCamelCase give the same spans; both for one field are refused."""
    raw = sample("otlp_agent").decode()
    names = {
        "resourceSpans": "resource_spans",
        "scopeSpans": "scope_spans",
        "traceId": "trace_id",
        "spanId": "span_id",
        "parentSpanId": "parent_span_id",
        "startTimeUnixNano": "start_time_unix_nano",
        "endTimeUnixNano": "end_time_unix_nano",
        "stringValue": "string_value",
        "intValue": "int_value",
        "arrayValue": "array_value",
        "kvlistValue": "kvlist_value",
    }
    original = raw
    for sent, name in names.items():
        original = original.replace(f'"{sent}"', f'"{name}"')
    assert decode(original.encode()) == decode(raw.encode())
    both = original.replace('"span_id"', '"spanId": "b7ad6b7169203339", "span_id"', 1)
    assert refusal(both.encode()).reason == "duplicate_key"


@pytest.mark.parametrize(
    ("sent", "seconds"), [(START, 1_795_327_200.0), (str(START), 1_795_327_200.0), (0, 1_795_327_201.0)]
)
def test_64_bit_integers_are_numbers_or_strings(sent: int | str, seconds: float) -> None:
    """A start may be either; without one the end stands in, without both the record's time."""
    assert one({}, startTimeUnixNano=sent).step.start == seconds
    assert one({}, startTimeUnixNano=0, endTimeUnixNano=0).step.start == 1_600_000_000.0


@given(
    value=st.recursive(
        st.text(max_size=5)
        | st.integers(-(2**63), 2**63 - 1)
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.binary(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_depth=st.integers(1, 4),
)
def test_a_value_of_any_shape_reads_the_same_in_both_encodings(value: Any, max_depth: int) -> None:
    """Arguments of a tool are text, JSON where they are structured, or refused as nested too deep."""
    sent = request(span_of({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": value}))

    def read(raw: bytes, form: Format) -> str:
        try:
            (span,) = decode(raw, form, max_depth=max_depth)
        except BadTrace as error:
            return error.reason
        assert isinstance(span.call.arguments, str)
        return str(span.call.arguments)

    text = read(json.dumps(sent).encode(), "otlp_json")
    assert text == read(bench_decode.protobuf(sent), "otlp_proto")
    if isinstance(value, int) or (isinstance(value, list) and max_depth >= 4 and text != "too_deep"):
        json.loads(text)


def test_a_span_of_something_else_keeps_its_place() -> None:
    """Ids, parent, end and nothing of its attributes: an assembler needs it to find the root."""
    span = one({"http.request.method": "POST", "db.statement": "secret"}, parentSpanId=PARENT.upper())
    assert (span.step.kind, span.parent_id, span.end) == (StepKind.OTHER, PARENT, 1_795_327_201.0)
    assert (span.exchange, span.step.name, span.step.input) == (None, "", "")
    assert one({}, parentSpanId="0" * 16).parent_id == ""


def event(name: str, *keys: str) -> dict[str, Any]:
    """An event of OTLP/JSON that holds a text under each of these keys."""
    return {"name": name, "timeUnixNano": str(START), "attributes": attributes(dict.fromkeys(keys, "Hi?"))}


OTHERS = ("exception", "cache.miss", "gen_ai", "ai", "gen_ai.evaluation.result", "langfuse.trace.name", "")
LOOKS = ("gen_ai", "llm", "ai", "langfuse", "mlflow", "traceloop", "gcp.vertex.agent", "openinference")
unread_names = st.builds("{}.acme.{}".format, st.sampled_from(LOOKS), st.from_regex(r"[a-z_]{1,9}\Z"))


@given(
    name=unread_names,
    in_an_attribute=st.booleans(),
    before=st.lists(st.sampled_from(OTHERS), max_size=3),
    after=st.lists(st.sampled_from(OTHERS), max_size=3),
)
def test_an_event_of_a_model_makes_a_span_foreign(
    name: str,
    in_an_attribute: bool,  # noqa: FBT001 - drawn
    before: list[str],
    after: list[str],
) -> None:
    """Wherever it stands, such a name of an event or its attribute counts, in both encodings; others not."""
    telling = event("message", "http.route", name) if in_an_attribute else event(name)
    for told, events in (
        (True, [*map(event, before), telling, *map(event, after)]),
        (False, [*(event(each, *after) for each in before), event("message", *after)]),
    ):
        sent = request(span_of({"http.route": "/v1"}, events=events))
        (span,) = decode(sent)
        assert bool(span.foreign) is told
        assert decode(bench_decode.protobuf(sent), "otlp_proto") == [span]


def test_events_that_nobody_reads_leave_a_span_of_a_dialect_alone() -> None:
    """What a dialect reads is no foreign span, whatever further events stand on it."""
    read = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": "Within 30 days."}
    assert one(read, events=[event("llm.acme.chunk", "llm.acme.text")]) == one(read)


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"traceId": "0" * 32}, "bad_id", "resourceSpans[0].scopeSpans[0].spans[1].traceId"),
        ({"traceId": TRACE[:30] + "  "}, "bad_id", "spans[1].traceId"),
        ({"spanId": ""}, "bad_id", "spans[1].spanId"),
        ({"spanId": None}, "wrong_type", "spanId"),
        ({"parentSpanId": "xyz"}, "bad_id", "spans[1].parentSpanId"),
        ({"endTimeUnixNano": 2**64 - 1}, "out_of_range", "time"),
        ({"attributes": attributes({"gen_ai.system": [[[[]]]]})}, "too_deep", "spans[1]"),
        ({"attributes": [*attributes({"gen_ai.system": "a"})] * 2}, "duplicate_key", "spans[1]"),
        ({"attributes": {}}, "wrong_type", "attributes"),
    ],
)
def test_one_unusable_span_makes_the_record_a_dead_letter(
    change: dict[str, Any], reason: str, field: str
) -> None:
    """The reason is bounded, and the detail names the field and where it stands, never a value."""
    error = refusal(request(span_of({}), span_of({}) | change), max_depth=3)
    assert (error.reason, field in error.detail) == (reason, True)


@pytest.mark.parametrize("mark", sorted(mark for dialect in DIALECTS for mark in dialect.MARKS))
def test_an_attribute_that_a_dialect_reads_may_not_occur_twice(mark: str) -> None:
    """Two readers of it could judge one value and show the other, so both encodings are refused."""
    twice = request(span_of({}) | {"attributes": [*attributes({mark: "a"}), *attributes({mark: "b"})]})
    assert refusal(twice).reason == "duplicate_key"
    assert refusal(bench_decode.protobuf(twice), "otlp_proto").reason == "duplicate_key"


@pytest.mark.parametrize(
    "change",
    [
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": "9" * 5000},
        {"startTimeUnixNano": 1.5},
        {"endTimeUnixNano": None},
        {"endTimeUnixNano": {}},
        {"status": {"code": 1.5}},
        {"status": "ok"},
        {"name": 7},
        {"events": "none"},
        {"events": [{"name": 7, "timeUnixNano": "x"}]},
        {"attributes": [*attributes({"gen_ai.system": "a"}), {"key": "b", "value": {"intValue": "x"}}]},
        {"attributes": [*attributes({"gen_ai.system": "a"}), {"key": "b", "value": {"doubleValue": "x"}}]},
        {"attributes": [*attributes({"gen_ai.system": "a"}), {"key": "b", "value": {"boolValue": 7}}]},
        {"attributes": [*attributes({"gen_ai.system": "a"}), {"key": "b", "value": "x"}]},
        {"attributes": [*attributes({"gen_ai.system": "a"}), {"key": "b", "value": {"stringValue": []}}]},
    ],
)
def test_a_value_that_cannot_be_used_costs_no_record(change: dict[str, Any]) -> None:
    """Of a span with a time, a name, a status or a value of the wrong type all the rest is read."""
    texts = attributes({"gen_ai.operation.name": "chat", "gen_ai.completion": "CANARY"})
    odd = span_of({}) | change | {"attributes": [*texts, *change.get("attributes", ())]}
    plain, other = decode(request(span_of({}), odd))
    assert plain.step.kind is StepKind.OTHER
    assert other.exchange is not None
    assert other.exchange.response == "CANARY"


@pytest.mark.parametrize(
    ("value", "form", "reason"),
    [
        (b"", "otlp_json", "empty"),
        (b"[]", "otlp_json", "wrong_type"),
        (b"{}", "otlp_json", "missing_field"),
        (b'{"resourceSpans": [], "resourceSpans": []}', "otlp_json", "duplicate_key"),
        (b'{"resourceSpans": "' + b"x" * 100 + b'"}', "otlp_json", "wrong_type"),
        (b"\xff", "otlp_json", "invalid_json"),
        (b'{"a": ' + b"[" * 100_000, "otlp_json", "too_deep"),
        (b"{", "otlp_proto", "invalid_protobuf"),
        (b"\x12\x01a", "otlp_proto", "missing_field"),
        (b"\x12\x01a", "otlp_proto_logs", "missing_field"),
        (b"x" * 2000, "otlp_proto", "too_large"),
    ],
)
def test_what_is_no_export_request_is_refused(value: bytes, form: Format, reason: str) -> None:
    """Whatever the bytes, the answer is a reason of the documented set."""
    assert refusal(value, form, max_record_bytes=1000 if reason == "too_large" else 2**21).reason == reason


def test_the_number_of_spans_is_bounded() -> None:
    """A record of more spans than `max_spans` is refused, one of exactly so many is not."""
    raw = request(*[span_of({})] * 3)
    assert len(decode(raw, max_spans=3)) == 3
    assert refusal(raw, max_spans=2).reason == "too_many_spans"


def test_a_repeated_attribute_that_nobody_reads_costs_nothing() -> None:
    """Instrumentations of other things repeat keys; only of those that are read one may not hide another."""
    span = span_of({}, attributes=attributes({"http.method": "GET"}) * 2)
    assert len(decode(request(span))) == 1


def test_auto_tells_formats_apart() -> None:
    """Native and OTLP in both encodings are told by their first bytes."""
    sent = bench_decode.request(1)
    raw = json.dumps(sent).encode()
    assert decode(b" \n" + raw, "auto") == decode(raw)
    assert decode(bench_decode.protobuf(sent), "auto") == decode(raw)
    (trace,) = decode(b'\n{"response": "resourceSpans"}', "auto")
    assert trace.response == "resourceSpans"


def test_size_grows_with_what_is_kept() -> None:
    """A span's size is about its text and a fixed share, so that a buffer of spans can be bounded by it."""
    small, large = chat_span("x"), chat_span("x" * 10_000)
    assert 10_000 <= large.size - small.size + 1 <= 10_100
    assert one({"http.url": "x" * 10_000}).size == small.size - 1


def chat_span(text: str) -> Span:
    """A chat span that answered `text`."""
    return one({"gen_ai.operation.name": "chat", "gen_ai.output.messages": text})
