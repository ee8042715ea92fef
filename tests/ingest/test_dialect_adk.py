"""Google ADK: requests and responses of its `call_llm` spans, tools' calls, and content that is off."""

import json
from typing import Any

from hypothesis import given
from lines import LINES
from otlp_wire import decode as pieces
from otlp_wire import log_request, one

from monitor.trace import Message, Side, StepKind, Unread, Unreadable, Usage

MODEL = "gemini-3-pro"


def call_llm(request: Any, response: Any, **further: Any) -> dict[str, Any]:
    """Attributes of a `call_llm` span."""
    return {
        "gen_ai.system": "gcp.vertex.agent",
        "gen_ai.request.model": MODEL,
        "gcp.vertex.agent.session_id": "talk-7",
        "gcp.vertex.agent.llm_request": json.dumps(request),
        "gcp.vertex.agent.llm_response": json.dumps(response),
        **further,
    }


@given(system=LINES, question=LINES, answer=LINES)
def test_any_text_comes_out_on_its_side(system: str, question: str, answer: str) -> None:
    """Instructions, question and answer of any text are read as they are, and nothing is unread."""
    request = {
        "model": MODEL,
        "config": {"system_instruction": system, "tools": [{"function_declarations": []}]},
        "contents": [{"role": "user", "parts": [{"text": question}]}],
    }
    response = {"content": {"role": "model", "parts": [{"text": answer}]}, "finish_reason": "STOP"}
    span = one(call_llm(request, response))
    assert span.step.kind is StepKind.CHAT
    assert span.exchange is not None
    assert span.exchange.messages == (Message("system", system), Message("user", question))
    assert (span.exchange.response, span.exchange.finish_reason) == (answer, "stop")
    assert (span.exchange.conversation, span.exchange.unread) == ("talk-7", ())


def test_calls_and_their_results_are_taken_apart() -> None:
    """Function calls of the response are tool calls; results in the request are tool messages."""
    request = {
        "contents": [
            {"role": "user", "parts": [{"text": "Is it open?"}]},
            {
                "role": "model",
                "parts": [{"function_call": {"id": "c1", "name": "hours", "args": {"day": 1}}}],
            },
            {
                "role": "user",
                "parts": [
                    {"function_response": {"id": "c1", "name": "hours", "response": {"result": "9-17"}}}
                ],
            },
        ]
    }
    call = {"function_call": {"id": "c2", "name": "notify", "args": {"who": "all"}}}
    usage = {"prompt_token_count": 12, "candidates_token_count": 3}
    response = {
        "content": {"role": "model", "parts": [{"text": "Let me think.", "thought": True}, call]},
        "finish_reason": "STOP",
        "usage_metadata": usage,
        "model_version": "gemini-3-pro-001",
    }
    trace = one(call_llm(request, response)).exchange
    assert trace is not None
    assert [m.role for m in trace.messages] == ["user", "assistant", "tool"]
    assert trace.messages[2].content == '{"result":"9-17"}'
    assert [(c.name, c.arguments, c.id) for c in trace.tool_calls] == [("notify", '{"who":"all"}', "c2")]
    assert (trace.usage, trace.model_version) == (Usage(12, 3), "gemini-3-pro-001")
    assert trace.labels == {"left_out.reasoning": "1"}


def test_content_that_is_off_is_missing_and_not_empty() -> None:
    """`{}` in place of request and response is no text, so both sides are blind where tokens were used."""
    values = call_llm({}, {}) | {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 4}
    trace = one(values).exchange
    assert trace is not None
    assert trace.unread == (
        Unread(Side.PROMPT, Unreadable.NO_CONTENT),
        Unread(Side.RESPONSE, Unreadable.NO_CONTENT),
    )


def test_a_call_without_either_attribute_is_a_call_all_the_same() -> None:
    """Version 1 with content off sends neither attribute; the span is a model's call by its name."""
    values = {"gen_ai.system": "gcp.vertex.agent", "gcp.vertex.agent.session_id": "talk-7"}
    span = one(values, name="call_llm")
    assert (span.step.kind, span.conversation) == (StepKind.CHAT, "talk-7")


def test_a_request_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    """A limit on attributes cuts JSON: what is left of the question is judged, and said to be cut."""
    whole = json.dumps(
        {"model": MODEL, "contents": [{"role": "user", "parts": [{"text": "When do you open?"}]}]}
    )
    values = call_llm({}, {"content": {"role": "model", "parts": [{"text": "At nine."}]}})
    trace = one(values | {"gcp.vertex.agent.llm_request": whole[: whole.index("open")]}).exchange
    assert trace is not None
    assert trace.messages == (Message("user", "When do you "),)
    assert trace.unread == (Unread(Side.PROMPT, Unreadable.TRUNCATED),)


def test_a_failed_call_names_its_error() -> None:
    """The code of an error is the error; what a filter held back has a finish reason instead."""
    failed = one(call_llm({}, {"error_code": "RESOURCE_EXHAUSTED", "error_message": "no"})).exchange
    held_back = one(call_llm({}, {"error_code": "SAFETY", "finish_reason": "SAFETY"})).exchange
    assert failed is not None
    assert held_back is not None
    assert failed.labels["error"] == "RESOURCE_EXHAUSTED"
    assert (held_back.finish_reason, "error" in held_back.labels) == ("content_filter", False)


@given(arguments=LINES, result=LINES)
def test_a_tools_call_has_arguments_and_result(arguments: str, result: str) -> None:
    """Arguments and result of a tool are those of ADK's attributes."""
    sent = {"q": arguments}
    span = one(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.id": "c9",
            "gcp.vertex.agent.llm_request": "{}",
            "gcp.vertex.agent.llm_response": "{}",
            "gcp.vertex.agent.tool_call_args": json.dumps(sent),
            "gcp.vertex.agent.tool_response": json.dumps({"result": result}),
        }
    )
    assert span.step.kind is StepKind.TOOL
    assert span.exchange is None
    assert span.call is not None
    assert (span.call.name, span.call.id) == ("search", "c9")
    assert json.loads(span.call.arguments) == sent
    assert json.loads(span.call.result) == {"result": result}


def test_the_span_that_repeats_merged_calls_is_none() -> None:
    """`(merged tools)` repeats calls that have spans of their own, so it is no step."""
    span = one(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "(merged tools)",
            "gcp.vertex.agent.tool_call_args": "N/A",
            "gcp.vertex.agent.tool_response": "[]",
        }
    )
    assert (span.step.kind, span.call) == (StepKind.OTHER, None)


def test_an_elided_message_is_a_marker() -> None:
    """Log records whose content is `<elided>` say that a text was there."""
    (span,) = pieces(log_request("gen_ai.user.message", {"content": "<elided>"}))
    assert span.exchange.unread[0] == Unread(Side.PROMPT, Unreadable.REDACTED)


def test_a_message_event_may_hold_geminis_content() -> None:
    """A log record's content may be a whole content of Gemini, with a role and parts."""
    body = {"content": {"role": "user", "parts": [{"text": "Do you sell boots?"}]}}
    (span,) = pieces(log_request("gen_ai.user.message", body))
    assert span.exchange.messages == (Message("user", "Do you sell boots?"),)


def test_what_a_live_session_was_sent_is_not_passed_over() -> None:
    """Data of a live session is part of no call; its span counts as one that is not read."""
    sent = [{"role": "user", "parts": [{"text": "Hello?"}]}]
    span = one({"gcp.vertex.agent.data": json.dumps(sent), "gcp.vertex.agent.invocation_id": "i"})
    assert span.foreign
