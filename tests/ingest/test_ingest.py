"""Decoding of native traces: every valid record becomes a trace, every other a dead letter with a reason."""

import json
from typing import Any

import jsonschema
import malformed
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import Decode, decoder_for, schema
from monitor.trace import (
    Document,
    Message,
    Record,
    Side,
    Step,
    StepKind,
    ToolCall,
    Trace,
    Unread,
    Unreadable,
    Usage,
)

REASONS = {
    "too_large",
    "empty",
    "invalid_utf8",
    "invalid_json",
    "too_deep",
    "duplicate_key",
    "wrong_type",
    "missing_field",
    "out_of_range",
    "invalid_cloudevent",
    "invalid_framing",
}
FULL: dict[str, Any] = {
    "id": "chatcmpl-9",
    "time": 1_700_000_000.5,
    "app": "support-bot",
    "environment": "production",
    "provider": "openai",
    "model": "gpt-4o-2024-08-06",
    "model_version": "fp_44709d6fcb",
    "prompt_name": "returns",
    "prompt_version": "7",
    "conversation": "c-1",
    "user": "jane@example.com",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "finish_reason": "stop",
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "May I return it?"}],
    "response": "Yes: within 30 days.",
    "context": [{"id": "d1", "content": "Returns: 30 days.", "score": 0.9}, "Shoes too."],
    "tool_calls": [{"name": "lookup", "arguments": '{"order": "7"}', "result": "found", "id": "t1"}],
    "alternatives": ["Yes.", "No."],
    "logprobs": [-0.1, -2.5],
    "usage": {"input_tokens": 20, "output_tokens": 7},
    "latency": 0.8,
    "agent": "desk",
    "steps": [
        {"kind": "agent", "name": "desk", "start": 1_700_000_000.0, "seconds": 2.5},
        {
            "kind": "tool",
            "name": "lookup",
            "id": "s1",
            "parent": 0,
            "error": "timeout",
            "input": '{"order": "7"}',
            "output": "no answer",
            "input_tokens": 3,
            "output_tokens": 4,
            "cost": 0.01,
        },
    ],
    "labels": {"region": "eu"},
}


def record(value: bytes | None, **changes: Any) -> Record:
    """A record of the given value."""
    return Record("llm.traces", 0, 7, 1_600_000_000.0, None, value)._replace(**changes)


def decoder(max_record_bytes: int = 2**21, max_depth: int = 64) -> Decode:
    """A decoder with a pseudonym that shows it was used."""
    config = IngestConfig(max_record_bytes=max_record_bytes, max_depth=max_depth)
    return decoder_for(config, lambda user: f"pseudonym-{len(user)}")


def decode(**fields: Any) -> Trace:
    """The trace of a record with these fields."""
    (trace,) = decoder()(record(json.dumps({"response": ""} | fields).encode()))
    assert isinstance(trace, Trace)
    return trace


def refusal(value: bytes | None, **changes: Any) -> BadTrace:
    """The error that decoding this value raises."""
    with pytest.raises(BadTrace) as caught:
        decoder()(record(value, **changes))
    return caught.value


def test_every_documented_field_reaches_the_trace() -> None:
    """A record with all fields decodes to the trace with the same values, the user as a pseudonym."""
    assert decode(**FULL) == Trace(
        id="chatcmpl-9",
        time=1_700_000_000.5,
        app="support-bot",
        environment="production",
        provider="openai",
        model="gpt-4o-2024-08-06",
        model_version="fp_44709d6fcb",
        prompt_name="returns",
        prompt_version="7",
        conversation="c-1",
        user="pseudonym-16",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        span_id="00f067aa0ba902b7",
        finish_reason="stop",
        messages=(Message("system", "Be kind."), Message("user", "May I return it?")),
        response="Yes: within 30 days.",
        context=(Document("d1", "Returns: 30 days.", 0.9), Document("", "Shoes too.")),
        tool_calls=(ToolCall("lookup", '{"order": "7"}', "found", "t1"),),
        alternatives=("Yes.", "No."),
        logprobs=(-0.1, -2.5),
        usage=Usage(20, 7),
        latency=0.8,
        agent="desk",
        steps=(
            Step(kind=StepKind.AGENT, name="desk", start=1_700_000_000.0, seconds=2.5),
            Step(
                kind=StepKind.TOOL,
                name="lookup",
                id="s1",
                parent=0,
                error="timeout",
                input='{"order": "7"}',
                output="no answer",
                input_tokens=3,
                output_tokens=4,
                cost=0.01,
            ),
        ),
        emitter="native",
        labels={"region": "eu"},
    )


