"""Framings come off around every format: a schema registry's prefix and CloudEvents, alone or both."""

import base64
import json
import zlib
from typing import Any

import pytest
from gateway_payloads import AGENTO11Y, KONG, LITELLM, NATIVE, PAIR
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import FORMATS, Decode, decoder
from monitor.ingest.framing import unframe
from monitor.ingest.strict_json import parse
from monitor.trace import Record, Trace

DECODERS: dict[str, Decode] = {
    name: decoder(name, IngestConfig(max_record_bytes=20_000), str) for name in FORMATS
}
PAYLOADS: dict[str, Any] = {
    "native": NATIVE,
    "openai": PAIR,
    "litellm": LITELLM,
    "kong": KONG,
    "agento11y": AGENTO11Y,
}
SCHEMA = b"\x00\x00\x00\x00\x2a"  # of id 42
EVENT: dict[str, Any] = {"specversion": "1.0", "id": "event-1", "source": "/gateway", "type": "llm.call"}
BINARY = tuple((f"ce_{name}", text.encode()) for name, text in EVENT.items())
GLUE = bytes([3, 0]) + bytes(range(16))
GLUE_ZLIB = bytes([3, 5]) + bytes(range(16))
STRUCTURED = (("content-type", b"application/cloudevents+json"),)


def record(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    """A record of the given value."""
    return Record("t", 0, 0, 5.0, None, value, headers)


def plain(
    value: bytes, headers: tuple[tuple[str, bytes], ...] = (), *, protobuf: bool = False
) -> bytes | None:
    """The value of the record without its framing."""
    read = unframe(record(value, headers), lambda raw: parse(raw, 20, ()), 20_000, protobuf=protobuf)
    return read.value


def refusal(value: bytes, headers: tuple[tuple[str, bytes], ...] = (), *, protobuf: bool = False) -> BadTrace:
    """The error that taking the framing off raises."""
    with pytest.raises(BadTrace) as caught:
        plain(value, headers, protobuf=protobuf)
    return caught.value


def ways(payload: object) -> dict[str, Record]:
    """A payload in every framing that carries it whole."""
    raw = json.dumps(payload).encode()
    structured: dict[str, dict[str, Any]] = {
        "object": {"data": payload},
        "string": {"data": raw.decode(), "datacontenttype": "application/json"},
        "base64": {"data_base64": base64.b64encode(raw).decode()},
    }
    framed = {name: json.dumps(EVENT | data).encode() for name, data in structured.items()}
    return {
        "registry": record(SCHEMA + raw),
        "glue": record(GLUE + raw),
        "glue, compressed": record(GLUE_ZLIB + zlib.compress(raw)),
        "glue, binary event": record(GLUE + raw, BINARY),
        "registry by header": record(raw, (("__value_schema_id", b"\x01" + bytes(16)),)),
        "binary event": record(raw, BINARY),
        "binary event, registry": record(SCHEMA + raw, BINARY),
        **{f"event, {name}": record(value, STRUCTURED) for name, value in framed.items()},
        **{f"event without header, {name}": record(value) for name, value in framed.items()},
        **{f"event, registry, {name}": record(SCHEMA + value, STRUCTURED) for name, value in framed.items()},
    }


@pytest.mark.parametrize("form", PAYLOADS)
@pytest.mark.parametrize("way", ways({}))
def test_every_framing_comes_off_every_format(form: str, way: str) -> None:
    """Whatever is around a payload, its traces are those of the bare one."""
    bare = DECODERS[form](record(json.dumps(PAYLOADS[form]).encode()))
    framed = ways(PAYLOADS[form])[way]
    assert DECODERS[form](framed) == bare
    assert DECODERS["auto"](framed) == bare


@pytest.mark.parametrize("form", PAYLOADS)
def test_the_event_stands_in_for_what_a_payload_lacks(form: str) -> None:
    """Where a payload has no id and time of its own, the event's are the trace's, in every format."""
    lacking: dict[str, Any] = {
        "native": {"response": "Hi."},
        "openai": {"request": {}, "response": {"choices": []}},
        "litellm": {"call_type": "completion", "response": "Hi."},
        "kong": {"ai": {"proxy": {}}},
        "agento11y": {"generations": [{}]},
    }
    event = EVENT | {"time": "2023-11-14T22:13:20Z", "data": lacking[form]}
    (trace,) = DECODERS[form](record(json.dumps(event).encode(), STRUCTURED))
    assert isinstance(trace, Trace)
    assert (trace.id, trace.time) == ("event-1", 1_700_000_000.0)


@pytest.mark.parametrize("payload", [b"\x02\x06abc", b"\x00\x0a\x03abc", b"\xff"])
def test_avro_and_protobuf_of_a_registry_are_refused_for_json(payload: bytes) -> None:
    """Behind the prefix of a JSON format must be JSON; the detail says what to do instead."""
    error = refusal(SCHEMA + payload)
    assert error.reason == "invalid_framing"
    assert "JSON Schema serializer" in error.detail


@pytest.mark.parametrize("value", [SCHEMA[:1], SCHEMA[:4], SCHEMA])
def test_a_prefix_without_payload_is_refused(value: bytes) -> None:
    """A value that ends within the prefix, or right behind it, is refused for either kind of format."""
    for protobuf in (False, True):
        assert refusal(value, protobuf=protobuf).reason == "invalid_framing"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (GLUE[:5], "invalid_framing"),
        (GLUE, "invalid_framing"),
        (bytes([3, 7]) + GLUE[2:] + b"{}", "invalid_framing"),
        (GLUE + b"\x02\x06abc", "invalid_framing"),
        (GLUE_ZLIB + b"{}", "invalid_framing"),
        (GLUE_ZLIB + zlib.compress(b"\x02\x06abc"), "invalid_framing"),
        (GLUE_ZLIB + zlib.compress(b"[" + b" " * 10**7 + b"]"), "too_large"),
    ],
)
def test_what_is_wrong_with_glues_framing_is_said(value: bytes, reason: str) -> None:
    """AWS Glue's header is named; what it holds other than JSON, or too much of, is refused."""
    error = refusal(value)
    assert error.reason == reason
    assert reason == "too_large" or "AWS Glue" in error.detail


