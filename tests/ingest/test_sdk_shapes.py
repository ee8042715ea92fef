"""Messages, results and markers in the shapes of other SDKs: of other languages, APIs and versions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lines import LINES
from otlp_wire import judged, log_request, one, request, span_of, talk

from monitor.ingest.cut_json import read_cut
from monitor.trace import Document, Message, ToolCall, Unreadable

NAMES = st.sampled_from(["city", "days", "shoe"])
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}


@given(LINES, LINES, st.booleans())
def test_adk_for_java_writes_its_names_otherwise(system: str, question: str, camel: bool) -> None:  # noqa: FBT001 - drawn
    """Requests and responses of ADK count with names of any of its languages, instructions as a content."""
    content = {"role": "user", "parts": [{"text": system}]}
    sent = {
        "config": {"systemInstruction" if camel else "system_instruction": content},
        "contents": [{"role": "user", "parts": [{"text": question}]}],
    }
    made = {
        "errorCode" if camel else "error_code": "UNAVAILABLE",
        "usageMetadata" if camel else "usage_metadata": {
            "promptTokenCount" if camel else "prompt_token_count": 7
        },
    }
    own = "gcp.vertex.agent."
    trace = judged(
        request(span_of({f"{own}llm_request": json.dumps(sent), f"{own}llm_response": json.dumps(made)}))
    )
    assert trace.messages == (Message("system", system), Message("user", question))
    assert trace.error == "UNAVAILABLE"
    assert trace.usage
    assert trace.usage.input_tokens == 7


@given(st.lists(LINES, min_size=1, max_size=3), st.integers(0, 2))
def test_pictures_in_a_tools_result_leave_its_texts(texts: list[str], pictures: int) -> None:
    """Of a result with texts and pictures the texts are read, and the pictures are left out."""
    result: list[dict[str, Any]] = [{"type": "text", "text": text} for text in texts]
    result += [{"type": "image", "source": {"type": "base64", "data": "AAAA"}}] * pictures
    turn = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": result}]}
    values = CHAT | talk("q", "a") | {"gen_ai.input.messages": json.dumps([turn])}
    trace = judged(request(span_of(values)))
    assert trace.messages == (Message("tool", "\n".join(texts)),)
    assert trace.labels == ({"left_out.image": str(pictures)} if pictures else {})


def test_a_tools_own_object_in_a_result_is_kept_whole() -> None:
    """A list of objects that are no parts is the tool's own text."""
    result = [{"type": "order", "owner": "jane.roe@example.com", "total": 20}]
    turn = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": result}]}
    values = CHAT | talk("q", "a") | {"gen_ai.input.messages": json.dumps([turn])}
    [message] = judged(request(span_of(values))).messages
    assert json.loads(message.content) == result


@given(LINES, LINES)
def test_items_of_the_responses_api_stand_between_messages(question: str, result: str) -> None:
    """Calls and their results that are items of their own are an assistant's turn and a tool's message."""
    call = {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": question}]},
        {"type": "reasoning", "summary": []},
        call,
        {"type": "function_call_output", "call_id": "c1", "output": result},
    ]
    values = {"gen_ai.input.messages": json.dumps(items), "gen_ai.output.messages": json.dumps([call])}
    trace = judged(request(span_of(CHAT | values)))
    assert trace.messages == (Message("user", question), Message("assistant", ""), Message("tool", result))
    assert trace.tool_calls == (ToolCall("find", "{}", "", "c1"),)
    assert trace.response == ""


@pytest.mark.parametrize("sent", ["['stop']", '["stop"]', ["stop"], "stop", "['stop', 'length']", '["stop"'])
def test_why_an_answer_ended_is_read_however_the_list_is_written(sent: Any) -> None:
    """A list, its JSON, what Python prints of it, and what is left of it name the first reason."""
    trace = judged(request(span_of(CHAT | talk("q", "a") | {"gen_ai.response.finish_reasons": sent})))
    assert trace.finish_reason == "stop"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.characters(min_codepoint=0x10000))
def test_half_a_character_at_the_end_of_cut_json_is_none(text: str, last: str) -> None:
    """A pair of surrogates that was cut within leaves no replacement character behind."""
    whole = json.dumps([text + last])
    cuts = [read_cut(whole[:end], 10) for end in range(len(whole) - 14, len(whole) - 2)]
    assert all(cut in ([text], [text + last]) for cut in cuts)
    assert [text] in cuts


