"""LiteLLM, OpenAI pairs and Kong decode to traces, whatever way the same exchange comes."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuzz
import msgspec
import pytest
from external import need_module
from gateway_payloads import (
    ANSWER,
    CHUNKS,
    COMPLETION,
    CREATED,
    KONG,
    LITELLM,
    MESSAGES,
    MODEL,
    NATIVE,
    OLD_KONG,
    PAIR,
    QUESTION,
    REQUEST,
    RESPONSES,
    SYSTEM,
    USAGE,
    chunk,
    sse,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.config import IngestConfig
from monitor.errors import BadTrace
from monitor.ingest import FORMATS, SHAPES, Decode, decoder
from monitor.ingest.fields import MAX_LABEL_CHARS, MAX_LABELS
from monitor.trace import (
    Document,
    Message,
    Record,
    Side,
    ToolCall,
    Trace,
    Unread,
    Unreadable,
    Usage,
)

DECODERS: dict[str, Decode] = {
    name: decoder(name, IngestConfig(), lambda user: f"pseudonym-{len(user)}") for name in FORMATS
}
EVERY = {
    "native": ("native", NATIVE),
    "chat completions": ("openai", PAIR),
    "responses": ("openai", RESPONSES),
    "chunks": ("openai", {"request": REQUEST, "chunks": CHUNKS}),
    "server-sent events": ("openai", {"request": REQUEST, "response": sse(CHUNKS)}),
    "bodies in strings": (
        "openai",
        {"request": json.dumps(REQUEST), "response": json.dumps(COMPLETION)},
    ),
    "batch": ("openai", {"request": {"body": REQUEST}, "response": {"status_code": 200, "body": COMPLETION}}),
    "litellm": ("litellm", LITELLM),
    "litellm wrapped": ("litellm", {"standard_logging_object": LITELLM}),
    "kong": ("kong", KONG),
    "kong 3.7": ("kong", OLD_KONG),
}


def decode_all(form: str, payload: object) -> tuple[Trace, ...]:
    """The traces of a record with this JSON."""
    found = DECODERS[form](Record("t", 0, 7, 1_600_000_000.0, None, json.dumps(payload).encode()))
    return tuple(trace for trace in found if isinstance(trace, Trace))


def decode(form: str, payload: object) -> Trace:
    """The one trace of a record with this JSON."""
    (trace,) = decode_all(form, payload)
    return trace


def refusal(form: str, payload: object) -> BadTrace:
    """The error that this JSON raises."""
    with pytest.raises(BadTrace) as caught:
        decode_all(form, payload)
    return caught.value


def pair(request: dict[str, Any] | None = None, **response: Any) -> Trace:
    """The trace of a pair with changes to the request and the response."""
    return decode("openai", {"request": REQUEST | (request or {}), "response": COMPLETION | response})


def reply(**message: Any) -> dict[str, Any]:
    """A choice with this message."""
    return {"index": 0, "message": {"role": "assistant", "content": None} | message, "finish_reason": "stop"}


@pytest.mark.parametrize(("form", "payload"), EVERY.values(), ids=EVERY)
def test_the_same_exchange_gives_the_same_trace(form: str, payload: object) -> None:
    """Every format gives the same id, messages, response, model, usage and finish reason of one exchange."""
    trace = decode(form, payload)
    assert trace.id == "chatcmpl-B9"
    assert trace.messages == (Message("system", SYSTEM), Message("user", QUESTION))
    assert (trace.response, trace.model, trace.finish_reason) == (ANSWER, MODEL, "stop")
    assert trace.usage == Usage(13, 12)
    assert abs(trace.time - CREATED) <= 1
    assert trace.missing == ()


@pytest.mark.parametrize(("form", "payload"), EVERY.values(), ids=EVERY)
def test_the_format_is_recognised(form: str, payload: object) -> None:
    """`auto` decodes each format as its own decoder does."""
    assert decode("auto", payload) == decode(form, payload)


def test_the_payloads_are_those_of_the_client() -> None:
    """OpenAI's own types accept the bodies that the tests send."""
    chat = need_module("openai.types.chat")
    responses = need_module("openai.types.responses")
    chat.ChatCompletion.model_validate(COMPLETION, strict=True)
    responses.Response.model_validate(RESPONSES["response"], strict=True)
    for piece in CHUNKS:
        chat.ChatCompletionChunk.model_validate(piece, strict=True)


