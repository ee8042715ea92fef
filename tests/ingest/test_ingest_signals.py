"""A Collector's header `otelcol.signal` decides what a record of OTLP holds, whatever the topic's format."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_wire import log_request, request, span_of

from monitor.bench.decode import protobuf
from monitor.config import Format, IngestConfig
from monitor.errors import BadTrace, Skipped
from monitor.ingest import FORMATS, PROTOBUF, Decode, decoder
from monitor.ingest.signals import FORMATS as OTLP
from monitor.ingest.signals import HEADER
from monitor.trace import Record, Span

DECODERS: dict[Format, Decode] = {name: decoder(name, IngestConfig(), str) for name in FORMATS}
SAID: dict[str, Any] = {
    "traces": request(span_of({"gen_ai.operation.name": "chat", "gen_ai.completion": "Hello."})),
    "logs": log_request("gen_ai.choice", {"index": 0, "message": {"content": "Hello."}}),
}
ALONE: dict[str, Format] = {"traces": "otlp_proto", "logs": "otlp_proto_logs"}
_names = st.text(max_size=10).filter(lambda name: name != HEADER)
_others = st.lists(st.tuples(_names.map("x-{}".format), st.binary(max_size=10)), max_size=3)


def record(value: bytes, *headers: tuple[str, bytes]) -> Record:
    """A record of this value."""
    return Record("shared", 0, 0, 5.0, None, value, headers)


@given(st.sampled_from(["otlp_proto", "otlp_proto_logs", "auto"]), st.sampled_from(list(SAID)), _others)
def test_protobuf_is_read_as_its_header_says(
    form: Format, signal: str, others: list[tuple[str, bytes]]
) -> None:
    """Traces and logs on one topic come out as they do on topics of their own, among any other headers."""
    value = protobuf(SAID[signal])
    found = DECODERS[form](record(value, *others, (HEADER, signal.encode())))
    assert found == DECODERS[ALONE[signal]](record(value))
    assert [piece.partial for piece in found if isinstance(piece, Span)] == [signal == "logs"]


@given(st.sampled_from(["otlp_json", "auto"]), st.sampled_from(list(SAID)), _others)
def test_json_with_the_header_is_read_as_without(
    form: Format, signal: str, others: list[tuple[str, bytes]]
) -> None:
    """JSON tells its signal itself; the header changes nothing of traces and logs."""
    value = json.dumps(SAID[signal]).encode()
    found = DECODERS[form](record(value, *others, (HEADER, signal.encode())))
    assert found == DECODERS["otlp_json"](record(value)) != ()


@given(st.sampled_from(sorted(OTLP)), st.sampled_from(["metrics", "profiles"]), st.binary())
def test_signals_without_text_of_a_model_are_skipped(form: Format, signal: str, value: bytes) -> None:
    """Metrics and profiles are neither judged nor dead letters, whatever their bytes; the signal is why."""
    with pytest.raises(Skipped) as skipped:
        DECODERS[form](record(value, (HEADER, signal.encode())))
    assert skipped.value.reason == signal


@given(
    st.sampled_from(sorted(OTLP)),
    st.binary().filter(lambda value: value not in {b"traces", b"logs", b"metrics", b"profiles"}),
)
def test_an_unknown_signal_is_a_dead_letter_that_names_the_header(form: Format, signal: bytes) -> None:
    """What no Collector writes is refused by the header's name; its value is not told."""
    with pytest.raises(BadTrace) as refused:
        DECODERS[form](record(protobuf(SAID["traces"]), (HEADER, signal)))
    assert refused.value.reason == "unknown_signal"
    assert refused.value.detail == f"header {HEADER}: must be traces, logs, metrics or profiles"


@given(st.sampled_from(sorted(FORMATS.keys() - OTLP)), st.binary(max_size=20))
def test_other_formats_do_not_know_the_header(form: Format, signal: bytes) -> None:
    """A gateway's record that carries it is judged by its own format."""
    with pytest.raises(BadTrace) as refused:
        DECODERS[form](record(b"{", (HEADER, signal)))
    assert refused.value.reason == ("invalid_protobuf" if form in PROTOBUF else "invalid_json")