def test_a_response_alone_is_a_trace() -> None:
    """Everything but `response` is optional: id is a hash of the record, time the record's, names unknown."""
    value = b'{"response": "Hi."}'
    (trace,) = decoder()(record(value))
    assert isinstance(trace, Trace)
    assert trace == Trace(id=trace.id, time=1_600_000_000.0, response="Hi.", emitter="native")
    assert trace.id.startswith("sha256:")
    assert len(trace.id) == len("sha256:") + 32
    assert decoder()(record(value, offset=8)) == (trace,)


def test_null_means_absent() -> None:
    """Null in any field but `response` is the same as leaving it out; null content is empty text."""
    absent = dict.fromkeys((name for name in FULL if name not in {"response", "id"}), None)
    assert decode(id="a", **absent) == decode(id="a")
    nulls = decode(id="a", messages=[{"role": "assistant", "content": None}], context=[{"content": None}])
    assert (nulls.messages, nulls.context) == ((Message("assistant", ""),), (Document(),))


def test_identity_prefers_id_then_trace_and_span() -> None:
    """The id is the given one, else trace:span, and never half of that."""
    assert decode(trace_id="aa", span_id="bb").id == "aa:bb"
    assert decode(trace_id="aa", span_id="bb", id="").id == "aa:bb"
    assert decode(trace_id="aa").id.startswith("sha256:")


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (0, 0.0),
        (1_700_000_000, 1_700_000_000.0),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-15T00:13:20.250+02:00", 1_700_000_000.25),
    ],
)
def test_time_is_unix_seconds_or_rfc_3339(time: float | str, seconds: float) -> None:
    """Both notations of a time give Unix seconds."""
    assert decode(time=time).time == seconds


def test_a_trace_without_any_time_is_refused() -> None:
    """A record without timestamp (Kafka's -1) needs a time of its own."""
    error = refusal(b'{"response": ""}', time=-0.001)
    assert (error.reason, error.detail.split(":")[0]) == ("out_of_range", "time")


@pytest.mark.parametrize(
    ("role", "known"),
    [("developer", "system"), ("function", "tool"), ("model", "assistant"), ("user", "user")],
)
def test_roles_of_other_vendors_are_translated(role: str, known: str) -> None:
    """Names that vendors use for the four roles mean those."""
    assert decode(messages=[{"role": role, "content": "x"}]).messages[0].role == known


def test_unknown_fields_are_ignored() -> None:
    """A producer may send more than is documented."""
    assert decode(id="a", extra={"deep": [1, {"x": None}]}) == decode(id="a")


def test_text_passes_unchanged() -> None:
    """NUL, astral characters, quotes, backslashes and line breaks in text survive decoding."""
    text = 'a\x00b\U0001f600 "quoted": \\" \\\\ \n é'
    assert decode(response=text).response == text


@pytest.mark.parametrize(("name", "value"), malformed.shapes().items(), ids=malformed.shapes())
def test_malformed_records_are_dead_letters(name: str, value: bytes | None) -> None:
    """Each malformed shape raises BadTrace with a reason of the bounded set and a detail that says why."""
    error = refusal(value)
    assert error.reason in REASONS, name
    assert error.detail