@pytest.mark.parametrize("reason", ["password", "auth", "social security"])
def test_what_logfire_scrubbed_was_not_read(reason: str) -> None:
    """A marker that says why a text was taken stands for any reason."""
    marker = f"[Scrubbed due to {reason!r}]"
    trace = judged(request(span_of(CHAT | talk(marker, marker))))
    assert {each.reason for each in trace.blind()} == {Unreadable.REDACTED}
    assert (trace.messages, trace.response) == ((), "")


VALUES = st.recursive(
    LINES | st.integers(0, 9) | st.booleans(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2) | st.dictionaries(NAMES, inner, min_size=1, max_size=2)
    ),
    max_leaves=4,
)
"""What a tool may be called with; empty lists and objects leave nothing when they are flattened."""


def flattened(name: str, value: Any) -> dict[str, Any]:
    """A value as a Collector flattens it."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {
            key: leaf for part, inner in items for key, leaf in flattened(f"{name}.{part}", inner).items()
        }
    return {name: value}


@given(
    LINES,
    LINES,
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=2),
    st.sampled_from(["span", "event", "log"]),
)
def test_what_a_collector_flattened_is_read_as_it_was(
    question: str, answer: str, arguments: dict[str, Any], place: str
) -> None:
    """Messages and calls in attributes of a span, an event or a log record are made whole again."""
    call = {"type": "tool_call", "id": "c1", "name": "find", "arguments": arguments}
    said = [{"role": "assistant", "parts": [{"type": "text", "content": answer}, call]}]
    values = (
        CHAT
        | flattened("gen_ai.output.messages", said)
        | flattened(
            "gen_ai.input.messages", [{"role": "user", "parts": [{"type": "text", "content": question}]}]
        )
    )
    details = "gen_ai.client.inference.operation.details"
    event = {"name": details, "attributes": span_of(values)["attributes"]}
    if place == "log":
        trace = judged(request(span_of(CHAT)), log_request(details, None, values))
    else:
        trace = judged(request(span_of(values) if place == "span" else span_of(CHAT, events=[event])))
    assert (trace.prompt(), trace.response, trace.blind()) == (question, answer, ())
    [made] = trace.tool_calls
    assert json.loads(made.arguments) == arguments


@given(VALUES, VALUES)
def test_a_tools_texts_that_were_flattened_are_read(arguments: Any, result: Any) -> None:
    """Arguments and results of a tool and what a retrieval found come back too."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"}
    tool |= flattened("gen_ai.tool.call.arguments", {"q": arguments})
    tool |= flattened("gen_ai.tool.call.result", {"r": result})
    found = {"gen_ai.operation.name": "retrieval"} | flattened(
        "gen_ai.retrieval.documents", [{"content": "x"}]
    )
    [call, document] = [one(tool).call, one(found).documents]
    assert call
    assert (json.loads(call.arguments), json.loads(call.result)) == ({"q": arguments}, {"r": result})
    assert document == (Document("", "x"),)


@given(LINES)
def test_what_stands_beside_the_content_of_a_message_is_its_text(text: str) -> None:
    """OpenAI's refusals and transcripts count where a message has no content."""
    for beside in ({"refusal": text}, {"audio": {"id": "a", "transcript": text}}):
        said = [{"role": "assistant", "content": None} | beside]
        trace = judged(request(span_of(CHAT | {"gen_ai.output.messages": json.dumps(said)})))
        assert trace.response == text


@given(st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32))
def test_a_digest_in_the_place_of_messages_was_not_read(digest: bytes) -> None:
    """What a Collector's attributes processor hashed is no text, whichever dialect names it."""
    for asked, answered in (
        ("gen_ai.input.messages", "gen_ai.output.messages"),
        ("gen_ai.prompt_json", "gen_ai.completion_json"),
    ):
        trace = judged(request(span_of(CHAT | {asked: digest.hex(), answered: digest.hex()})))
        assert (trace.messages, trace.response) == ((), "")
        assert {each.reason for each in trace.blind()} == {Unreadable.REDACTED}


def test_a_tool_that_says_that_it_failed_failed() -> None:
    """The spans of Strands' tools end well, and name the status."""
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "find",
        "gen_ai.tool.status": "error",
    }
    call = one(tool).call
    assert call
    assert call.error


def test_the_place_of_a_call_in_a_content_is_no_call() -> None:
    """OpenInference may name a call beside the content that holds its place."""
    message = "llm.output_messages.0.message."
    trace = judged(
        request(
            span_of(
                {
                    "openinference.span.kind": "LLM",
                    f"{message}role": "assistant",
                    f"{message}contents.0.message_content.type": "tool_use",
                    f"{message}tool_calls.0.tool_call.id": "t1",
                    f"{message}tool_calls.0.tool_call.function.name": "find",
                }
            )
        )
    )
    assert trace.tool_calls == (ToolCall("find", "", "", "t1"),)