def test_litellm_says_who_asked_and_what_for() -> None:
    """Key, team, tags and the requester's metadata are labels, the end user a pseudonym, e-mails nothing."""
    trace = decode("litellm", LITELLM)
    assert (trace.app, trace.environment, trace.provider) == ("support-bot", "production", "openai")
    assert (trace.user, trace.prompt_name, trace.latency) == ("pseudonym-10", "returns", 1.0)
    assert trace.trace_id == LITELLM["trace_id"]
    assert trace.context == (Document("policy", "Shoes may be returned within 30 days.", 0.9),)
    assert trace.labels == {
        "call_type": "acompletion",
        "status": "success",
        "model_group": "support-model",
        "model_id": "cb41bc03",
        "stream": "false",
        "cache_hit": "false",
        "cost": "0.00015",
        "team": "support",
        "key": "support-bot",
        "request_tags": "returns,eu",
        "environment": "production",
        "ticket": "17",
        "cost_center": "4711",
    }


def test_a_failed_litellm_call_is_a_trace_without_response() -> None:
    """A failure keeps its prompt, has finish reason `error` and the error's class, never its message."""
    failed = {
        "status": "failure",
        "response": {},
        "error_str": "blocked: my card is 4111 1111 1111 1111",
        "error_information": {"error_class": "RateLimitError", "error_message": "my card is …"},
    }
    trace = decode("litellm", LITELLM | failed)
    assert (trace.response, trace.finish_reason, trace.labels["error"]) == ("", "error", "RateLimitError")
    assert trace.messages
    assert "card" not in str(trace)


@pytest.mark.parametrize("response", [ANSWER, {"text": ANSWER}])
def test_litellm_responses_may_be_text(response: object) -> None:
    """A response that is a string, or a `text`, is the answer."""
    assert decode("litellm", LITELLM | {"response": response}).response == ANSWER


def test_calls_that_are_no_exchange_give_no_trace() -> None:
    """Embeddings and their like are read and leave nothing to judge; so do requests past Kong's AI proxy."""
    assert decode_all("litellm", LITELLM | {"call_type": "aembedding"}) == ()
    assert decode_all("kong", {name: value for name, value in KONG.items() if name != "ai"}) == ()
    assert decode_all("kong", KONG | {"ai": {"mcp": {"rpc": []}}}) == ()


def test_a_list_of_litellm_payloads_gives_a_trace_each() -> None:
    """The callback's list keeps its order; what of it cannot be read costs only itself, and is counted."""
    second = LITELLM | {"id": "chatcmpl-C1"}
    assert [trace.id for trace in decode_all("litellm", [LITELLM, second])] == ["chatcmpl-B9", "chatcmpl-C1"]
    assert refusal("litellm", [7, {}]).detail.startswith("[0]")
    (trace,) = decode_all("litellm", [7, LITELLM, {}])
    assert (trace.response, trace.labels["left_out.value"]) == (ANSWER, "2")
    without = {name: value for name, value in LITELLM.items() if name not in {"id", "response"}}
    assert len({trace.id for trace in decode_all("litellm", [without, without])}) == 2


def test_redacted_texts_are_missing_content() -> None:
    """What LiteLLM redacted, and what Kong did not log, is named as missing and not judged as empty."""
    redacted = {
        "messages": [{"role": "user", "content": "redacted-by-litellm"}],
        "response": {"choices": [reply(content="redacted-by-litellm")]},
    }
    assert decode("litellm", LITELLM | redacted).missing == ("content",)
    stored = {"messages": None, "response": None, "metadata": {"cold_storage_object_key": "2026/11/x.json"}}
    assert decode("litellm", LITELLM | stored).missing == ("content",)
    silent = copy.deepcopy(KONG)
    del silent["ai"]["proxy"]["payload"]
    trace = decode("kong", silent)
    assert (trace.missing, trace.response, trace.messages) == (("content",), "", ())
    assert (trace.usage, trace.id) == (Usage(13, 12), "9ec9264afbbbad5fe5c64877d92eeb04")


