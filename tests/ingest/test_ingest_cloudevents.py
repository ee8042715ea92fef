"""CloudEvents, binary and structured, decode to the trace they carry."""

import base64
import json
from typing import Any

import pytest

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import decoder_for
from monitor.trace import Record, Trace

TRACE = {"response": "Hi.", "app": "shop"}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "event-1",
    "source": "/apps/shop",
    "type": "io.modelrisk.trace.v1",
    "time": "2023-11-14T22:13:20Z",
}
STRUCTURED = (("Content-Type", b"Application/CloudEvents+json; charset=utf-8"),)
BINARY = tuple((f"ce_{name}", str(text).encode()) for name, text in EVENT.items())


def decode(value: object, headers: tuple[tuple[str, bytes], ...] = ()) -> Trace:
    """The trace of a record with this JSON value and these headers."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    decode_record = decoder_for(IngestConfig(max_record_bytes=10_000, max_depth=20), str)
    (trace,) = decode_record(Record("t", 0, 0, 5.0, None, raw, headers))
    assert isinstance(trace, Trace)
    return trace


WRAPPED = Trace(id="event-1", time=1_700_000_000.0, response="Hi.", app="shop", emitter="native")


def test_structured_events_are_unwrapped() -> None:
    """With the header, or without it as in a file, the trace is the event's data."""
    event = EVENT | {"data": TRACE, "datacontenttype": "application/json"}
    assert decode(event, STRUCTURED) == WRAPPED
    assert decode(event) == WRAPPED


def test_binary_data_in_a_structured_event_is_unwrapped() -> None:
    """`data_base64` holds the bytes of the trace."""
    encoded = base64.b64encode(json.dumps(TRACE).encode()).decode()
    assert decode(EVENT | {"data_base64": encoded}, STRUCTURED) == WRAPPED


def test_binary_events_are_unwrapped() -> None:
    """With `ce_` headers the value itself is the trace."""
    assert decode(TRACE, (*BINARY, ("content-type", b"application/json"))) == WRAPPED
    assert decode(TRACE, BINARY) == WRAPPED


def test_the_trace_knows_better_than_its_envelope() -> None:
    """Id and time of the trace win over those of the event, and those of the event over the record's."""
    own = TRACE | {"id": "mine", "time": 7}
    for trace in (decode(EVENT | {"data": own}), decode(own, BINARY)):
        assert (trace.id, trace.time) == ("mine", 7.0)
    untimed = {name: value for name, value in EVENT.items() if name != "time"}
    assert decode(untimed | {"data": TRACE}).time == 5.0


def test_other_headers_mean_nothing() -> None:
    """Headers that are not CloudEvents' leave a plain trace a plain trace, whatever bytes they hold."""
    headers = (("traceparent", b"\xff"), ("content-type", b"application/json"))
    assert decode(TRACE | {"id": "a"}, headers) == decode(TRACE | {"id": "a"})


def test_a_trace_that_mentions_specversion_is_not_an_event() -> None:
    """An object with `response` is a trace, whatever else it holds."""
    assert decode(TRACE | {"id": "a", "specversion": "1.0", "data": 1}).response == "Hi."


@pytest.mark.parametrize(
    ("value", "headers", "field"),
    [
        (EVENT, (), "data"),
        (EVENT | {"data": None}, STRUCTURED, "data"),
        (EVENT | {"data_base64": 7}, STRUCTURED, "data"),
        (EVENT | {"data_base64": "é"}, STRUCTURED, "data_base64"),
        (EVENT | {"data_base64": "abc"}, STRUCTURED, "data_base64"),
        (EVENT | {"data": TRACE, "specversion": "0.3"}, (), "specversion"),
        (EVENT | {"data": TRACE, "specversion": 1}, (), "specversion"),
        (EVENT | {"data": TRACE, "id": ""}, (), "id"),
        (EVENT | {"data": TRACE, "source": None}, (), "source"),
        (EVENT | {"data": TRACE, "type": 1}, (), "type"),
        (EVENT | {"data": TRACE, "time": 7}, (), "time"),
        (EVENT | {"data": TRACE, "datacontenttype": "text/plain"}, (), "datacontenttype"),
        (EVENT | {"data": TRACE, "datacontenttype": 1}, (), "datacontenttype"),
        ([EVENT | {"data": TRACE}], STRUCTURED, "must be a JSON object"),
        (TRACE, STRUCTURED, "specversion"),
        (TRACE, (("content-type", b"application/cloudevents-batch+json"),), "header content-type"),
        (TRACE, (("content-type", b"application/cloudevents+avro"),), "header content-type"),
        (TRACE, BINARY[:2], "header ce_source"),
        (TRACE, (*BINARY, ("content-type", b"application/avro")), "header content-type"),
        (TRACE, (("ce_specversion", b"\xff"),), "header ce_specversion"),
        (TRACE, (*BINARY, ("ce_jane doe", b"\xff")), "header ce_…"),
    ],
)
def test_broken_envelopes_are_refused(
    value: object, headers: tuple[tuple[str, bytes], ...], field: str
) -> None:
    """An envelope against the specification is a dead letter that names the attribute."""
    with pytest.raises(BadTrace) as caught:
        decode(value, headers)
    assert caught.value.reason == "invalid_cloudevent"
    assert caught.value.detail.startswith(field)


def test_a_bad_event_time_is_refused() -> None:
    """A time that the trace would fall back on must be one."""
    with pytest.raises(BadTrace) as caught:
        decode(EVENT | {"data": TRACE, "time": "noon"})
    assert caught.value.reason == "out_of_range"


def test_the_payload_of_an_event_is_as_strict_as_a_bare_one() -> None:
    """Wrapping hides no fault: types, duplicates and depth inside an event are checked."""
    duplicate = base64.b64encode(b'{"response": "a", "response": "b"}').decode()
    deep = b'{"response": "", "x": ' + b"[" * 30 + b"]" * 30 + b"}"
    for value, headers, reason in (
        (EVENT | {"data": "Hi."}, (), "invalid_json"),
        (EVENT | {"data": "7"}, (), "wrong_type"),
        (EVENT | {"data": {"response": None}}, (), "wrong_type"),
        (EVENT | {"data_base64": duplicate}, (), "duplicate_key"),
        (EVENT | {"data_base64": base64.b64encode(deep).decode()}, (), "too_deep"),
        (deep, BINARY, "too_deep"),
    ):
        with pytest.raises(BadTrace) as caught:
            decode(value, headers)
        assert caught.value.reason == reason
