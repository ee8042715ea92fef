"""`riskmon decode` shows what is made of a payload, without showing more than a log may hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner, Result
from gateway_payloads import KONG, LITELLM, NATIVE, PAIR, REQUEST, sse
from otlp_wire import attributes, request, span_of

from monitor.cli import riskmon
from monitor.cli.decode import fields_of
from monitor.config import Format, IngestConfig
from monitor.ingest import FORMATS, unused
from monitor.trace import Document, Message, Record, Span, Step, StepKind, ToolCall, Trace

SECRET = "jane.miller@example.com"
Decode = Callable[..., Result]


@pytest.fixture
def decode(tmp_path: Path) -> Decode:
    """Run the command on content, written to a file."""

    def run(form: str, content: object, *options: str) -> Result:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "payload").write_bytes(raw)
        return CliRunner().invoke(riskmon, ["decode", form, str(tmp_path / "payload"), *options])

    return run


def rows(result: Result) -> list[dict[str, Any]]:
    """The objects that `--json` printed."""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("form", "payload"), [("native", NATIVE), ("openai", PAIR), ("litellm", LITELLM), ("kong", KONG)]
)
def test_a_payload_is_shown_field_by_field(decode: Decode, form: str, payload: object) -> None:
    """Each field that is set is printed with its value, in each format and recognised by itself; exit 0."""
    for name in (form, "auto"):
        shown = decode(name, payload)
        assert shown.exit_code == 0
        assert "record 1: trace 1 of 1" in shown.output
        assert "chatcmpl-B9" in shown.output
        (row,) = rows(decode(name, payload, "--json"))
        (trace,) = row["traces"]
        assert trace["messages[1].content"] == {"chars": 33, "text": "Can I return shoes after 40 days?"}
        assert (trace["usage.input_tokens"], trace["finish_reason"], row["spans"]) == (13, "stop", [])


def test_spans_that_look_like_a_model_call_say_which_attributes_were_left(decode: Decode) -> None:
    """A span of no dialect with a model's attributes names its instrumentation and what nobody read of it."""
    scope = {"name": "acme.instrumentation", "version": "3.1"}
    sent = request(span_of({"llm.acme.prompt": "Hi?", "llm.acme.jane miller": "x", "http.route": "/v1"}))
    sent["resourceSpans"][0]["scopeSpans"][0]["scope"] = scope
    (row,) = rows(decode("otlp_json", sent, "--json"))
    assert row["spans"][0]["foreign"] == "acme.instrumentation@3.1"
    assert row["unused"] == {"llm.acme.prompt": 1, "http.route": 1, "…": 1}
    shown = decode("auto", sent).output
    assert "spans of acme.instrumentation@3.1 look like calls of a model" in shown
    assert "jane" not in shown
    plain = request(span_of({"http.route": "/v1", "traceloop.association.properties.user_id": "u-1"}))
    (row,) = rows(decode("otlp_json", plain, "--json"))
    assert (row["unused"], "foreign" in row["spans"][0]) == ({}, False)


def test_events_that_look_like_a_model_call_are_named(decode: Decode) -> None:
    """Of a span of no dialect the events are listed by name, after those words, and their texts are not."""
    events = [{"name": "gen_ai.acme.answer", "attributes": attributes({"text": "Hi Jane"})}] * 2
    sent = request(span_of({"http.route": "/v1"}, events=[*events, {"name": "jane miller"}]))
    (row,) = rows(decode("otlp_json", sent, "--json"))
    assert row["unused"] == {"http.route": 1, "event gen_ai.acme.answer": 2, "event …": 1}
    shown = decode("auto", sent).output
    assert "spans of unknown look like calls of a model" in shown
    assert "event gen_ai.acme.answer (2)" in shown
    assert "jane" not in shown.lower()


def test_identifiers_that_were_hashed_are_named(decode: Decode) -> None:
    """What is hashed on entry is listed by its field, in every format, and a readable title is not."""
    shown = decode("native", NATIVE | {"app": SECRET, "agent": "Math Tutor"}).output
    assert "hashed: app;" in shown
    assert "Math Tutor" in shown
    assert SECRET not in shown
    assert "hashed" not in decode("native", NATIVE).output


def test_what_is_not_used_is_counted_by_name(decode: Decode) -> None:
    """Keys that no field comes from are listed as paths; one that may be somebody's text is not named."""
    payload = {**PAIR, "request": json.dumps(REQUEST | {"jane miller": 1, "seed": 1})}
    (row,) = rows(decode("openai", payload, "--json"))
    assert row["unused"] == {
        "request.temperature": 1,
        "request.…": 1,
        "request.seed": 1,
        "response.object": 1,
        "response.choices.message.role": 1,
        "response.choices.message.annotations": 1,
        "response.usage.total_tokens": 1,
    }
    assert "not used: request.seed, request.temperature" in decode("openai", payload).output
    (wrapped,) = rows(decode("litellm", [LITELLM, LITELLM], "--json"))
    assert wrapped["unused"]["api_base"] == 2
    assert wrapped["unused"]["metadata.requester_custom_headers"] == 2


