"""Generations in protobuf read as the same ones in JSON do, and what is none is refused with a remedy."""

import base64
import json
from typing import Any

import pytest
from gateway_payloads import AGENTO11Y
from generation_wire import encoded, field
from hypothesis import given
from hypothesis import strategies as st

from monitor.bench import decode as bench_decode
from monitor.config import Format, IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import decoder
from monitor.trace import Message, Record, Trace, Usage

DECODERS = {
    name: decoder(name, IngestConfig(), lambda user: f"pseudonym-{len(user)}")
    for name in ("agento11y", "agento11y_proto", "auto", "otlp_proto")
}
ONE: dict[str, Any] = AGENTO11Y["generations"][0]


def decode(value: bytes, form: Format = "agento11y_proto") -> list[Trace]:
    """The traces of a record of these bytes."""
    pieces = DECODERS[form](Record("t", 0, 7, 1_600_000_000.0, None, value))
    return [piece for piece in pieces if isinstance(piece, Trace)]


def refusal(value: bytes, form: Format = "agento11y_proto") -> BadTrace:
    """The error that decoding these bytes raises."""
    with pytest.raises(BadTrace) as caught:
        decode(value, form)
    return caught.value


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.sampled_from(["c1", "c2", "order", ""])
in_base64 = st.dictionaries(texts, texts | st.integers(), max_size=2).map(
    lambda held: base64.b64encode(json.dumps(held).encode()).decode()
)
parts = st.one_of(
    texts.map(lambda text: {"text": text}),
    texts.map(lambda text: {"thinking": text}),
    st.builds(lambda own, name, held: {"tool_call": {"id": own, "name": name, "input_json": held}},
              names, names, in_base64),
    st.builds(lambda own, text, bad: {"tool_result": {"tool_call_id": own, "content": text, "is_error": bad}},
              names, texts, st.booleans()),
    st.builds(lambda own, held: {"tool_result": {"tool_call_id": own, "content_json": held}},
              names, in_base64),
    st.sampled_from(["image", "audio", "hologram"]).map(lambda kind: {"media": {"kind": kind, "url": "u"}}),
)  # fmt: skip
messages = st.lists(
    st.builds(
        lambda role, held: {"role": f"MESSAGE_ROLE_{role}", "parts": held},
        st.sampled_from(["USER", "ASSISTANT", "TOOL"]),
        st.lists(parts, max_size=3),
    ),
    max_size=3,
)
counts = st.integers(-3, 2**62).map(str)
changes = st.fixed_dictionaries(
    {},
    optional={
        "input": messages,
        "output": messages,
        "system_prompt": texts,
        "usage": st.fixed_dictionaries({}, optional={"input_tokens": counts, "output_tokens": counts}),
        "started_at": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
        "stop_reason": texts,
        "call_error": texts | st.just("RateLimitError: my card"),
        "tags": st.dictionaries(texts, texts, max_size=3),
        "metadata": st.dictionaries(
            st.sampled_from(["user.id", "sigil.user.id", "agento11y.sdk.content_capture_mode", "x"]),
            texts | st.integers(-5, 5) | st.booleans() | st.none() | st.just("metadata_only"),
        ),
        "agent_name": texts,
        "conversation_id": texts,
        "model": st.builds(lambda name: {"provider": "OpenAI", "name": name}, texts),
    },
)


@given(st.lists(changes, min_size=1, max_size=3))
def test_both_encodings_say_the_same(changed: list[dict[str, Any]]) -> None:
    """Whatever generations hold, their traces are those of the same export in JSON."""
    export = {"generations": [ONE | each | {"id": f"gen-{n}"} for n, each in enumerate(changed)]}
    assert decode(encoded(export)) == decode(json.dumps(export).encode(), "agento11y")


@given(st.binary(min_size=1, max_size=20))
def test_a_text_that_is_no_utf_8_costs_nothing_but_itself(odd: bytes) -> None:
    """Bytes that are no text are read as far as they go, and everything else is judged."""
    broken = field(1, field(12, field(1, b"") + field(3, field(2, odd + b"\xff CANARY"))) + encoded_one())
    (trace,) = decode(broken)
    assert "\ufffd CANARY" in trace.response
    assert (trace.conversation, trace.usage) == ("conv-1", Usage(13, 12))


def encoded_one() -> bytes:
    """The content of the generation, without the field around it."""
    raw = encoded(AGENTO11Y)
    start = next(at for at in range(2, 5) if raw == field(1, raw[at:]))
    return raw[start:]


def test_fields_that_nobody_knows_are_passed_over() -> None:
    """What a newer SDK adds, on any level, changes nothing."""
    newer = field(1, encoded_one() + field(99, b"new") + field(7, field(9, b"new"))) + field(5, b"new")
    assert decode(newer) == decode(encoded(AGENTO11Y))


def test_a_part_with_several_payloads_loses_none() -> None:
    """Protobuf would keep the last; here a text is judged whatever else its part claims to be."""
    part = field(2, b"CANARY") + field(4, field(2, b"order"))
    (trace,) = decode(field(1, encoded_one() + field(11, field(3, part))))
    assert trace.messages[-1] == Message("user", "CANARY")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (encoded(AGENTO11Y)[:-1], "invalid_protobuf"),
        (b"\xff\xff", "invalid_protobuf"),
        (json.dumps(AGENTO11Y).encode(), "invalid_protobuf"),
        (bench_decode.protobuf(bench_decode.request(1)), "missing_field"),
        (field(5, b"new"), "missing_field"),
        (encoded({"generations": [{"id": "a"}]}), "missing_field"),
        (encoded({"generations": [{"id": "a", "model": {"name": "m"}}] * 10_001}), "too_large"),
        (b"", "empty"),
    ],
)
def test_what_is_no_export_is_refused(value: bytes, reason: str) -> None:
    """Other formats and what was cut off are dead letters, not generations without texts."""
    assert refusal(value).reason == reason


def test_the_format_is_recognised_and_named() -> None:
    """`auto` tells it from OTLP, and a topic of OTLP says which format it wants to be."""
    raw = encoded(AGENTO11Y)
    assert decode(raw, "auto") == decode(raw)
    spans = bench_decode.protobuf(bench_decode.request(1))
    record = Record("t", 0, 7, 1_600_000_000.0, None, spans)
    assert DECODERS["auto"](record) == DECODERS["otlp_proto"](record)
    assert "agento11y_proto" in refusal(raw, "otlp_proto").detail


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 400))
def test_whatever_comes_is_read_or_refused(junk: bytes, start: int, end: int) -> None:
    """Bytes in the place of others raise nothing but BadTrace."""
    raw = encoded(AGENTO11Y)
    for value in (junk, raw[:start] + junk + raw[end:], field(1, junk), field(1, encoded_one() + junk)):
        try:
            made = decode(value)
        except BadTrace:
            continue
        assert made
