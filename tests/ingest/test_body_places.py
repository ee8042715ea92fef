"""Where APIs put what they say beside the answer: errors, tokens, documents, results, pictures, owners."""

import json
from typing import Any

import pytest

from monitor.config import IngestConfig
from monitor.ingest import decoder
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

DECODE = decoder("openai", IngestConfig(), lambda user: f"pseudonym of {user}")
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}
YES = {"choices": [{"message": {"content": "Yes."}}]}


def decode(request: object, response: object) -> Trace:
    """The trace of a request and its response."""
    value = json.dumps({"request": request, "response": response}).encode()
    (trace,) = DECODE(Record("t", 0, 7, 1_600_000_000.0, None, value))
    assert isinstance(trace, Trace)
    return trace


def reply(**message: Any) -> dict[str, Any]:
    """A chat completion of seven tokens with this message."""
    message = {"role": "assistant", "content": ""} | message
    return {"choices": [{"index": 0, "message": message}], "usage": {"completion_tokens": 7}}


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ({"error": {"type": None, "code": "content_filter", "status": 400, "message": "CANARY"}},
         "content_filter"),
        ({"error": {"type": "invalid_request_error", "code": "too_long"}}, "invalid_request_error"),
        ({"error": {"code": 503, "status": "UNAVAILABLE", "message": "CANARY"}}, "UNAVAILABLE"),
        ({"error": {"code": "429", "message": "CANARY"}}, "429"),
        ({"error": {"name": "APIConnectionError", "message": "CANARY"}}, "APIConnectionError"),
        ({"error": {"message": "CANARY"}}, "error"),
        ({"error": "RateLimitError: CANARY"}, "RateLimitError"),
        ({"error": "the CANARY was not found"}, "error"),
        ({"error": True, "message": "CANARY"}, "error"),
        ({"__type": "com.amazon.coral.service#ThrottlingException", "message": "CANARY"},
         "ThrottlingException"),
        ({"choices": [{"finish_reason": "error", "message": {"content": ""}, "error": {"code": 502}}],
          "usage": {"completion_tokens": 2}}, "502"),
        ({"choices": [{"finish_reason": "error", "message": {"content": ""}}]}, "error"),
        ({"message": {"content": []}, "finish_reason": "ERROR"}, "error"),
    ],
)  # fmt: skip
def test_a_failed_call_says_its_kind(response: dict[str, Any], kind: str) -> None:
    """Whatever form an error has, its kind is a word where it has one, and its message is never read."""
    trace = decode(ASKED, response)
    assert (trace.error, trace.finish_reason, trace.labels["error"]) == (kind, "error", kind)
    assert (trace.unread, "CANARY" in str(trace)) == ((), False)


def test_no_error_is_none() -> None:
    """A body that says that there was no error is an answer."""
    assert decode(ASKED, YES | {"error": False}).error == ""
    assert decode(ASKED, YES | {"error": None}).error == ""


@pytest.mark.parametrize(
    ("response", "usage"),
    [
        ({"text": "Yes.", "meta": {"tokens": {"input_tokens": 5, "output_tokens": 7}}}, Usage(5, 7)),
        ({"message": {"content": "Yes."},
          "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 7.0}}}, Usage(5, 7)),
        ({"generation": "Yes.", "prompt_token_count": 5, "generation_token_count": 7}, Usage(5, 7)),
        ({"inputTextTokenCount": 5, "results": [{"outputText": "Yes.", "tokenCount": 7}]}, Usage(5, 7)),
        ({"outputs": [{"type": "text", "text": "Yes."}],
          "usage": {"total_input_tokens": 5, "total_output_tokens": 7}}, Usage(5, 7)),
        ({"candidates": [{"content": {"parts": [{"text": "Yes."}]}, "finish_reason": "STOP"}],
          "usage_metadata": {"prompt_token_count": 5, "candidates_token_count": 7}}, Usage(5, 7)),
        ({"output": {"text": "Yes.", "finish_reason": "stop"}, "usage": {"input_tokens": 5}}, Usage(5)),
    ],
)  # fmt: skip
def test_tokens_are_counted_by_every_api(response: dict[str, Any], usage: Usage) -> None:
    """Cohere's, Titan's, Llama's, Alibaba's and Gemini's counts, in its client's names too, are the usage."""
    trace = decode(ASKED, response)
    assert (trace.response, trace.usage, trace.alternatives) == ("Yes.", usage, ())


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (YES | {"search_results": [{"title": "t", "url": "u", "snippet": "30 days."}]}, "30 days."),
        (YES | {"search_results": [{"title": "t", "url": "u"}]}, None),
        (YES | {"vertex_ai_grounding_metadata": [
            {"groundingChunks": [{"retrievedContext": {"title": "t", "text": "30 days."}}, {"web": {}}]}]},
         "30 days."),
        ({"candidates": [{"content": {"parts": [{"text": "Yes."}]}, "groundingMetadata": {
            "groundingChunks": [{"retrievedContext": {"uri": "gs://d", "text": "30 days."}}]}}]}, "30 days."),
        ({"output": {"text": "Yes."}, "citations": [
            {"retrievedReferences": [{"content": {"text": "30 days."}, "location": {}}]}]}, "30 days."),
        (reply(content="Yes.", context={"all_retrieved_documents": [{"content": "30 days."}]}), "30 days."),
        (YES | {"citations": ["https://u.example"]}, None),
    ],
)  # fmt: skip
def test_what_a_search_found_is_the_context(response: dict[str, Any], found: str | None) -> None:
    """Passages that Perplexity, Vertex, Bedrock and Azure name are documents; bare links are none."""
    trace = decode(ASKED, response)
    assert [document.content for document in trace.context] == ([found] if found else [])
    assert trace.unread == ()


