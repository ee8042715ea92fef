"""What is read of the spans of Langfuse and MLflow."""

import json
from typing import Any

from otlp_wire import one

from monitor.trace import Document, Message, Span, StepKind, ToolCall, Usage

QUESTION, ANSWER = "How long may I keep the red boots?", "Write to jo.doe@example.net within 60 days."


def langfuse(kind: str, sent: Any = None, made: Any = None, **more: Any) -> Span:
    """An observation of Langfuse."""
    values = {"langfuse.observation.type": kind}
    for key, value in (("input", sent), ("output", made)):
        if value is not None:
            values[f"langfuse.observation.{key}"] = value if type(value) is str else json.dumps(value)
    return one(values | more, name="find")


def test_langfuse_observations_are_steps_of_their_kinds() -> None:
    """Types become kinds; what a decorated function was called with is its arguments."""
    tool = langfuse("tool", {"args": [], "kwargs": {"item": "boots"}}, {"days": 30})
    assert tool.call == ToolCall("find", '{"item":"boots"}', '{"days": 30}')
    found = langfuse(
        "retriever", {"args": [QUESTION], "kwargs": {}}, [{"page_content": "30 days"}, "or more"]
    )
    assert (found.step.kind, found.step.input) == (StepKind.RETRIEVAL, QUESTION)
    assert [document.content for document in found.documents] == ["30 days", "or more"]
    agent = langfuse("agent", {"args": [QUESTION], "kwargs": {}}, ANSWER)
    assert agent.exchange is not None
    assert (agent.exchange.agent, agent.exchange.question(), agent.exchange.response) == (
        "find",
        QUESTION,
        ANSWER,
    )
    assert [
        langfuse(kind).step.kind for kind in ("chain", "guardrail", "embedding", "evaluator", "span")
    ] == [
        StepKind.WORKFLOW,
        StepKind.GUARDRAIL,
        StepKind.OTHER,
        StepKind.OTHER,
        StepKind.OTHER,
    ]
    assert langfuse("span", QUESTION).step.kind == StepKind.WORKFLOW


def test_langfuse_calls_of_tools_failures_and_lengths() -> None:
    """The shape and the length of an output tell why it ended; an error's level is an error."""
    calls = [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"item":"boots"}'}}]
    called = langfuse("generation", QUESTION, {"role": "assistant", "content": None, "tool_calls": calls})
    assert called.exchange is not None
    assert called.exchange.tool_calls == (ToolCall("find", '{"item":"boots"}', "", "c1"),)
    assert (called.exchange.finish_reason, called.exchange.unread) == ("tool_calls", ())
    cut = langfuse(
        "generation",
        QUESTION,
        ANSWER,
        **{
            "langfuse.observation.model.parameters": '{"max_tokens": 8}',
            "langfuse.observation.usage_details": '{"input": 5, "output": 8}',
        },
    )
    assert cut.exchange is not None
    assert (cut.exchange.finish_reason, cut.exchange.usage) == ("length", Usage(5, 8))
    failed = langfuse("generation", QUESTION, **{"langfuse.observation.level": "ERROR"})
    assert failed.exchange is not None
    assert (failed.exchange.labels["error"], failed.exchange.unread) == ("error", ())


def test_langfuse_owners_may_be_on_spans_of_others() -> None:
    """Langfuse's attributes of user and conversation count on a span of another dialect."""
    span = one(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps(
                [{"role": "user", "parts": [{"type": "text", "content": QUESTION}]}]
            ),
            "langfuse.user.id": "u-1",
            "langfuse.session.id": "s-1",
        }
    )
    assert (span.conversation, span.user) == ("s-1", "pseudonym-3")
    assert span.exchange is not None
    assert span.exchange.question() == QUESTION


# MLflow.


def mlflow(kind: str, sent: Any = None, made: Any = None, **more: Any) -> Span:
    """A span of MLflow."""
    pairs = (("mlflow.spanType", kind), ("mlflow.spanInputs", sent), ("mlflow.spanOutputs", made))
    return one({key: json.dumps(value) for key, value in pairs if value is not None} | more, name="find")


def test_mlflow_spans_are_steps_of_their_types() -> None:
    """Types become kinds; texts are unquoted, documents have a page's content."""
    tool = mlflow("TOOL", {"item": "boots"}, "30 days")
    assert tool.call == ToolCall("find", '{"item": "boots"}', "30 days")
    found = mlflow("RETRIEVER", {"query": QUESTION}, [{"page_content": "30 days", "metadata": {"id": "p"}}])
    assert (found.step.input, found.documents) == (QUESTION, (Document("p", "30 days"),))
    chain = mlflow("CHAIN", {"q": QUESTION}, ANSWER)
    assert chain.exchange is not None
    assert (chain.step.kind, chain.exchange.question(), chain.exchange.response) == (
        StepKind.WORKFLOW,
        QUESTION,
        ANSWER,
    )
    assert mlflow("AGENT", {"q": QUESTION}, ANSWER).step.kind == StepKind.AGENT
    assert mlflow("EMBEDDING", {"input": "x"}, [[0.1]]).step.kind == StepKind.OTHER


def test_mlflow_keeps_the_messages_of_langchain_and_of_older_versions() -> None:
    """Messages with LangChain's types are read, and those of `mlflow.chat.messages` with their answer."""
    dumped = [[{"type": "system", "content": "Be brief."}, {"type": "human", "content": QUESTION}]]
    sample = {"text": ANSWER, "message": {"type": "ai", "content": ANSWER}, "generation_info": {}}
    span = mlflow("CHAT_MODEL", dumped, {"generations": [[sample]]})
    assert span.exchange is not None
    assert span.exchange.messages == (Message("system", "Be brief."), Message("user", QUESTION))
    assert (span.exchange.response, span.exchange.alternatives) == (ANSWER, ())
    talk = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    old = mlflow("CHAT_MODEL", **{"mlflow.chat.messages": json.dumps(talk)})
    assert old.exchange is not None
    assert (old.exchange.question(), old.exchange.response) == (QUESTION, ANSWER)
    assert len(old.exchange.messages) == 1


def test_an_event_of_langfuse_is_no_exchange() -> None:
    """A point in time may hold an input, and nobody answers it."""
    assert one({"langfuse.observation.type": "event", "langfuse.observation.input": "hi"}).exchange is None
