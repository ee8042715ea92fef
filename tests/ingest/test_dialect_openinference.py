"""OpenInference: what its instrumentations of clients, CrewAI and smolagents emit beyond plain messages."""

import json
from typing import Any

import pytest
from hypothesis import given
from lines import LINES
from otlp_wire import one

from monitor.trace import Message, Side, StepKind, Unread, Unreadable

LLM = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
ASKED, SAID = "llm.input_messages.0.message", "llm.output_messages.0.message"


@given(question=LINES, spoken=LINES)
def test_a_transcript_of_audio_is_the_answer(question: str, spoken: str) -> None:
    """What was spoken stands as a transcript among the contents, next to the audio itself."""
    part = f"{SAID}.contents.0.message_content"
    trace = one(
        LLM
        | {f"{ASKED}.role": "user", f"{ASKED}.content": question, f"{SAID}.role": "assistant"}
        | {f"{part}.type": "audio", f"{part}.audio.transcript": spoken, f"{part}.audio.url": "s3://x"}
    ).exchange
    assert trace is not None
    assert (trace.messages, trace.response) == ((Message("user", question),), spoken)


def test_a_call_among_the_contents_counts_once() -> None:
    """Calls may stand among the contents, next to them, or in both places."""
    call = {"tool_call.id": "t1", "tool_call.function.name": "seek", "tool_call.function.arguments": "{}"}
    inside = {f"{SAID}.contents.0.{key}": value for key, value in call.items()}
    beside = {f"{SAID}.tool_calls.0.{key}": value for key, value in call.items()}
    for values in (inside, beside, inside | beside):
        trace = one(LLM | values | {f"{SAID}.role": "assistant"}).exchange
        assert trace is not None
        assert [(c.name, c.arguments, c.id) for c in trace.tool_calls] == [("seek", "{}", "t1")]


def test_hidden_texts_are_missing() -> None:
    """With OPENINFERENCE_HIDE_INPUTS and _OUTPUTS a marker stands in the place of texts."""
    trace = one(LLM | {"input.value": "__REDACTED__", "output.value": "__REDACTED__"}).exchange
    assert trace is not None
    assert trace.unread == (
        Unread(Side.PROMPT, Unreadable.REDACTED),
        Unread(Side.RESPONSE, Unreadable.REDACTED),
    )


def test_roles_of_smolagents() -> None:
    """Roles may be names of an enumeration that was printed, and steps of a tool's use."""
    roles = ["MessageRole.SYSTEM", "MessageRole.USER", "tool-call", "tool-response"]
    values = {f"llm.input_messages.{n}.message.role": role for n, role in enumerate(roles)}
    values |= {f"llm.input_messages.{n}.message.content": f"text {n}" for n in range(len(roles))}
    trace = one(LLM | values).exchange
    assert trace is not None
    assert [message.role for message in trace.messages] == ["system", "user", "assistant", "tool"]


def test_an_agent_may_have_a_name_with_spaces() -> None:
    """CrewAI's agents have roles for names; they stay readable."""
    span = one(
        {"openinference.span.kind": "AGENT", "agent.name": "Senior Shoe Expert", "output.value": "Yes."}
    )
    assert (span.step.kind, span.step.name) == (StepKind.AGENT, "Senior Shoe Expert")
    assert span.exchange is not None
    assert span.exchange.agent == "Senior Shoe Expert"


@pytest.mark.parametrize(
    "told", [{"user_id": "u-1", "session_id": "s-1"}, {"userId": "u-1", "thread_id": "s-1"}]
)
def test_metadata_names_user_and_conversation(told: dict[str, str]) -> None:
    """What the application ties to its spans counts where the span has no user and no session of its own."""
    span = one(LLM | {"metadata": json.dumps(told | {"team": "shop"})})
    assert (span.user, span.conversation) == ("pseudonym-3", "s-1")
    own = one(LLM | {"metadata": json.dumps(told), "user.id": "user-2", "session.id": "s-2"})
    assert (own.user, own.conversation) == ("pseudonym-6", "s-2")


@pytest.mark.parametrize("metadata", ["{}", "[1]", "no JSON", '{"user_id": {"a": 1}}', '{"user_id": null}'])
def test_metadata_of_other_shapes_names_nobody(metadata: str) -> None:
    """Metadata that is no object, or that holds no text under these names, is passed over."""
    span = one(LLM | {"metadata": metadata})
    assert (span.user, span.conversation) == ("", "")


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
def test_the_user_of_the_request_counts(name: str) -> None:
    """OpenAI's parameter for the end user is among the parameters of the call."""
    assert one(LLM | {"llm.invocation_parameters": json.dumps({name: "u-1"})}).user == "pseudonym-3"
    assert not one(LLM | {"llm.invocation_parameters": json.dumps({name: {"a": [1]}})}).user


def test_a_span_that_prepares_a_call_is_no_call() -> None:
    """LlamaIndex reports the making of a request as an LLM as well, without messages of its own."""
    held = {"input.value": '{"tools": []}', "output.value": '{"messages": []}'}
    assert one(LLM | held, name="OpenAI._prepare_chat_with_tools").exchange is None
    assert one(LLM | held, name="OpenAI.achat").exchange is not None


@pytest.mark.parametrize("odd", [{"a": 1}, ["x"], 7, True, None])
def test_an_id_of_a_call_may_be_anything(odd: Any) -> None:
    """Whatever stands in the place of a call's id, the call and the other parts are read."""
    flat = "llm.output_messages.0.message."
    part = f"{flat}contents.0."
    exchange = one(
        {
            "openinference.span.kind": "LLM",
            f"{flat}role": "assistant",
            f"{flat}tool_calls.0.tool_call.id": odd,
            f"{flat}tool_calls.0.tool_call.function.name": "find",
            f"{part}message_content.type": "tool_use",
            f"{part}tool_call.id": odd,
            f"{part}tool_call.function.name": "find",
        }
    ).exchange
    assert exchange
    assert {call.name for call in exchange.tool_calls} == {"find"}


@pytest.mark.parametrize(
    ("sent", "made"),
    [
        (
            {"system": "Be brief.", "messages": [{"role": "user", "content": "hi"}], "model": "m"},
            {"role": "assistant", "content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn"},
        ),
        (
            {"config": {"system_instruction": "Be brief."}, "contents": "hi", "model": "m"},
            {"candidates": [{"content": {"role": "model", "parts": [{"text": "yes"}]}}]},
        ),
        (
            {"instructions": "Be brief.", "input": "hi", "model": "m"},
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": "yes"}]}]},
        ),
    ],
    ids=["anthropic", "gemini", "responses"],
)
def test_bodies_stand_in_for_messages(sent: dict[str, Any], made: dict[str, Any]) -> None:
    """Without flattened messages, request and response of any API are read whole, instructions too."""
    values = {"input.value": json.dumps(sent), "output.value": json.dumps(made)}
    trace = one(LLM | values).exchange
    assert trace is not None
    assert trace.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert trace.response == "yes"


def test_a_tool_that_returns_a_message_of_langchain() -> None:
    """The result is the message's text, and its id joins it with the call that the model made."""
    message = {"content": "30 days", "type": "tool", "name": "find", "tool_call_id": "c1"}
    values = {"input.value": "{'item': 'boots'}", "output.value": json.dumps(message)}
    span = one({"openinference.span.kind": "TOOL", "tool.name": "find"} | values)
    assert span.call is not None
    assert (span.call.result, span.call.id) == ("30 days", "c1")
