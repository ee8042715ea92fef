"""Generations of Grafana's Agent Observability SDKs: everything that protobuf's JSON allows reads alike."""

import base64
import copy
import json
import re
from typing import Any

import pytest
from gateway_payloads import AGENTO11Y, ANSWER, MODEL, QUESTION, SYSTEM
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import decoder
from monitor.trace import Message, Record, Side, ToolCall, Trace, Unread, Unreadable, Usage

DECODE = decoder("agento11y", IngestConfig(), lambda user: f"pseudonym-{len(user)}")
NOT_SENT = Unreadable.NO_CONTENT


def decode(payload: object) -> list[Trace]:
    """The traces of a record of this JSON."""
    pieces = DECODE(Record("t", 0, 7, 1_600_000_000.0, None, json.dumps(payload).encode()))
    return [piece for piece in pieces if isinstance(piece, Trace)]


def one(**changes: Any) -> Trace:
    """The trace of the generation with these changes."""
    (trace,) = decode({"generations": [AGENTO11Y["generations"][0] | changes]})
    return trace


def camel(value: Any) -> Any:
    """The same JSON with names in lowerCamelCase, apart from keys of metadata."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        re.sub(r"_([a-z])", lambda match: match[1].upper(), key): item if key == "metadata" else camel(item)
        for key, item in value.items()
    }


def message(role: object, *parts: dict[str, Any]) -> dict[str, Any]:
    """A message of these parts."""
    return {"role": role, "parts": list(parts)}


def test_a_generation_is_a_trace() -> None:
    """Each field reaches the trace; what the model thought is left out, and tools that it had are ignored."""
    trace = one()
    assert trace.messages == (Message("system", SYSTEM), Message("user", QUESTION))
    assert (trace.response, trace.model, trace.model_version) == (ANSWER, "gpt-4o", MODEL)
    assert (trace.id, trace.conversation, trace.agent) == ("chatcmpl-B9", "conv-1", "Shoe Helper")
    assert (trace.user, trace.usage, trace.finish_reason) == ("pseudonym-10", Usage(13, 12), "stop")
    assert (trace.trace_id, trace.span_id) == ("6f1d1c1e6f2a4c599f3e0d6a8a1f7c11", "6f1d1c1e6f2a4c59")
    assert (trace.provider, trace.latency, trace.emitter) == ("openai", 1.0, "agento11y")
    assert (trace.unread, trace.missing) == ((), ())
    assert trace.labels == {
        "left_out.thinking": "1", "operation": "generateText", "agent_version": "1.0.0", "team": "support",
    }  # fmt: skip


def test_names_in_lower_camel_case_read_alike() -> None:
    """Protobuf's own JSON names, roles by number and integers as numbers give the same trace."""
    sent = copy.deepcopy(AGENTO11Y)
    assert decode(camel(sent)) == decode(sent)
    generation = sent["generations"][0]
    generation["input"][0]["role"], generation["output"][0]["role"] = 1, 2
    generation["usage"] = {"input_tokens": 13, "output_tokens": 12}
    assert decode(sent) == decode(AGENTO11Y)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(texts, st.dictionaries(texts, texts, min_size=1, max_size=2), st.booleans())
def test_bytes_are_json_in_base64(result: str, arguments: dict[str, str], as_json: bool) -> None:  # noqa: FBT001 - drawn
    """Arguments and results of calls come out whatever they hold; a result may be text or JSON."""
    raw = json.dumps(arguments).encode()
    returned = (
        {"content_json": base64.b64encode(json.dumps(result).encode()).decode()}
        if as_json
        else {"content": result}
    )
    call = {"tool_call": {"id": "c1", "name": "order", "input_json": base64.urlsafe_b64encode(raw).decode()}}
    answered = {"tool_result": {"tool_call_id": "c1", "name": "order"} | returned}
    trace = one(
        input=[message("MESSAGE_ROLE_ASSISTANT", call), message("MESSAGE_ROLE_TOOL", answered)],
        output=[message("MESSAGE_ROLE_ASSISTANT", call)],
        stop_reason="tool_calls",
    )
    assert trace.messages == (Message("system", SYSTEM), Message("assistant", ""), Message("tool", result))
    assert trace.tool_calls == (ToolCall("order", raw.decode(), "", "c1"),)
    assert (trace.response, trace.unread) == ("", ())