def test_glue_is_refused_for_protobuf() -> None:
    """Its serializer puts an index before the message, so the detail names it and what to do instead."""
    error = refusal(GLUE + b"\x00\x0a\x03abc", protobuf=True)
    assert (error.reason, "AWS Glue" in error.detail) == ("invalid_framing", True)


@pytest.mark.parametrize("path", [b"\x00", b"\x02\x00", b"\x02\x02", b"\x04\x02\x00", b"\x02\x80\x02"])
def test_the_path_of_a_protobuf_message_is_taken_off(path: bytes) -> None:
    """Count and indexes of the message's path, zigzag varints, are no part of the payload."""
    assert plain(SCHEMA + path + b"\x0a\x03abc", protobuf=True) == b"\x0a\x03abc"


@pytest.mark.parametrize("path", [b"\x01", b"\x7e", b"\x06\x00\x00", b"\x80\x80\x80\x80\x80\x80"])
def test_a_path_that_is_none_is_refused(path: bytes) -> None:
    """Negative, endless and unfinished paths are refused."""
    assert refusal(SCHEMA + path, protobuf=True).reason == "invalid_framing"


def test_events_carry_protobuf() -> None:
    """A binary event's value, and `data_base64` of a structured one, are Protobuf as they are."""
    payload = b"\x0a\x03abc"
    kind = (*BINARY, ("content-type", b"application/x-protobuf"))
    assert plain(payload, kind, protobuf=True) == payload
    structured = json.dumps(EVENT | {"data_base64": base64.b64encode(payload).decode()}).encode()
    assert plain(structured, STRUCTURED, protobuf=True) == payload
    assert plain(b'\x0a\x0d"specversion"', protobuf=True) == b'\x0a\x0d"specversion"'
    for value, headers in (
        (payload, (*BINARY, ("content-type", b"application/json"))),
        (json.dumps(EVENT | {"data": {}}).encode(), STRUCTURED),
    ):
        assert refusal(value, headers, protobuf=True).reason == "invalid_cloudevent"


def test_the_data_of_an_event_stay_as_they_were_sent() -> None:
    """A payload is not written anew: its spelling, and so its hash, survive the envelope."""
    payload = '{ "response" : "caf\\u00e9", "x": 1.50 }'
    event = json.dumps(EVENT)[:-1] + ', "data": ' + payload + "}"
    assert plain(event.encode()) == payload.encode()


def test_an_empty_event_is_refused() -> None:
    """Data of no bytes are as bad as a record without value."""
    for data in ({"data": ""}, {"data_base64": ""}):
        assert refusal(json.dumps(EVENT | data).encode(), STRUCTURED).reason == "empty"


def test_a_text_that_mentions_an_envelope_is_none() -> None:
    """The word in a text, or as a key beside a response, makes no event of a payload."""
    for payload in ({"response": '{"specversion": "1.0"}'}, {"response": "a", "x": {"specversion": "1.0"}}):
        raw = json.dumps(payload, ensure_ascii=False).encode()
        (trace,) = DECODERS["native"](record(raw))
        assert isinstance(trace, Trace)


@given(st.binary(max_size=40), st.booleans(), st.sampled_from([(), BINARY, STRUCTURED]))
def test_any_bytes_are_unframed_or_refused(
    value: bytes,
    protobuf: bool,  # noqa: FBT001 - drawn
    headers: tuple[tuple[str, bytes], ...],
) -> None:
    """Whatever a value begins with, the payload is a suffix of it or the record is refused."""
    for candidate in (value, SCHEMA + value):
        try:
            read = plain(candidate, headers, protobuf=protobuf)
        except BadTrace as error:
            assert error.detail  # noqa: PT017 - both outcomes are legal
        else:
            assert read
            assert candidate.endswith(read)
