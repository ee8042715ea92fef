"""What is read of LangSmith's spans, and of LangChain's JSON in them."""

import json
from typing import Any

import pytest
from dialect_spans import lc
from hypothesis import given
from hypothesis import strategies as st
from otlp_wire import one

from monitor.ingest.dialects import langchain
from monitor.trace import Document, Message, Side, Span, StepKind, ToolCall

QUESTION, ANSWER = "How long may I keep the red boots?", "Write to jo.doe@example.net within 60 days."
keys = st.sampled_from(["role", "content", "type", "text", "lc", "kwargs", "id", "blocks", "data"])


def langsmith(kind: str, sent: Any, made: Any, **more: Any) -> Span:
    """A run that LangSmith exports."""
    return one(
        {
            "langsmith.span.kind": kind,
            "langsmith.trace.name": "find",
            "gen_ai.operation.name": {"retriever": "embeddings", "prompt": "chat"}.get(kind, kind),
            "gen_ai.system": "langchain",
            "gen_ai.prompt": json.dumps(sent),
            "gen_ai.completion": json.dumps(made),
        }
        | more
    )


def test_langsmith_runs_are_steps_and_only_a_model_answers() -> None:
    """Chains are workflows, retrievers hold documents, prompts and parsers say nothing of their own."""
    chain = langsmith("chain", {"q": QUESTION}, {"output": ANSWER})
    assert chain.exchange is not None
    assert (chain.step.kind, chain.exchange.question(), chain.exchange.response) == (
        StepKind.WORKFLOW,
        QUESTION,
        ANSWER,
    )
    page = {"page_content": "30 days", "metadata": {"id": "p"}, "type": "Document"}
    found = langsmith("retriever", {"query": QUESTION}, {"documents": [page, lc("Document", **page)]})
    assert (found.step.input, found.documents) == (QUESTION, (Document("p", "30 days"),) * 2)
    for kind in ("prompt", "parser", "embedding"):
        step = langsmith(kind, {"input": QUESTION}, {"output": ANSWER})
        assert (step.step.kind, step.exchange) == (StepKind.OTHER, None)


@pytest.mark.parametrize(
    "message",
    [
        {"content": "30 days", "type": "tool", "tool_call_id": "c1"},
        lc("ToolMessage", content="30 days", tool_call_id="c1"),
    ],
)
def test_langsmith_results_of_tools_are_messages(message: dict[str, Any]) -> None:
    """A tool's result is the text of its message, which names the call."""
    span = langsmith("tool", {"input": '{"item": "boots"}'}, {"output": message})
    assert span.call == ToolCall("find", '{"item": "boots"}', "30 days", "c1")


def test_langsmith_calls_of_tools() -> None:
    """A model's message that only calls tools is read with its calls, and its history with results."""
    calls = [{"name": "find", "args": {"item": "boots"}, "id": "c1", "type": "tool_call"}]
    history = [
        lc("HumanMessage", content=QUESTION),
        lc("AIMessage", content="", tool_calls=calls),
        lc("ToolMessage", content="30 days", tool_call_id="c1"),
    ]
    sample = {
        "text": "",
        "generation_info": {"finish_reason": "tool_calls"},
        "message": lc("AIMessageChunk", content="", tool_calls=calls),
    }
    trace = langsmith("llm", {"messages": [history]}, {"generations": [[sample]]}).exchange
    assert trace is not None
    assert trace.messages == (Message("user", QUESTION), Message("assistant"), Message("tool", "30 days"))
    assert trace.tool_calls == (ToolCall("find", '{"item":"boots"}', "", "c1"),)
    assert (trace.response, trace.finish_reason, trace.unread) == ("", "tool_calls", ())


def test_langsmith_hidden_texts_are_no_texts() -> None:
    """LANGSMITH_HIDE_INPUTS and LANGSMITH_HIDE_OUTPUTS leave empty objects: both sides are unread."""
    trace = langsmith("llm", {}, {}, **{"gen_ai.usage.output_tokens": 3}).exchange
    assert trace is not None
    assert [unread.side for unread in trace.blind()] == [Side.PROMPT, Side.RESPONSE]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4), lambda i: st.lists(i) | st.dictionaries(keys, i)
    )
)
def test_values_that_are_none_of_langchain_stay_as_they_are(value: Any) -> None:
    """Only objects that say what they are in LangChain's or LlamaIndex's way are made plain."""
    own = json.dumps(value)
    if not any(f'"{key}"' in own for key in ("type", "blocks")):
        assert langchain.plain(value) == value