def test_results_of_the_answers_own_calls_stand_with_them() -> None:
    """An output that holds a call, its result and a text gives the call with its result, and the text."""
    call = {"tool_call": {"id": "c1", "name": "order", "input_json": "e30="}}
    answered = {"tool_result": {"tool_call_id": "c1", "content": "gone", "is_error": True}}
    trace = one(output=[message(2, call), message(3, answered), message(2, {"text": "Sorry."})])
    assert trace.tool_calls == (ToolCall("order", "{}", "gone", "c1", error=True),)
    assert trace.response == "Sorry."


@given(written=st.text(min_size=1))
def test_arguments_that_are_no_base64_are_kept_as_written(written: str) -> None:
    """Whatever stands where base64 should, the call is read, and its arguments are judged in some form."""
    trace = one(output=[message(2, {"tool_call": {"id": "c1", "name": "order", "input_json": written}})])
    [call] = trace.tool_calls
    assert call.name == "order"
    if not written.isascii():
        assert call.arguments == written


def stripped(*parts: dict[str, Any]) -> dict[str, Any]:
    """What the capture mode `metadata_only` leaves of a generation."""
    return {
        "system_prompt": "", "input": [message(1, {"text": ""})], "output": [message(2, *parts)],
        "metadata": {"agento11y.sdk.content_capture_mode": "metadata_only"},
    }  # fmt: skip


@pytest.mark.parametrize("part", [{"text": ""}, {"tool_call": {"name": "order", "id": "c1"}}])
def test_metadata_alone_are_blind(part: dict[str, Any]) -> None:
    """Without content both sides are unread, the arguments of calls too; tokens are kept."""
    trace = one(**stripped(part))
    assert trace.unread == (Unread(Side.PROMPT, NOT_SENT), Unread(Side.RESPONSE, NOT_SENT))
    assert (trace.missing, trace.usage) == (("content",), Usage(13, 12))


def test_empty_parts_are_no_texts() -> None:
    """Whatever the mode says, a prompt of empty parts that cost tokens is unread."""
    trace = one(**stripped({"text": ""}) | {"metadata": {}})
    assert {each.side for each in trace.unread} == {Side.PROMPT, Side.RESPONSE}


def test_a_failed_call_says_its_kind() -> None:
    """The kind of an error is a label; its message, which may quote the prompt, is not read."""
    trace = one(output=[], call_error="RateLimitError: my card is 4111", usage={})
    assert (trace.error, trace.finish_reason, trace.labels["error"]) == (
        "RateLimitError",
        "error",
        "RateLimitError",
    )
    assert (trace.unread, "4111" in str(trace)) == ((), False)
    assert one(output=[], call_error="my card is 4111").error == "error"


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({"started_at": "soon"}, 1),
        ({"usage": "none"}, 1),
        ({"usage": {"input_tokens": 13.0, "output_tokens": "x"}}, 0),
        ({"model": "gpt-4o"}, 1),
        ({"conversation_id": 7}, 0),
        ({"tags": ["a"]}, 1),
        ({"metadata": 7}, 1),
    ],
)
def test_one_odd_value_costs_nothing_but_itself(changes: dict[str, Any], counted: int) -> None:
    """A value that cannot be used is mended, or absent and counted; the texts are judged."""
    trace = one(**changes)
    assert trace.messages == (Message("system", SYSTEM), Message("user", QUESTION))
    assert trace.response == ANSWER
    assert trace.labels.get("left_out.value", "0") == str(counted)


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        ({}, "missing_field", "generations"),
        ({"generations": {}}, "missing_field", "generations"),
        ({"generations": [7]}, "wrong_type", "generations[0]"),
        ({"generations": [{}] * 10_001}, "too_large", "10001 generations"),
        ([], "wrong_type", "the record"),
    ],
)
def test_what_is_no_export_is_refused(payload: object, reason: str, detail: str) -> None:
    """The reason classifies the cause, and the detail begins with the field."""
    with pytest.raises(BadTrace) as caught:
        decode(payload)
    assert (caught.value.reason, caught.value.detail[: len(detail)]) == (reason, detail)


def test_an_export_of_nothing_is_nothing() -> None:
    """An empty list has no traces."""
    assert decode({"generations": []}) == []
