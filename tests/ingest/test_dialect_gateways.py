"""What is read of the spans of Genkit, LlamaIndex, Spring AI and Cloudflare."""

import json
from typing import Any

import pytest
from dialect_spans import TURNS, event, exchange
from otlp_wire import decode, log_request, one, span_of

from monitor.trace import Document, Message, Side, Span, StepKind, ToolCall, Unread, Unreadable

QUESTION, ANSWER = "How long may I keep the red boots?", "Write to jo.doe@example.net within 60 days."


def genkit(subtype: str, sent: Any, made: Any, **more: Any) -> Span:
    """An action of Genkit."""
    return one(
        {
            "genkit:type": "action",
            "genkit:metadata:subtype": subtype,
            "genkit:name": "find",
            "genkit:input": json.dumps(sent),
            "genkit:output": json.dumps(made),
        }
        | more
    )


def test_genkit_actions_are_steps_of_their_kinds() -> None:
    """Tools, retrievers and flows are read from their JSON; a failed state is an error."""
    assert genkit("tool", {"item": "boots"}, "30 days").call == ToolCall(
        "find", '{"item": "boots"}', "30 days"
    )
    page = {"content": [{"text": "30 days"}], "metadata": {"id": "p"}}
    found = genkit("retriever", {"query": {"content": [{"text": QUESTION}]}}, {"documents": [page]})
    assert (found.step.input, found.documents) == (QUESTION, (Document("p", "30 days"),))
    flow = genkit("flow", QUESTION, ANSWER, **{"genkit:state": "error"})
    assert flow.exchange is not None
    assert (flow.step.kind, flow.exchange.question(), flow.exchange.response) == (
        StepKind.WORKFLOW,
        QUESTION,
        ANSWER,
    )
    assert flow.step.error == "error"
    assert genkit("embedder", {"input": [page]}, {"embeddings": []}).exchange is None


def test_genkit_parts_of_every_kind() -> None:
    """Requests of tools are calls, their responses results; media and reasoning are left out."""
    turns = [
        {"role": "system", "content": [{"text": "Be brief."}]},
        {
            "role": "user",
            "content": [{"text": QUESTION}, {"media": {"contentType": "image/png", "url": "d"}}],
        },
        {"role": "model", "content": [{"toolRequest": {"name": "find", "ref": "c1", "input": {}}}]},
        {
            "role": "tool",
            "content": [{"toolResponse": {"name": "find", "ref": "c1", "output": {"days": 30}}}],
        },
    ]
    sample = {
        "index": 0,
        "message": {
            "role": "model",
            "content": [
                {"reasoning": "x"},
                {"toolRequest": {"name": "find", "ref": "c2", "input": {"q": 1}}},
            ],
        },
        "finishReason": "blocked",
    }
    trace = genkit("model", {"messages": turns}, {"candidates": [sample]}).exchange
    assert trace is not None
    assert [m.role for m in trace.messages] == ["system", "user", "assistant", "tool"]
    assert trace.messages[-1].content == '{"days":30}'
    assert trace.tool_calls == (ToolCall("find", '{"q":1}', "", "c2"),)
    assert trace.finish_reason == "content_filter"
    assert trace.labels == {"left_out.image": "1", "left_out.reasoning": "1"}


# LlamaIndex.


def test_llamaindex_retrievals_queries_and_calls_of_tools() -> None:
    """Nodes are documents with scores, a query's question and answer a workflow's, a tool's call a tool's."""
    nodes = [
        {"node": {"id_": "p", "text": "30 days", "class_name": "TextNode"}, "score": 0.9, "class_name": "x"}
    ]
    found = one(
        {},
        name="VectorIndexRetriever.retrieve",
        events=[
            event("RetrievalStartEvent", {"str_or_query_bundle.query_str": QUESTION}),
            event("RetrievalEndEvent", {"nodes": json.dumps(nodes)}),
        ],
    )
    assert (found.step.kind, found.step.name, found.step.input) == (
        StepKind.RETRIEVAL,
        "VectorIndexRetriever",
        QUESTION,
    )
    assert found.documents == (Document("p", "30 days", 0.9),)
    asked = one(
        {},
        name="RetrieverQueryEngine.query",
        events=[
            event("QueryStartEvent", {"query": QUESTION}),
            event("QueryEndEvent", {"response.response": ANSWER}),
        ],
    )
    assert asked.exchange is not None
    assert (asked.step.kind, asked.exchange.response) == (StepKind.WORKFLOW, ANSWER)
    called = one({}, events=[event("AgentToolCallEvent", {"tool.name": "find", "arguments": '{"q":1}'})])
    assert called.call == ToolCall("find", '{"q":1}')


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("response", f"assistant: {ANSWER}"),
        ("response", json.dumps({"message": {"role": "assistant", "blocks": [{"text": ANSWER}]}})),
        ("response.message.content", ANSWER),
        ("output", ANSWER),
    ],
)
def test_answers_of_llamaindex_in_every_form(key: str, value: str) -> None:
    """A response is read as its message, as what it prints, and as a prediction's output."""
    name = "LLMPredictEndEvent" if key == "output" else "LLMChatEndEvent"
    assert exchange(span_of({}, events=[event(name, {key: value})])).response == ANSWER