@pytest.mark.parametrize(
    ("name", "reason", "field"),
    [
        ("tombstone", "empty", ""),
        ("empty", "empty", ""),
        ("number", "wrong_type", "the record"),
        ("list", "wrong_type", "the record"),
        ("latin_1", "invalid_utf8", ""),
        ("byte_order_mark", "invalid_json", ""),
        ("deep", "too_deep", ""),
        ("deep_in_unknown_field", "too_deep", ""),
        ("duplicate_response", "duplicate_key", "key response"),
        ("duplicate_spaced", "duplicate_key", "key response"),
        ("duplicate_escaped", "duplicate_key", "key response"),
        ("duplicate_content", "duplicate_key", "key content"),
        ("no_response", "missing_field", "response"),
        ("null_response", "wrong_type", "response"),
        ("cloudevent_without_type", "invalid_cloudevent", "type"),
        ("ten_megabytes", "too_large", ""),
    ],
)
def test_reasons_tell_the_causes_apart(name: str, reason: str, field: str) -> None:
    """The reason classifies the cause and the detail begins with the field."""
    error = refusal(malformed.shapes()[name])
    assert error.reason == reason
    assert error.detail.startswith(field)


@pytest.mark.parametrize(("name", "value"), malformed.odd().items(), ids=malformed.odd())
def test_one_odd_value_costs_no_record(name: str, value: bytes) -> None:
    """A value that cannot be used is mended, or absent and counted; all other texts are judged."""
    (trace,) = decoder()(record(value))
    assert isinstance(trace, Trace)
    assert trace.response == ("cut \ufffd here" if name == "lone_surrogate" else "Hello.")
    if name == "number_content":
        assert trace.messages == (Message("user", "1"),)
    elif name != "null_message":
        assert trace.messages == (Message("user", "Hello?"),)
    counted = {"big_integer", "milliseconds", "time_true", "negative_tokens", "negative_latency"}
    times = name.startswith(("time_", "negative_"))
    assert ("left_out.value" in trace.labels) == (name in counted or times)
    assert trace.unread == ()


def test_a_text_that_is_lost_leaves_its_side_unread() -> None:
    """Where what is no message held text, the prompt is blind instead of clean; the rest is judged."""
    trace = decode(messages=[["CANARY"], {"content": "Hello?"}], response="Hi.")
    assert trace.messages == (Message("user", "Hello?"),)
    assert (trace.unread, trace.missing) == ((Unread(Side.PROMPT, Unreadable.FOREIGN),), ("content",))
    assert trace.labels == {"left_out.value": "1"}


@pytest.mark.parametrize(
    ("fields", "unread"),
    [
        ({"response": "", "usage": {"output_tokens": 3}}, Unread(Side.RESPONSE, Unreadable.NO_CONTENT)),
        ({"response": "[REDACTED]"}, Unread(Side.RESPONSE, Unreadable.REDACTED)),
        ({"messages": [{"content": "__REDACTED__"}]}, Unread(Side.PROMPT, Unreadable.REDACTED)),
        ({"messages": None, "usage": {"input_tokens": 3}}, Unread(Side.PROMPT, Unreadable.NO_CONTENT)),
        ({"context": [{"content": "****"}]}, Unread(Side.DOCUMENTS, Unreadable.REDACTED)),
        ({"context": [{"id": "d"}]}, Unread(Side.DOCUMENTS, Unreadable.NO_CONTENT)),
        ({"response": ""}, None),
        ({"response": "", "usage": {"output_tokens": 0}}, None),
        ({"response": "", "usage": {"output_tokens": 3}, "finish_reason": "error"}, None),
        ({"response": "", "usage": {"output_tokens": 3}, "finish_reason": "content_filter"}, None),
        ({"response": "", "usage": {"output_tokens": 3}, "tool_calls": [{"name": "f"}]}, None),
    ],
)
def test_what_must_have_been_a_text_is_unread(fields: dict[str, Any], unread: Unread | None) -> None:
    """Tokens without text and redaction markers are unread; an empty answer by nature is not."""
    trace = decode(**({"response": "Hi.", "messages": [{"content": "Hello?"}]} | fields))
    assert trace.unread == ((unread,) if unread else ())
    assert trace.missing == (("content",) if unread else ())
    assert "REDACTED" not in trace.response + trace.prompt()