def test_nothing_unused_is_reported_of_what_is_read() -> None:
    """A payload of only the fields that are read leaves nothing unused, streams included."""
    config = IngestConfig()
    for form, payload in (
        ("native", NATIVE),
        ("openai", {"request": {"messages": []}, "chunks": [{"type": "response.created", "response": {}}]}),
        ("openai", {"request": {"messages": []}, "response": sse([{"choices": []}])}),
    ):
        record = Record("t", 0, 0, 5.0, None, json.dumps(payload).encode())
        assert not unused(form, config, record), form


def test_texts_are_redacted_unless_asked_for(decode: Decode) -> None:
    """Personal data of a text appear only with `--raw`, and control characters never as they are."""
    payload = {"response": f"Write to {SECRET}.\x1b[2J", "labels": {"owner": SECRET, SECRET: "x"}}
    for options in ((), ("--json",)):
        shown = decode("native", payload, *options)
        assert SECRET not in shown.output
        assert "<EMAIL_ADDRESS>" in shown.output
        assert "\x1b" not in shown.output
    raw = decode("native", payload, "--raw")
    assert SECRET in raw.output
    assert "\x1b" not in raw.output
    (row,) = rows(decode("native", payload, "--raw", "--json"))
    assert row["traces"][0]["response"]["text"] == payload["response"]


def test_bad_payloads_exit_65_with_the_reason(decode: Decode) -> None:
    """What would be a dead letter is shown with its reason and field; the others are shown all the same."""
    lines = [json.dumps(NATIVE), "", '{"response": null}', json.dumps(NATIVE), "{"]
    shown = decode("native", "\n".join(lines).encode(), "--json")
    assert shown.exit_code == 65
    first, second, third, fourth = rows(shown)
    assert (first["record"], third["record"]) == (1, 4)
    assert second == {
        "error": {"reason": "wrong_type", "detail": "response: expected str, got null"},
        "record": 3,
    }
    assert fourth["error"]["reason"] == "invalid_json"
    assert "record 3: cannot be judged: wrong_type" in decode("native", "\n".join(lines).encode()).output


@pytest.mark.parametrize("indent", [None, 2])
def test_one_payload_may_span_lines(decode: Decode, indent: int | None) -> None:
    """A pretty-printed object, and one with a line break behind it, are one payload; so is a broken one."""
    content = json.dumps(NATIVE, indent=indent) + "\n"
    assert len(rows(decode("native", content.encode(), "--json"))) == 1
    broken = decode("native", json.dumps(NATIVE, indent=2)[:-1].encode(), "--json")
    assert (broken.exit_code, len(rows(broken))) == (65, 1)


def test_framed_bytes_are_one_payload(decode: Decode) -> None:
    """A value with a schema registry's prefix is not cut at line breaks."""
    content = b"\x00\x00\x00\x00\x0a" + json.dumps(NATIVE, indent=2).encode()
    assert decode("native", content).exit_code == 0


def test_a_record_without_exchange_says_so(decode: Decode) -> None:
    """An embedding is decoded to nothing, which is said and is no error."""
    shown = decode("litellm", LITELLM | {"call_type": "aembedding"})
    assert (shown.exit_code, "holds no exchange" in shown.output) == (0, True)


def test_standard_input_is_read() -> None:
    """`-` reads what is piped in."""
    shown = CliRunner().invoke(riskmon, ["decode", "auto", "-"], input=json.dumps(KONG))
    assert shown.exit_code == 0


def test_an_unknown_format_names_those_there_are(decode: Decode) -> None:
    """A misspelt format is a usage error with the choice; the choice is the configuration's."""
    shown = decode("natve", NATIVE)
    assert shown.exit_code == 2
    assert "is none of native, otlp_json, otlp_proto," in shown.output
    assert set(FORMATS) == set(get_args(Format))


def test_spans_are_shown_like_traces() -> None:
    """Every text of a span, at any depth, counts as one; ids, names and kinds do not."""
    span = Span(
        trace_id="a1",
        span_id="b1",
        step=Step(kind=StepKind.TOOL, name="order", input="TEXT 1", output="TEXT 2"),
        exchange=Trace(
            id="c1",
            time=1.0,
            response="TEXT 3",
            messages=(Message("user", "TEXT 4"),),
            alternatives=("TEXT 5",),
            missing=("content",),
            labels={"TEXT 6": "TEXT 7"},
        ),
        documents=(Document("TEXT 8", "TEXT 9", 0.5),),
        call=ToolCall("TEXT 10", "TEXT 11", "TEXT 12", "TEXT 13"),
    )
    fields = list(fields_of(span))
    assert {value for _, value, is_text in fields if is_text} == {f"TEXT {n}" for n in range(1, 14) if n != 6}
    assert not any("TEXT" in path for path, _, _ in fields)
    assert {path: value for path, value, is_text in fields if not is_text} == {
        "trace_id": "a1",
        "span_id": "b1",
        "step.kind": "tool",
        "step.name": "order",
        "step.parent": -1,
        "step.start": 0.0,
        "step.seconds": 0.0,
        "app": "unknown",
        "environment": "unknown",
        "end": 0.0,
        "exchange.id": "c1",
        "exchange.time": 1.0,
        "exchange.app": "unknown",
        "exchange.environment": "unknown",
        "exchange.provider": "unknown",
        "exchange.model": "unknown",
        "exchange.messages[0].role": "user",
        "exchange.revision": 0,
        "log_only": False,
        "exchange.missing[0]": "content",
        "documents[0].score": 0.5,
        "call.error": False,
        "partial": False,
        "size": 0,
    }