def test_a_stream_of_llamaindex_has_its_answer_nowhere() -> None:
    """Its span ends before the answer: the response was not read, the prompt was."""
    turn = TURNS["llamaindex"](QUESTION, ANSWER)
    trace = exchange(turn | {"events": turn["events"][:1]})
    assert trace.question() == QUESTION
    assert trace.unread == (Unread(Side.RESPONSE, Unreadable.NO_CONTENT),)


# Spring AI and Cloudflare.


def test_springai_tools_clients_and_vector_stores() -> None:
    """`spring.ai.kind` tells the step; a store's query has documents, its other operations are no steps."""
    tool = one(
        {
            "gen_ai.operation.name": "framework",
            "gen_ai.system": "spring_ai",
            "spring.ai.kind": "tool_call",
            "spring.ai.tool.definition.name": "find",
            "spring.ai.tool.call.id": "c1",
            "spring.ai.tool.call.arguments": '{"item":"boots"}',
            "spring.ai.tool.call.result": "30 days",
        }
    )
    assert tool.call == ToolCall("find", '{"item":"boots"}', "30 days", "c1")
    store = {
        "spring.ai.kind": "vector_store",
        "db.operation.name": "query",
        "db.system": "pg_vector",
        "db.vector.query.content": QUESTION,
        "db.vector.query.response.documents": '["30 days", "or more"]',
    }
    found = one(store)
    assert (found.step.kind, found.step.name, found.step.input) == (StepKind.RETRIEVAL, "pg_vector", QUESTION)
    assert [document.content for document in found.documents] == ["30 days", "or more"]
    assert one(store | {"db.operation.name": "add"}).step.kind == StepKind.OTHER
    client = one(
        {
            "gen_ai.operation.name": "framework",
            "spring.ai.kind": "chat_client",
            "spring.ai.chat.client.user.text": QUESTION,
            "spring.ai.chat.client.system.text": "Be brief.",
        }
    )
    assert client.exchange is not None
    assert client.step.kind == StepKind.WORKFLOW
    assert client.exchange.messages == (Message("system", "Be brief."), Message("user", QUESTION))


def test_texts_of_springai_in_events() -> None:
    """Milestones before 1.0 put texts into events of the span."""
    span = span_of(
        {"gen_ai.operation.name": "chat", "gen_ai.system": "openai"},
        events=[
            event("gen_ai.content.prompt", {"gen_ai.prompt": [QUESTION]}),
            event("gen_ai.content.completion", {"gen_ai.completion": [ANSWER]}),
        ],
    )
    trace = exchange(span)
    assert (trace.question(), trace.response, trace.unread) == (QUESTION, ANSWER, ())


def test_cloudflare_bodies_may_be_whole() -> None:
    """Prompt and completion may be the bodies of the request and the response."""
    sent = {"model": "gpt-5", "messages": [{"role": "user", "content": QUESTION}]}
    span = span_of({
        "gen_ai.model.provider": "OpenAI",
        "gen_ai.prompt_json": json.dumps(sent),
        "gen_ai.completion_json": json.dumps({
            "model": "gpt-5-2026-01-01",
            "choices": [{"message": {"role": "assistant", "content": ANSWER}}],
        }),
    })  # fmt: skip
    trace = exchange(span)
    assert (trace.question(), trace.response, trace.provider) == (QUESTION, ANSWER, "openai")
    assert (trace.model, trace.model_version) == ("gpt-5", "gpt-5-2026-01-01")


def test_log_records_of_litellm_are_read_by_their_own_attribute() -> None:
    """They have neither a name nor `event.name`, and a message or a choice as their body."""
    said = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "60 days"}}
    sent = (("prompt", {"role": "user", "content": "How long?"}), ("completion", said))
    for name, body in sent:
        [piece] = decode(log_request("", body, {"event_name": f"gen_ai.content.{name}"}))
        trace = piece.exchange
        assert (trace.response or trace.messages[0].content) in {"How long?", "60 days"}


def test_calls_that_are_flattened_too_keep_their_ids() -> None:
    """LiteLLM sends calls in messages and once more flattened, there without their ids."""
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    made = [{"role": "assistant", "parts": [], "tool_calls": [call], "finish_reason": "tool_calls"}]
    flat = {"function_call.name": "find", "function_call.arguments": "{}"}
    values = {f"gen_ai.completion.0.{key}": value for key, value in flat.items()}
    span = one(
        values
        | {"gen_ai.operation.name": "acompletion", "gen_ai.request.model": "m", "llm.is_streaming": "False"}
        | {"gen_ai.output.messages": json.dumps(made)}
    )
    assert span.exchange is not None
    assert span.exchange.tool_calls == (ToolCall("find", "{}", "", "c1"),)
    assert span.exchange.finish_reason == "tool_calls"