def test_passages_in_a_tools_result_are_documents_too() -> None:
    """A search result that a tool handed over is its result, and a document."""
    found = {
        "type": "search_result",
        "source": "kb",
        "title": "t",
        "content": [{"type": "text", "text": "30"}],
    }
    content = [{"type": "tool_result", "tool_use_id": "c", "content": [found]}]
    trace = decode({"messages": [{"role": "user", "content": content}]}, YES)
    assert (trace.messages, trace.context) == ((Message("tool", "30"),), (Document("t", "30"),))
    held = [{"type": "document", "document": {"id": "d", "data": "30"}}]
    trace = decode({"messages": [{"role": "tool", "tool_call_id": "c", "content": held}]}, YES)
    assert (trace.messages, trace.context) == ((Message("tool", "30"),), (Document("d", "30"),))


@pytest.mark.parametrize(
    "result",
    [
        {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "image", "source": {"data": "A"}}]},
        {"toolResult": {"toolUseId": "c", "content": [{"image": {"source": {"bytes": "A=="}}}]}},
    ],
)  # fmt: skip
def test_a_picture_that_a_tool_returned_is_no_text(result: dict[str, Any]) -> None:
    """Bytes of images among results of tools are counted as left out, not judged as JSON."""
    trace = decode(
        {"messages": [{"role": "user", "content": [result, {"type": "text", "text": "And?"}]}]}, YES
    )
    assert trace.messages == (Message("tool", ""), Message("user", "And?"))
    assert trace.labels == {"left_out.image": "1"}


def test_a_screenshot_is_no_text() -> None:
    """What a computer's tool returned is a picture; rows that a tool returned are its result as JSON."""
    shot = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"}
    items = [
        {"type": "computer_call_output", "call_id": "c", "output": shot},
        {"role": "user", "content": "Hi?"},
    ]
    assert "AAAA" not in str(decode({"input": items}, YES))
    rows = [{"type": "function_call_output", "call_id": "c", "output": [{"id": 1}, {"id": 2}]}]
    assert decode({"input": rows}, YES).messages == (Message("tool", '[{"id":1},{"id":2}]'),)


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        ([{"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "one"}}],
         [("code_execution", "one", False)]),
        ([{"executableCode": {"code": "1"}}, {"codeExecutionResult": {"output": "one"}},
          {"executableCode": {"code": "2"}},
          {"codeExecutionResult": {"output": "two", "outcome": "OUTCOME_FAILED"}}],
         [("code_execution", "one", False), ("code_execution", "two", True)]),
        ([{"functionCall": {"name": "order", "args": {}}}, {"executableCode": {"code": "1"}},
          {"codeExecutionResult": {"output": "one"}}],
         [("order", "", False), ("code_execution", "one", False)]),
        ([{"codeExecutionResult": {"output": "one"}}], [("code_execution", "one", False)]),
    ],
)  # fmt: skip
def test_what_code_returned_stands_with_its_code(
    parts: list[Any], calls: list[tuple[str, str, bool]]
) -> None:
    """Gemini's results of code have no id: each is that of the code before it."""
    trace = decode({"contents": []}, {"candidates": [{"content": {"parts": parts}}]})
    assert [(call.name, call.result, call.error) for call in trace.tool_calls] == calls


def test_parts_of_an_interaction_are_one_answer() -> None:
    """Gemini's interactions list typed parts: calls among them are calls, and thoughts are left out."""
    outputs = [
        {"type": "thought"}, {"type": "text", "text": "Yes."},
        {"type": "function_call", "id": "c", "name": "order", "arguments": {"id": 7}},
    ]  # fmt: skip
    trace = decode({"model": "m", "input": "Hi?"}, {"id": "i", "outputs": outputs})
    assert (trace.response, trace.alternatives) == ("Yes.", ())
    assert trace.tool_calls == (ToolCall("order", '{"id":7}', "", "c"),)