def test_bounds_are_inclusive() -> None:
    """A record of exactly the largest size and depth is decoded; one more is not."""
    value = b'{"response": "", "x": [[[]]]}'
    assert decoder(len(value), 4)(record(value))
    for bounds, reason in (((len(value) - 1, 4), "too_large"), ((len(value), 3), "too_deep")):
        with pytest.raises(BadTrace) as caught:
            decoder(*bounds)(record(value))
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("step", "wanted", "counted"),
    [
        ({"kind": "CANARY"}, {"kind": StepKind.OTHER}, False),
        ({"parent": 1}, {"parent": -1}, False),
        ({"parent": -2}, {"parent": -1}, True),
        ({"seconds": -1}, {"seconds": 0.0}, True),
        ({"input": {"CANARY": 1}}, {"input": '{"CANARY":1}'}, False),
    ],
)
def test_steps_that_cannot_be_are_mended(
    step: dict[str, Any],
    wanted: dict[str, Any],
    counted: bool,  # noqa: FBT001 - drawn
) -> None:
    """A step's kind is a known one and its parent stands before it, so that a run is a tree."""
    trace = decode(steps=[{}, step])
    assert {name: getattr(trace.steps[1], name) for name in wanted} == wanted
    assert ("left_out.value" in trace.labels) == counted


def test_names_of_steps_are_cleaned() -> None:
    """Names, ids and errors of steps may be logged, so one that looks like personal data is replaced."""
    trace = decode(agent="jane@example.com", steps=[{"name": "jane@example.com", "error": "Jane Doe"}])
    assert "jane" not in f"{trace.agent}{trace.steps[0].name}{trace.steps[0].error}".lower()


def test_a_duplicate_of_an_unknown_key_is_not_named() -> None:
    """A key that is not documented may be somebody's text, so the message does not repeat it."""
    error = refusal(b'{"response": "", "x": {"jane doe": 1, "jane doe": 2}}')
    assert error.reason == "duplicate_key"
    assert "jane" not in str(error)


VALIDATOR = jsonschema.Draft202012Validator(schema())
CANARY = "CANARY 4111 1111 1111 1111"


@given(
    st.sampled_from(sorted(FULL)), st.sampled_from([CANARY, [CANARY], {CANARY: CANARY}, [{"role": CANARY}]])
)
def test_errors_never_quote_the_record(field: str, value: object) -> None:
    """Whatever is wrong with a field, the message holds nothing of what was sent."""
    try:
        decode(**{field: value})
    except BadTrace as error:
        assert "CANARY" not in str(error)  # noqa: PT017 - most of the combinations are valid
        assert "4111" not in str(error)  # noqa: PT017 - see above


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@given(st.data())
def test_swapped_types_are_refused_or_decoded(data: st.DataObject) -> None:
    """Any JSON value in the place of any field is either a trace or a BadTrace of a known reason."""
    fields = dict(FULL)
    for name in data.draw(st.sets(st.sampled_from(sorted(FULL)), min_size=1, max_size=3)):
        fields[name] = data.draw(json_values)
    _decodes_or_refuses(json.dumps(fields).encode())


@given(st.data())
def test_damaged_bytes_are_refused_or_decoded(data: st.DataObject) -> None:
    """Flipped bits, cuts, repeats and insertions never raise anything but BadTrace."""
    value = bytearray(json.dumps(FULL).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, max(0, len(value) - 1)))
        end = data.draw(st.integers(start, min(len(value), start + 40)))
        match data.draw(st.sampled_from(["flip", "cut", "repeat", "insert", "truncate"])):
            case "flip" if value:
                value[start] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del value[start:end]
            case "repeat":
                value[start:start] = value[start:end]
            case "insert":
                value[start:start] = data.draw(st.binary(max_size=8))
            case _:
                del value[end:]
    _decodes_or_refuses(bytes(value))