def test_kong_says_where_it_went() -> None:
    """Consumer, provider, latency and route are taken from the entry."""
    trace = decode("kong", KONG)
    assert (trace.app, trace.provider, trace.latency) == ("support-bot", "openai", 0.972)
    assert trace.time == 1_787_113_201.5
    assert trace.labels == {
        "status": "200",
        "service": "ai-gateway",
        "route": "openai-chat",
        "consumer": "support-bot",
        "workspace": "default",
        "request_mode": "oneshot",
        "request_model": "gpt-4o",
        "cost": "0.0038",
    }


@pytest.mark.parametrize(
    "body", ['{"error": {"type": "rate_limit", "code": 429}}', "<html>Bad gateway", None]
)
def test_a_failed_kong_request_is_a_trace_without_response(body: str | None) -> None:
    """Whatever came with a status of 400 and more, the prompt is judged and the finish reason is `error`."""
    failed = copy.deepcopy(KONG)
    failed["response"]["status"] = 502
    failed["ai"]["proxy"]["payload"]["response"] = body
    trace = decode("kong", failed)
    assert (trace.response, trace.finish_reason, trace.missing) == ("", "error", ())
    assert trace.messages


def test_several_choices_are_response_and_alternatives() -> None:
    """The first choice by index is the response, the others are alternatives."""
    choices = [reply(content=text) | {"index": index} for index, text in ((2, "c"), (0, "a"), (1, "b"))]
    trace = pair(choices=choices)
    assert (trace.response, trace.alternatives) == ("a", ("b", "c"))


def test_tool_calls_and_their_results() -> None:
    """Calls in the response are tool calls; results in the prompt are messages of role tool."""
    call = {"id": "call_1", "type": "function", "function": {"name": "order", "arguments": '{"id": 7}'}}
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    prompt = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sent"},
        {"role": "function", "name": "order", "content": "late"},
    ]
    trace = pair({"messages": prompt}, choices=[reply(tool_calls=[call, custom])])
    assert trace.messages == (Message("assistant"), Message("tool", "sent"), Message("tool", "late"))
    assert trace.tool_calls == (
        ToolCall("order", '{"id": 7}', "", "call_1"),
        ToolCall("shell", "ls", "", "call_2"),
    )
    old = pair(choices=[reply(function_call={"name": "order", "arguments": "{}"})])
    assert old.tool_calls == (ToolCall("order", "{}"),)


def test_a_refusal_is_the_response() -> None:
    """A refusal is what the user read, so it is the response, with a label."""
    trace = pair(choices=[reply(refusal="I cannot help with that.")])
    assert (trace.response, trace.labels["refused"]) == ("I cannot help with that.", "true")


def test_parts_that_are_no_text_are_counted() -> None:
    """Of a message in parts the texts are joined by lines; images, audio and unknown kinds are counted."""
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "this?"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "hologram"},
    ]
    trace = pair({"messages": [{"role": "user", "content": parts}]})
    assert trace.messages == (Message("user", "What is\nthis?"),)
    assert {name: count for name, count in trace.labels.items() if name.startswith("left_out")} == {
        "left_out.image_url": "1",
        "left_out.input_audio": "1",
        "left_out.other": "1",
    }


def test_logprobs_are_those_of_the_first_choice() -> None:
    """Log-probabilities of chat completions and of text completions are taken, in order."""
    logs = {"content": [{"token": "No", "logprob": -0.1}, {"token": ":", "logprob": -2.5}]}
    assert pair(choices=[reply(content="No:") | {"logprobs": logs}]).logprobs == (-0.1, -2.5)
    old = {"index": 0, "text": "No:", "logprobs": {"tokens": ["No", ":"], "token_logprobs": [None, -2.5]}}
    trace = pair({"messages": None, "prompt": QUESTION}, choices=[old])
    assert (trace.response, trace.logprobs) == ("No:", (-2.5,))
    assert trace.messages == (Message("user", QUESTION),)


