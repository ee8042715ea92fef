"""Pydantic AI and Logfire: answers by a tool, messages of a run, events in one attribute, streams."""

import json
from typing import Any

import pytest
from hypothesis import given
from lines import LINES
from otlp_wire import one

from monitor.trace import Message, StepKind

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}


def said(role: str, text: str) -> dict[str, Any]:
    """A message of one text."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


@pytest.mark.parametrize("name", ["final_result", "final_result_Order", "final_answer"])
@given(answer=LINES)
def test_an_answer_handed_over_by_a_tool_is_the_answer(name: str, answer: str) -> None:
    """The arguments of the tool for structured output are the response, and no tool was called."""
    part = {"type": "tool_call", "id": "c1", "name": name, "arguments": {"answer": answer}}
    sent = {"role": "assistant", "parts": [part], "finish_reason": "tool_call"}
    trace = one(CHAT | {"gen_ai.output.messages": json.dumps([sent])}).exchange
    assert trace is not None
    assert json.loads(trace.response) == {"answer": answer}
    assert (trace.tool_calls, trace.alternatives) == ((), ())


def test_the_agents_answer_is_written_as_the_calls_arguments_are() -> None:
    """A run's result is the same text as the arguments, so that it counts as one answer."""
    result = {"answer": "In 9 days.", "sure": True}
    part = {"type": "tool_call", "id": "c1", "name": "final_result", "arguments": json.dumps(result)}
    called = one(CHAT | {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [part]}])})
    agent = one(
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "clerk",
            "final_result": json.dumps(result, indent=1),
            "pydantic_ai.all_messages": "[]",
        }
    )
    assert called.exchange is not None
    assert agent.exchange is not None
    assert agent.exchange.response == called.exchange.response


@given(question=LINES)
def test_a_failed_runs_question_is_among_its_messages(question: str) -> None:
    """Where a call failed, only the messages of the run hold its question."""
    held = [said("system", "Be kind."), said("user", question)]
    span = one(
        {
            "gen_ai.operation.name": "invoke_agent",
            "agent_name": "clerk",
            "pydantic_ai.all_messages": json.dumps(held),
        }
    )
    assert span.step.kind is StepKind.AGENT
    assert span.exchange is not None
    assert span.exchange.messages == (Message("system", "Be kind."), Message("user", question))
    assert span.exchange.agent == "clerk"


def test_the_answer_of_a_run_is_no_message_of_its_prompt() -> None:
    """The messages of a run end with its answer, which is not what it was asked."""
    held = [said("user", "Open?"), said("assistant", "Yes.")]
    span = one({"agent_name": "clerk", "final_result": "Yes.", "all_messages_events": json.dumps(held)})
    assert span.exchange is not None
    assert span.exchange.messages == (Message("user", "Open?"),)
    assert span.exchange.response == "Yes."


@given(arguments=LINES, result=LINES)
def test_older_names_of_a_tools_call(arguments: str, result: str) -> None:
    """`tool_arguments` and `tool_response` are a tool's arguments and result."""
    span = one(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.id": "c1",
            "tool_arguments": arguments,
            "tool_response": result,
        }
    )
    assert span.call is not None
    assert (span.call.name, span.call.arguments, span.call.result) == ("search", arguments, result)


def test_events_in_one_attribute() -> None:
    """Version 1 keeps the events of a call in the attribute `events`: messages, then the choice."""
    events = [
        {"role": "system", "content": "Be kind.", "event.name": "gen_ai.system.message"},
        {"role": "user", "content": "Open?", "event.name": "gen_ai.user.message"},
        {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "event.name": "gen_ai.choice"},
    ]
    trace = one(CHAT | {"events": json.dumps(events), "model_request_parameters": "{}"}).exchange
    assert trace is not None
    assert trace.messages == (Message("system", "Be kind."), Message("user", "Open?"))
    assert trace.response == "Yes."


def test_a_span_that_has_only_begun_is_no_exchange() -> None:
    """Logfire sends a span when it begins, too: that one is no step."""
    span = one(CHAT | {"logfire.span_type": "pending_span", "gen_ai.output.messages": "[]"})
    assert (span.step.kind, span.exchange) == (StepKind.OTHER, None)


@given(question=LINES, answer=LINES)
def test_a_stream_of_logfire_is_one_exchange(question: str, answer: str) -> None:
    """Of the two spans of a stream, the one with what came is the exchange."""
    request = json.dumps(
        {"model": "gpt-5", "stream": True, "messages": [{"role": "user", "content": question}]}
    )
    values = CHAT | {"request_data": request}
    begun = one(values | {"logfire.span_type": "span"})
    came = json.dumps({"combined_chunk_content": answer, "chunk_count": 2})
    ended = one(values | {"logfire.span_type": "log", "response_data": came})
    assert begun.exchange is None
    assert ended.exchange is not None
    assert ended.exchange.messages == (Message("user", question),)
    assert ended.exchange.response == answer


def test_a_response_of_logfire_without_a_stream() -> None:
    """A response that came whole is read from its message, its calls included."""
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q":"boots"}'}}
    request = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "Boots?"}]})
    response = json.dumps({"message": {"role": "assistant", "content": "One moment.", "tool_calls": [call]}})
    trace = one(CHAT | {"request_data": request, "response_data": response}).exchange
    assert trace is not None
    assert trace.response == "One moment."
    assert [(c.name, c.arguments) for c in trace.tool_calls] == [("search", '{"q":"boots"}')]


def test_another_span_of_logfire_stays_what_it_is() -> None:
    """A span of a web server that Logfire made is about no model, and keeps whose conversation it is."""
    span = one({"logfire.span_type": "span", "logfire.json_schema": "{}", "session.id": "s-4"})
    assert (span.step.kind, span.conversation, span.exchange) == (StepKind.OTHER, "s-4", None)