def _decodes_or_refuses(value: bytes) -> None:
    try:
        (trace,) = decoder()(record(value))
    except BadTrace as error:
        assert error.reason in REASONS  # noqa: PT017 - both outcomes are legal
        assert error.detail  # noqa: PT017 - see above
    else:
        wire = msgspec.msgpack.encode(trace)
        assert msgspec.msgpack.decode(wire, type=Trace) == trace


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
messages = st.builds(Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=texts)
traces = st.builds(
    Trace,
    id=st.from_regex(r"[a-z]{1,20}", fullmatch=True),
    time=st.floats(0, 4e9),
    response=texts,
    app=st.from_regex(r"[a-z-]{1,20}", fullmatch=True),
    user=st.just(""),
    messages=st.lists(messages, max_size=3).map(tuple),
    context=st.lists(st.builds(Document, id=texts, content=texts), max_size=3).map(tuple),
    tool_calls=st.lists(st.builds(ToolCall, name=texts, arguments=texts, result=texts), max_size=2).map(
        tuple
    ),
    alternatives=st.lists(texts, max_size=3).map(tuple),
    logprobs=st.lists(st.floats(-100, 0), max_size=3).map(tuple),
    usage=st.none() | st.builds(Usage, st.integers(0, 10**6), st.none()),
    latency=st.none() | st.floats(0, 1e4),
    labels=st.dictionaries(texts, texts, max_size=3),
)


@given(traces, st.booleans())
def test_a_trace_written_as_native_json_comes_back(trace: Trace, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    """Encoding a trace under its field names and decoding it is the identity, but for what has no text."""
    value = json.dumps(msgspec.to_builtins(trace), ensure_ascii=ascii_only, indent=1).encode()
    (found,) = decoder_for(IngestConfig(redaction_markers=[]), str)(record(value))
    assert isinstance(found, Trace)
    assert msgspec.structs.replace(found, unread=(), missing=(), emitter="") == trace


@given(traces)
def test_the_schema_accepts_what_the_decoder_accepts(trace: Trace) -> None:
    """Every decodable trace validates against the published JSON Schema."""
    assert VALIDATOR.is_valid(json.loads(msgspec.json.encode(trace)))


@pytest.mark.parametrize("name", ["no_response", "null_response", "number_content", "negative_tokens"])
def test_the_schema_refuses_what_the_decoder_mends(name: str) -> None:
    """The published JSON Schema is no looser than decoding on types, bounds and required fields."""
    value = {**malformed.shapes(), **malformed.odd()}[name]
    assert value is not None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(value), schema())


def test_the_schema_describes_every_field() -> None:
    """Each property tells a producer what to send; what assembly finds is not theirs."""
    parts = schema()["$defs"]
    assert set(parts["NativeTrace"]["properties"]) == set(Trace.__struct_fields__) - {
        "missing",
        "unread",
        "emitter",
        "revision",
        "ended",
    }
    for part in parts.values():
        for name, field in part["properties"].items():
            assert field.get("description") or "$ref" in json.dumps(field), name


@given(
    error=st.none() | st.sampled_from(["RateLimitError", "openai.Timeout", "error"]),
    finish=st.none() | st.sampled_from(["error", "stop"]),
    response=st.sampled_from(["", "It begins"]),
)
def test_a_failed_call_says_the_type_of_its_error(
    error: str | None, finish: str | None, response: str
) -> None:
    """An error, or an end by one, is a failure with a type for rules and metrics, and no blind answer."""
    sent = {"response": response, "error": error, "finish_reason": finish, "usage": {"output_tokens": 3}}
    (trace,) = decoder()(record(json.dumps(sent).encode()))
    assert isinstance(trace, Trace)
    failed = bool(error) or finish == "error"
    assert trace.error == ((error or "error") if failed else "")
    assert trace.labels.get("error", "") == trace.error
    assert trace.finish_reason == (finish or ("error" if failed else ""))
    assert (Side.RESPONSE in {each.side for each in trace.unread}) == (not response and not failed)


def test_the_decoder_is_chosen_per_topic() -> None:
    """`decoder_for` applies the configured bounds to topics that are listed and to those that are not."""
    config = IngestConfig(max_record_bytes=20, formats={"other": "native"})
    decode_record = decoder_for(config, str)
    for topic in ("llm.traces", "other"):
        (trace,) = decode_record(record(b'{"response": "a"}', topic=topic))
        assert isinstance(trace, Trace)
        assert trace.response == "a"
        with pytest.raises(BadTrace):
            decode_record(record(b'{"response": "much more"}', topic=topic))