def test_a_pair_may_say_what_bodies_do_not() -> None:
    """Siblings of the bodies are taken as in the native format; the request's metadata are labels."""
    siblings = {
        "id": "ours", "time": "2023-11-14T22:13:20Z", "app": "shop", "environment": "staging",
        "provider": "openai", "conversation": "c-1", "user": "jane", "trace_id": "aa", "span_id": "bb",
        "latency": 0.5, "labels": {"region": "eu"},
    }  # fmt: skip
    request = REQUEST | {"user": "somebody", "metadata": {"flow": "returns"}}
    trace = decode("openai", siblings | {"request": request, "response": COMPLETION})
    assert (trace.id, trace.time, trace.app, trace.environment) == (
        "chatcmpl-B9", 1_700_000_000.0, "shop", "staging",
    )  # fmt: skip
    assert (trace.conversation, trace.user, trace.trace_id, trace.span_id) == (
        "c-1",
        "pseudonym-4",
        "aa",
        "bb",
    )
    assert (trace.latency, trace.labels) == (0.5, {"region": "eu", "flow": "returns"})


def test_a_pair_may_have_failed() -> None:
    """An error beside the request, or in the body, is a trace with an empty response."""
    for failed in (
        {"request": REQUEST, "error": {"type": "timeout", "message": "CANARY"}},
        {"request": REQUEST, "response": None, "error": "timeout"},
        {"request": REQUEST, "response": {"error": {"message": "CANARY", "type": "timeout", "code": None}}},
    ):
        trace = decode("openai", failed)
        assert (trace.response, trace.finish_reason, trace.labels) == ("", "error", {"error": "timeout"})
        assert "CANARY" not in str(trace)


def test_items_of_the_responses_api() -> None:
    """Calls, results and found passages of the Responses API land where those of chat completions do."""
    request = {
        "model": "gpt-4o",
        "prompt": {"id": "pmpt_1", "version": "2"},
        "conversation": {"id": "conv_1"},
        "input": [
            {"role": "developer", "content": [{"type": "input_text", "text": SYSTEM}]},
            {"type": "function_call", "call_id": "call_0", "name": "order", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_0", "output": "sent"},
            {
                "type": "function_call_output",
                "call_id": "call_0",
                "output": [{"type": "input_text", "text": "by"}],
            },
            {"type": "shell_call_output", "call_id": "call_0", "output": [{"stdout": "post"}]},
            {"type": "item_reference", "id": "msg_0"},
            {"type": "message", "role": "user", "content": QUESTION},
        ],
    }
    output = [
        {"type": "function_call", "call_id": "call_1", "name": "order", "arguments": "{}"},
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "name": "search",
            "arguments": "{}",
            "output": "gone",
            "error": "x",
        },
        {"type": "file_search_call", "results": [{"file_id": "f1", "text": "30 days", "score": 0.5}]},
        {"type": "web_search_call", "status": "completed"},
        {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    body = RESPONSES["response"] | {
        "output": output, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
    }  # fmt: skip
    trace = decode("openai", {"request": request, "response": body})
    assert trace.messages == (
        Message("system", SYSTEM),
        Message("tool", "sent"),
        Message("tool", "by"),
        Message("tool", '[{"stdout":"post"}]'),
        Message("user", QUESTION),
    )
    assert (trace.prompt_name, trace.prompt_version, trace.conversation) == ("pmpt_1", "2", "conv_1")
    assert trace.tool_calls == (
        ToolCall("order", "{}", "", "call_1"),
        ToolCall("search", "{}", "gone", "mcp_1", error=True),
    )
    assert trace.context == (Document("f1", "30 days", 0.5),)
    assert (trace.response, trace.finish_reason) == ("No.", "length")
    assert trace.labels == {
        "refused": "true",
        "left_out.item_reference": "1",
        "left_out.web_search_call": "1",
    }


def test_messages_of_anthropic_are_read() -> None:
    """Bodies that LiteLLM passes on from Anthropic give the same fields."""
    request = {
        "model": "claude-sonnet",
        "system": SYSTEM,
        "messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sent"}]},
            {"role": "user", "content": QUESTION},
        ],
    }
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": ANSWER},
            {"type": "tool_use", "id": "t2", "name": "order", "input": {"id": 7}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 13, "output_tokens": 12},
    }
    trace = decode("openai", {"request": request, "response": body})
    assert trace.messages == (Message("system", SYSTEM), Message("tool", "sent"), Message("user", QUESTION))
    assert (trace.response, trace.finish_reason, trace.usage) == (ANSWER, "tool_calls", Usage(13, 12))
    assert trace.tool_calls == (ToolCall("order", '{"id":7}', "", "t2"),)
    assert trace.labels == {"left_out.thinking": "1"}


