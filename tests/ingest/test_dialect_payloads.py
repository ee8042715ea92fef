"""What is read of requests and answers that a framework keeps whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.ingest.dialects import payloads
from monitor.trace import Document, Message, ToolCall

QUESTION = "How long may I keep the red boots?"
YES = {"type": "output_text", "text": "yes"}


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "hi"}]}, 2),
        ({"model": "m", "instructions": "Be brief.", "input": "hi"}, 2),
        ({"model": "m", "contents": ["hi"], "config": {"system_instruction": "Be brief."}}, 2),
        ({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}, 1),
        ({"modelId": "m", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}, 1),
        ({"prompt": None, "messages": [{"role": "user", "content": "hi"}]}, 1),
        ({"input": "hi"}, 1),
        ({"request": {"input": [{"role": "user", "content": "hi"}], "context": {"user_id": "u"}}}, 1),
        ({"input": [{"role": "user", "content": "hi"}], "instructions": "Be brief.", "store": True}, 2),
        ({"data": {"input": {"question": "hi"}}}, 1),
        ({"input": "hi", "chat_history": [{"type": "human", "content": "ho"}]}, 2),
        ("hi", 1),
        (["hi"], 1),
    ],
)
def test_prompts_of_apis_and_frameworks(body: Any, messages: int) -> None:
    """The prompt of a request is read with its instructions and history."""
    read = payloads.asked_of(json.dumps(body) if type(body) is not str else body)
    assert len(read.messages) == messages
    assert read.messages[-1] == Message("user", "hi")
    assert all(m == Message("system", "Be brief.") or m.role == "user" for m in read.messages)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]},
        {"choices": [{"text": "yes", "finish_reason": "stop"}]},
        {"output": [{"type": "reasoning"}, {"type": "message", "role": "assistant", "content": [YES]}]},
        {"role": "assistant", "content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn"},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "yes"}]}, "finishReason": "STOP"}]},
        {"output": {"message": {"role": "assistant", "content": [{"text": "yes"}]}}, "stopReason": "x"},
        {"message": {"role": "assistant", "content": "yes"}, "done_reason": "stop"},
        {"generations": [[{"text": "yes"}]]},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]},
        {"answer": "yes", "context": [{"page_content": "30 days"}], "question": "hi"},
        {"object": "response", "status": "completed", "error": None, "text": {"format": {"type": "text"}},
         "output": [{"type": "message", "role": "assistant", "content": [YES]}], "tool_choice": "auto"},
        {"result": {"response": "yes", "usage": {}}, "success": True, "errors": [], "messages": []},
        {"response": "yes", "tool_calls": []},
        {"output": "yes"},
        [{"type": "text", "text": "yes"}],
        ["yes"],
        "yes",
    ],
)  # fmt: skip
def test_answers_of_apis_and_frameworks(body: Any) -> None:
    """The answer is read of every API's body, and of what a framework makes of one."""
    read = payloads.answered_of(json.dumps(body) if type(body) is not str else body)
    assert (read.response, read.alternatives, read.tool_calls, read.unread) == ("yes", (), (), None)


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.text(min_size=1), min_size=2))
def test_an_object_of_an_application_is_text_as_a_whole(value: dict[str, str]) -> None:
    """No text of an object that is no body of an API is lost."""
    known = {"role", "content", "parts", "index", "text", "id", "data", "type"}
    if known.isdisjoint(value):
        said = payloads.answered_of(json.dumps(value)).response
        asked = payloads.asked_of(json.dumps(value)).messages[-1].content
        assert json.loads(said) == json.loads(asked) == value


def test_items_of_the_responses_api_are_messages() -> None:
    """Calls are the assistant's, their results a tool's, and both are no text of the user."""
    items = [
        {"role": "user", "content": QUESTION},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "30 days"},
    ]
    read = payloads.asked_of({"model": "m", "input": items})
    assert [(m.role, m.content) for m in read.messages] == [
        ("user", QUESTION),
        ("assistant", ""),
        ("assistant", ""),
        ("tool", "30 days"),
    ]
    made = payloads.answered_of({"output": items[2:3], "status": "completed"})
    assert made.finish is None
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert payloads.answered_of({"output": items[2:3]} | cut).finish == "max_output_tokens"
    assert made.tool_calls == (ToolCall("find", "{}", "", "c1"),)


def test_ranked_texts_are_documents_with_their_scores() -> None:
    """Rerankers return pairs of a document, which may be a text alone, and its score."""
    found = payloads.documents_of([["30 days", 0.9], [{"page_content": "60 days"}, 0.5]], ())
    assert found == (Document("", "30 days", 0.9), Document("", "60 days", 0.5))


STREAMS = {
    "completions": [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "60 "}}]},
        {"choices": [{"index": 0, "delta": {"content": "days"}, "finish_reason": "stop"}]},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "60 "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "days"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ],
    "gemini": [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "60 "}]}}]},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "days"}]}, "finishReason": "STOP"}]},
    ],
    "responses": [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "60 "},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "days"},
    ],
}


@pytest.mark.parametrize("chunks", STREAMS.values(), ids=STREAMS)
def test_what_an_api_streamed_is_one_answer(chunks: list[dict[str, Any]]) -> None:
    """Frameworks keep the chunks as a list, gateways the stream as it came."""
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    for made in (json.dumps(chunks), stream, stream + "data: [DONE]\n\n"):
        read = payloads.answered_of(made)
        assert (read.response, read.alternatives, read.unread) == ("60 days", (), None)


def test_the_message_of_an_error_is_no_answer() -> None:
    """A body that reports an error names its type."""
    body = {"error": {"message": "Bad: How long?", "type": "invalid_request_error"}}
    assert payloads.answered_of(json.dumps(body)).response == ""
    assert payloads.error_of(json.dumps(body)) == "invalid_request_error"
    assert payloads.error_of('{"error": null}') == payloads.error_of("no") == ""


def test_what_a_tool_returned_is_the_text_of_langchains_message() -> None:
    """Its id joins it with the call; anything else that a tool returned stays as it was."""
    message = {"content": "30 days", "type": "tool", "tool_call_id": "c1", "status": "success"}
    fields = {"content": [{"type": "text", "text": "30 days"}], "tool_call_id": "c1"}
    path = ["langchain", "schema", "messages", "ToolMessage"]
    made = {"lc": 1, "type": "constructor", "id": path, "kwargs": fields}
    for value in (message, made, {"output": made}):
        assert payloads.returned_of(json.dumps(value)) == ("30 days", "c1")
    for text in ('{"days": 30}', "30 days", '["a", "b"]', ""):
        assert payloads.returned_of(text) == (text, None)