@pytest.mark.parametrize(
    ("response", "label"),
    [
        (reply(images=[{"type": "image_url", "image_url": {"url": "data:AAAA"}}]), "left_out.image_url"),
        ([{"choices": [{"delta": {"images": [{"type": "image_url"}]}}], "usage": {"completion_tokens": 7}}],
         "left_out.image_url"),
        ({"message": {"content": "", "thinking": "hm"}, "done": True, "eval_count": 7}, "left_out.reasoning"),
    ],
)  # fmt: skip
def test_an_answer_without_text_by_nature_is_not_blind(response: object, label: str) -> None:
    """Pictures and thoughts took the tokens: they are left out, and nothing is unread."""
    trace = decode(ASKED, response)
    assert (trace.response, trace.unread, trace.labels) == ("", (), {label: "1"})


@pytest.mark.parametrize("response", [reply(content="Yes.") | {"logprobs": "none"}, {"choices": [
    {"message": {"content": "Yes."}, "logprobs": "none"}]}, {"choices": [{"message": "Yes."}]}])  # fmt: skip
def test_a_lost_value_beside_the_text_is_not_blind(response: dict[str, Any]) -> None:
    """Only a value in whose place a text belongs makes a side unread."""
    trace = decode(ASKED, response)
    assert (trace.response, trace.unread) == ("Yes.", ())


def test_tools_that_a_server_ran_are_calls() -> None:
    """Groq's executed tools are calls with their results."""
    run = [{"index": 0, "type": "search", "arguments": "{}", "output": "30 days."}]
    assert decode(ASKED, reply(content="Yes.", executed_tools=run)).tool_calls == (
        ToolCall("search", "{}", "30 days."),
    )


@pytest.mark.parametrize(
    ("request_", "messages"),
    [
        ({"input": {"messages": ASKED["messages"]}}, [("user", "Hi?")]),
        ({"input": {"prompt": "Hi?"}}, [("user", "Hi?")]),
        ({"contents": "Hi?", "config": {"system_instruction": "Be."}}, [("system", "Be."), ("user", "Hi?")]),
        ({"prompt": "Hi", "suffix": "?"}, [("user", "Hi"), ("user", "?")]),
        ({"messages": [{"role": "assistant", "tool_plan": "I look.", "tool_calls": []}]},
         [("assistant", "I look.")]),
        ({"messages": [{"role": "user", "content": "Hi?", "images": ["AAAA"]}]}, [("user", "Hi?")]),
    ],
)  # fmt: skip
def test_prompts_are_read_wherever_they_stand(
    request_: dict[str, Any], messages: list[tuple[str, str]]
) -> None:
    """Alibaba's input, Google's config, what follows a completion, and a plan are messages."""
    trace = decode(request_, YES)
    assert [(message.role, message.content) for message in trace.messages] == messages
    assert trace.unread == ()


@pytest.mark.parametrize(
    ("messages", "is_unread"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": ""}]}], True),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text"}]}], True),
        ([{"role": "user", "parts": [{"text": ""}]}], True),
        ([{"role": "user", "content": ""}, {"role": "assistant", "content": ""}], True),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}], False),
        ([{"role": "user", "content": None, "images": ["AAAA"]}], False),
        ([{"role": "user", "content": [{"type": "text", "text": ""}, {"type": "image_url"}]}], False),
        ([{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "order"}}]}], False),
    ],
)  # fmt: skip
def test_an_empty_prompt_that_cost_tokens_is_unread(messages: list[Any], is_unread: bool) -> None:  # noqa: FBT001 - a case
    """Parts whose text was taken out, and prompts of nothing but empty texts, are blind; pictures are not."""
    trace = decode({"messages": messages}, YES | {"usage": {"prompt_tokens": 5, "completion_tokens": 7}})
    expected = (Unread(Side.PROMPT, Unreadable.NO_CONTENT),) if is_unread else ()
    assert (trace.unread, trace.response) == (expected, "Yes.")
    free = decode({"messages": [{"role": "user", "content": ""}]}, YES)
    assert free.unread == ()


def test_what_was_filled_into_a_stored_prompt_is_read() -> None:
    """Variables of a stored prompt may be texts or parts; those without text are left out."""
    filled = {"a": "Hi", "b": {"type": "input_text", "text": "you"}, "c": {"type": "input_image"}}
    trace = decode({"prompt": {"id": "p", "variables": filled}}, YES)
    assert trace.messages == (Message("user", "Hi"), Message("user", "you"))
    assert trace.labels == {"left_out.input_image": "1"}


def test_owners_are_taken_from_the_metadata() -> None:
    """User and conversation come from the fields of the API, else the metadata, else the response."""
    metadata = {"user_id": 7.0, "session_id": "s1", "flow": "returns"}
    trace = decode(ASKED | {"metadata": metadata}, YES)
    assert (trace.user, trace.conversation, trace.labels) == ("pseudonym of 7", "s1", {"flow": "returns"})
    trace = decode(ASKED | {"metadata": metadata, "user": "u1", "conversation": {"id": "c1"}}, YES)
    assert (trace.user, trace.conversation) == ("pseudonym of u1", "c1")
    assert decode(ASKED, YES | {"conversation": {"id": "c2"}}).conversation == "c2"