def streamed(*chunks: dict[str, Any]) -> Trace:
    """The trace of a stream."""
    return decode("openai", {"request": REQUEST, "chunks": list(chunks)})


def test_streamed_tool_calls_are_joined() -> None:
    """Pieces of tool calls are joined by index, arguments in order, as are choices, refusals and logprobs."""
    logs = [{"content": [{"token": "a", "logprob": -0.1}]}, {"content": [{"token": "b", "logprob": -0.2}]}]
    trace = streamed(
        chunk({"role": "assistant", "content": "a"}, logprobs=logs[0]),
        chunk({"content": "B"}, index=1),
        chunk({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "two", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "one", "arguments": '{"x"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        chunk({"content": "b"}, logprobs=logs[1]),
        chunk({}, finish="tool_calls"),
    )
    assert (trace.response, trace.alternatives, trace.finish_reason) == ("ab", ("B",), "tool_calls")
    assert trace.tool_calls == (ToolCall("one", '{"x": 1}', "", "c1"), ToolCall("two", "", "", "c2"))
    assert trace.logprobs == (-0.1, -0.2)
    refused = streamed(chunk({"refusal": "I can"}), chunk({"refusal": "not."}))
    assert (refused.response, refused.labels["refused"]) == ("I cannot.", "true")


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
def test_server_sent_events_of_any_line_ends(line: str) -> None:
    """Comments, event names and all three line ends are read; a separator within a JSON string is not one."""
    odd = chunk({"content": "a\u2028b\x85c"})
    text = f": ping{line}{line}event: message{line}" + sse([], line) + sse([odd], line)
    raw = json.dumps({"request": REQUEST, "response": text}, ensure_ascii=False).encode()
    (trace,) = DECODERS["openai"](Record("t", 0, 7, 1_600_000_000.0, None, raw))
    assert isinstance(trace, Trace)
    assert trace.response == "a\u2028b\x85c"


def test_a_stream_that_was_cut_off_is_judged_as_far_as_it_came() -> None:
    """An event that is damaged, or in which a stream broke off, is left out, and the trace says so."""
    text = sse(CHUNKS[:3]).replace("data: [DONE]\n\n", "")
    for damaged in (text + 'data: {"id": "chatcm', "data: {\n\n" + text):
        cut = decode("openai", {"request": REQUEST, "response": damaged})
        assert (cut.response, cut.finish_reason, cut.missing) == (ANSWER, "", ())
        assert cut.unread == (Unread(Side.RESPONSE, Unreadable.TRUNCATED),)
        assert cut.labels == {"truncated": "true"}


@pytest.mark.parametrize(
    ("form", "payload", "counted"),
    [
        ("openai", {"request": REQUEST | {"user": {"id": 7}}, "response": COMPLETION}, 1),
        ("openai", {"request": REQUEST | {"user": 7}, "response": COMPLETION}, 0),
        ("openai", PAIR | {"time": "noon"}, 1),
        ("openai", PAIR | {"time": "2026-11-22T10:00:00"}, 1),
        ("openai", {"request": REQUEST, "response": COMPLETION | {"created": 1e12}}, 1),
        ("openai", {"request": REQUEST, "response": COMPLETION | {"usage": "none"}}, 1),
        ("openai", {"request": REQUEST, "response": COMPLETION | {"model": ["gpt"]}}, 1),
        ("openai", PAIR | {"response": COMPLETION | {"usage": USAGE | {"prompt_tokens": "13"}}}, 0),
        ("openai", PAIR | {"response": COMPLETION | {"usage": USAGE | {"prompt_tokens": 13.5}}}, 1),
        ("openai", PAIR | {"request": {"messages": [MESSAGES[0], MESSAGES[1] | {"role": "critic"}]}}, 0),
        ("litellm", LITELLM | {"startTime": 1e12}, 1),
        ("litellm", LITELLM | {"prompt_tokens": -1}, 1),
        ("litellm", LITELLM | {"metadata": "none"}, 1),
        ("litellm", LITELLM | {"request_tags": "returns"}, 0),
        ("litellm", LITELLM | {"model_parameters": [1]}, 1),
        ("litellm", {key: value for key, value in LITELLM.items() if key != "call_type"}, 0),
        ("kong", KONG | {"started_at": 1e18}, 1),
        ("kong", KONG | {"latencies": 7}, 1),
        ("kong", KONG | {"response": {"status": "200"}}, 0),
        ("kong", KONG | {"consumer": "jane"}, 1),
    ],
)  # fmt: skip
def test_one_odd_value_costs_no_record(form: str, payload: object, counted: int) -> None:
    """A value that cannot be used is mended, or absent and counted; all texts are judged."""
    trace = decode(form, payload)
    assert trace.messages == (Message("system", SYSTEM), Message("user", QUESTION))
    assert (trace.response, trace.unread) == (ANSWER, ())
    assert trace.labels.get("left_out.value", "0") == str(counted)


@pytest.mark.parametrize(
    ("form", "payload", "unread"),
    [
        ("openai", {"request": REQUEST | {"messages": 7}, "response": COMPLETION}, None),
        ("openai", {"request": {"model": "m"}, "response": COMPLETION}, Side.PROMPT),
        ("openai", {"request": REQUEST, "response": COMPLETION | {"choices": []}}, Side.RESPONSE),
        ("openai", PAIR | {"response": COMPLETION | {"choices": [{"message": 7}]}}, Side.RESPONSE),
        ("openai", {"request": REQUEST, "response": COMPLETION | {"choices": [], "usage": None}}, None),
        ("openai", {"request": REQUEST | {"messages": [{"role": "user", "content": None}]},
                    "response": COMPLETION}, Side.PROMPT),
        ("litellm", LITELLM | {"messages": None}, Side.PROMPT),
        ("litellm", LITELLM | {"response": {"choices": [{"message": {"content": ""}}]}}, Side.RESPONSE),
        ("litellm", LITELLM | {"response": {}, "completion_tokens": 0}, None),
        ("kong", KONG | {"ai": {"proxy": {"meta": 7}}}, Side.RESPONSE),
        ("openai", PAIR | {"response": {"verdict": "x"}}, Side.RESPONSE),
        ("openai", PAIR | {"response": 7}, Side.RESPONSE),
        ("openai", {"request": REQUEST, "chunks": [{"type": "ping"}]}, Side.RESPONSE),
        ("litellm", LITELLM | {"response": {"verdict": "x"}}, Side.RESPONSE),
    ],
)  # fmt: skip
def test_a_side_that_must_have_had_text_is_unread(form: str, payload: object, unread: Side | None) -> None:
    """A body without the text that its tokens tell of is blind on that side; an empty answer is not."""
    trace = decode(form, payload)
    assert (unread in [each.side for each in trace.blind()]) == (unread is not None)
    assert trace.missing == (("content",) if unread else ())


def test_events_of_the_responses_api_are_joined() -> None:
    """The response of the last event counts; of a stream without end, its items and texts so far."""
    whole = RESPONSES["response"]
    begun = whole | {"output": [], "status": "in_progress", "usage": None}
    item = {"type": "function_call", "call_id": "call_1", "name": "order", "arguments": "{}"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": ANSWER[:9]},
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": ANSWER[9:]},
    ]
    request = RESPONSES["request"]
    cut = decode("openai", {"request": request, "response": sse(events)})
    assert (cut.response, cut.tool_calls) == (ANSWER, (ToolCall("order", "{}", "", "call_1"),))
    done = [*events, {"type": "response.completed", "response": whole}]
    assert decode("openai", {"request": request, "chunks": done}) == decode("openai", RESPONSES)
    failed = [events[0], {"type": "error", "code": "rate_limit_exceeded", "message": "CANARY"}]
    trace = decode("openai", {"request": request, "chunks": failed})
    assert (trace.finish_reason, trace.labels) == ("error", {"error": "rate_limit_exceeded"})


@pytest.mark.parametrize(
    ("form", "payload", "reason", "detail"),
    [
        ("openai", {"response": COMPLETION}, "missing_field", "request"),
        ("openai", {"request": REQUEST}, "missing_field", "response"),
        ("openai", {"request": REQUEST, "response": {}}, "missing_field", "response"),
        ("openai", {"request": REQUEST, "chunks": []}, "missing_field", "chunks"),
        ("openai", {"request": {}, "chunks": [{"type": "ping"}]}, "missing_field", "chunks"),
        ("openai", {"request": {}, "response": 7}, "wrong_type", "response"),
        ("openai", PAIR | {"request": '{"a": 1, "a": 2}'}, "duplicate_key", "request, a string"),
        ("openai", [PAIR], "wrong_type", "the record"),
        ("litellm", {}, "missing_field", "call_type"),
        ("litellm", [{}, {}], "missing_field", "[0].call_type"),
        ("litellm", [{}] * 10_001, "too_large", "10001 payloads"),
        ("litellm", 7, "wrong_type", "the record"),
        ("kong", KONG | {"ai": {"proxy": {"payload": {"request": "{}", "response": "{"}}}}, "invalid_json",
         "ai.proxy.payload.response, a string"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(form: str, payload: object, reason: str, detail: str) -> None:
    """The reason classifies the cause and the detail begins with the path of the field."""
    error = refusal(form, payload)
    assert (error.reason, error.detail[: len(detail)]) == (reason, detail)


@given(
    st.dictionaries(st.text(max_size=300), st.text(max_size=300) | st.integers() | st.booleans(), max_size=60)
)
def test_labels_are_bounded(labels: dict[str, Any]) -> None:
    """However many labels a sender has, at most 32 are kept, each bounded; the rest are counted."""
    found = decode("openai", PAIR | {"labels": labels}).labels
    kept = {name: value for name, value in found.items() if name != "labels_left_out"}
    assert len(kept) <= MAX_LABELS
    assert all(len(name) <= MAX_LABEL_CHARS and len(value) <= MAX_LABEL_CHARS for name, value in kept.items())
    given_ones = [value for value in labels.values() if value != ""]
    if len(given_ones) > MAX_LABELS and "labels_left_out" not in labels:
        assert found["labels_left_out"] == str(len(given_ones) - MAX_LABELS)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_a_stream_is_what_it_would_have_been_whole(pieces: list[str], data: st.DataObject) -> None:
    """However a text is cut into chunks, and whichever way they come, the trace is that of the whole."""
    chunks = [chunk({"content": piece}) for piece in pieces] + CHUNKS[-2:]
    whole = copy.deepcopy(COMPLETION)
    whole["choices"][0]["message"]["content"] = "".join(pieces)
    form = data.draw(st.sampled_from(["chunks", "response", "sse"]))
    streaming = {"response": sse(chunks)} if form == "sse" else {form: chunks}
    assert decode("openai", {"request": REQUEST} | streaming) == decode(
        "openai", {"request": REQUEST, "response": whole}
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys or indexes."""
    keys = value.keys() if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in list(keys):
        yield value, key
        yield from places(value[key])


@given(st.sampled_from(sorted(DECODERS)), json_values)
def test_any_json_is_decoded_or_refused(form: str, value: object) -> None:
    """Whatever JSON a record holds, each format gives traces or a BadTrace of a known reason."""
    _decodes_or_refuses(form, json.dumps(value).encode())


@given(st.sampled_from(sorted(EVERY)), st.data())
def test_swapped_values_are_decoded_or_refused(name: str, data: st.DataObject) -> None:
    """Any value in the place of any other, at any depth, gives traces or a BadTrace that quotes nothing."""
    form, payload = EVERY[name]
    changed = copy.deepcopy(payload)
    canaries = st.sampled_from(["CANARY", ["CANARY"], {"CANARY": "CANARY"}, [{"role": "CANARY"}]])
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(list(places(changed))))
        container[key] = copy.deepcopy(data.draw(json_values | canaries))
    _decodes_or_refuses(form, json.dumps(changed).encode())


ODD: list[Any] = [None, 7, -1, 1.5, 1e300, True, "odd", "", [], {}, [None], [7], ["odd"], {"odd": 1}]
NEEDED = frozenset(
    {"response", "request", "chunks", "ai", "proxy", "ai-proxy", "standard_logging_object", "body"}
)
"""Keys without whose values there is no exchange."""


@settings(max_examples=300)
@given(st.sampled_from(sorted(set(EVERY) - {"bodies in strings", "server-sent events"})), st.data())
def test_one_odd_value_anywhere_leaves_the_texts(name: str, data: st.DataObject) -> None:
    """Whatever stands in the place of one value of a record, the texts that are still there are judged."""
    form, payload = EVERY[name]
    changed = copy.deepcopy(payload)
    paths = [path for path in paths_of(changed) if path[-1] not in NEEDED and path[0] != "chunks"]
    path = data.draw(st.sampled_from(paths))
    holder: Any = changed
    for step in path[:-1]:
        holder = holder[step]
    before = json.dumps(holder[path[-1]])
    holder[path[-1]] = data.draw(
        st.sampled_from([each for each in ODD if path[-1] != "type" or each != "odd"])
    )
    if path[-1] in {"call_type", "status", "status_code"} or "error_information" in path:
        return  # they say what kind of call it was, and whether it failed
    trace = decode(form, changed)
    for text, found in ((QUESTION, trace.prompt()), (SYSTEM, trace.prompt()), (ANSWER, trace.response)):
        assert text in found or text in before, path


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every value in a payload."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths_of(item, (*path, key))


@given(st.sampled_from(sorted(EVERY)), st.data())
def test_damaged_bytes_are_decoded_or_refused(name: str, data: st.DataObject) -> None:
    """Flipped bits and cuts anywhere never raise anything but BadTrace."""
    form, payload = EVERY[name]
    value = bytearray(json.dumps(payload).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value) - 1))
        value[at] ^= 1 << data.draw(st.integers(0, 7))
    _decodes_or_refuses(form, bytes(value[: data.draw(st.integers(1, len(value)))]))


def _decodes_or_refuses(form: str, value: bytes) -> None:
    decode_record = DECODERS[form]
    try:
        traces = decode_record(Record("t", 0, 7, 1_600_000_000.0, None, value))
    except BadTrace as error:
        assert error.reason in fuzz.REASONS  # noqa: PT017 - both outcomes are legal
        assert error.detail  # noqa: PT017 - see above
        assert "CANARY" not in str(error)  # noqa: PT017 - see above
    else:
        wire = msgspec.msgpack.encode(traces)
        assert msgspec.msgpack.decode(wire, type=tuple[Trace, ...]) == traces


def test_every_format_is_documented() -> None:
    """Each format of the configuration has its row in the table of formats."""
    table = Path("docs/formats.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in table for name in SHAPES)
