"""Spans of frameworks as they are sent: each layout with texts of the test's own, for OTLP/JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from otlp_wire import attributes, decode, request, span_of

from monitor.trace import Trace

Turn = Callable[[str, str], dict[str, Any]]
"""Makes the span of a model's call from a question and an answer."""


def lc(kind: str, **kwargs: Any) -> dict[str, Any]:
    """An object of LangChain as it serialises itself."""
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", kind], "kwargs": kwargs}


def event(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """An event of a span."""
    return {"name": name, "timeUnixNano": "1795327200000000000", "attributes": attributes(dict(values))}


def vercel(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """`ai.generateText.doGenerate` of the Vercel AI SDK 5 and 6."""
    prompt = [{"role": "user", "content": [{"type": "text", "text": question}]}]
    return span_of(
        {
            "operation.name": "ai.generateText.doGenerate support",
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.provider": "openai.chat",
            "ai.model.id": "gpt-5",
            "ai.prompt.messages": json.dumps(prompt),
            "ai.response.finishReason": "stop",
            "ai.response.text": answer,
            "ai.response.id": "r-1",
            "ai.usage.inputTokens": 20,
            "ai.usage.outputTokens": 14,
            "ai.telemetry.metadata.userId": "u-1",
            "ai.telemetry.metadata.sessionId": "s-1",
            "ai.telemetry.metadata.team": "shoes",
            "gen_ai.system": "openai.chat",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.response.finish_reasons": ["stop"],
            **more,
        }
    )


def langfuse(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A generation of Langfuse's wrapper around OpenAI's client."""
    request = {"tools": [], "messages": [{"role": "user", "content": question}]}
    return span_of(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.input": json.dumps(request),
            "langfuse.observation.output": json.dumps({"role": "assistant", "content": answer}),
            "langfuse.observation.model.name": "gpt-5-2026-01-01",
            "langfuse.observation.model.parameters": '{"temperature": 1, "max_tokens": "Infinity"}',
            "langfuse.observation.usage_details": '{"prompt_tokens": 20, "completion_tokens": 14}',
            "user.id": "u-1",
            "session.id": "s-1",
            "langfuse.trace.metadata.team": '"shoes"',
            **more,
        }
    )


def mlflow(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A call of OpenAI's client under MLflow's `autolog`."""
    request = {"model": "gpt-5", "messages": [{"role": "user", "content": question}]}
    choice = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": answer}}
    return span_of(
        {
            "mlflow.traceRequestId": '"tr-1"',
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.spanInputs": json.dumps(request),
            "mlflow.spanOutputs": json.dumps({"choices": [choice], "model": "gpt-5-2026-01-01"}),
            "mlflow.chat.tokenUsage": '{"input_tokens": 20, "output_tokens": 14, "total_tokens": 34}',
            "user.id": '"u-1"',
            "session.id": '"s-1"',
            "mlflow.traceTag.team": "shoes",
            **more,
        }
    )


def langsmith(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A chat model of LangChain, exported by LangSmith."""
    message = lc(
        "AIMessage",
        content=answer,
        type="ai",
        tool_calls=[],
        response_metadata={"model_name": "gpt-5-2026-01-01", "finish_reason": "stop"},
    )
    generation = {"text": answer, "type": "ChatGeneration", "message": message}
    return span_of(
        {
            "langsmith.span.kind": "llm",
            "langsmith.trace.name": "ChatOpenAI",
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-5",
            "langsmith.metadata.thread_id": "s-1",
            "langsmith.metadata.user_id": "u-1",
            "langsmith.metadata.team": "shoes",
            "langsmith.metadata.ls_model_name": "gpt-5",
            "gen_ai.prompt": json.dumps({"messages": [[lc("HumanMessage", content=question, type="human")]]}),
            "gen_ai.completion": json.dumps({"generations": [[generation]]}),
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.output_tokens": 14,
            **more,
        }
    )


def cloudflare(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A request through Cloudflare's AI Gateway, with custom metadata."""
    return span_of(
        {
            "gen_ai.request.model": "gpt-5",
            "gen_ai.model.provider": "openai",
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.output_tokens": 14,
            "gen_ai.prompt_json": json.dumps([{"role": "user", "content": question}]),
            "gen_ai.completion_json": json.dumps([{"role": "assistant", "content": answer}]),
            "gen_ai.usage.cost": 0.01,
            "user_id": "u-1",
            "session_id": "s-1",
            **more,
        }
    )


def genkit(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A model's action of Genkit."""
    request = {"messages": [{"role": "user", "content": [{"text": question}]}], "config": {}}
    message = {"role": "model", "content": [{"text": answer}]}
    usage = {"inputTokens": 20, "outputTokens": 14}
    return span_of(
        {
            "genkit:type": "action",
            "genkit:metadata:subtype": "model",
            "genkit:name": "googleai/gpt-5",
            "genkit:path": "/{support,t:flow}/{generate,t:util}/{googleai/gpt-5,t:action,s:model}",
            "genkit:metadata:context": '{"auth": {"uid": "u-1"}}',
            "genkit:sessionId": "s-1",
            "genkit:input": json.dumps(request),
            "genkit:output": json.dumps({"message": message, "finishReason": "stop", "usage": usage}),
            "genkit:state": "success",
            **more,
        }
    )


def llamaindex(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A chat of LlamaIndex with its events."""
    asked = [{"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": question}]}]
    common = {"messages": json.dumps(asked), "span_id": "OpenAI.chat-1"}
    ended = {
        "response.message.role": "assistant",
        "response.message.blocks": json.dumps([{"block_type": "text", "text": answer}]),
        "response.raw.model": "gpt-5-2026-01-01",
        "response.raw.usage.prompt_tokens": 20,
        "response.raw.usage.completion_tokens": 14,
        "response.raw.choices": json.dumps([{"finish_reason": "stop", "index": 0}]),
    }
    return span_of(
        dict(more),
        name="OpenAI.chat",
        events=[
            event("LLMChatStartEvent", common | {"model_dict.model": "gpt-5"}),
            event("LLMChatEndEvent", common | ended),
        ],
    )


def springai(question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A chat model of Spring AI whose texts a filter put on its span."""
    return span_of(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.response.model": "gpt-5-2026-01-01",
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.output_tokens": 14,
            "gen_ai.prompt": [question],
            "gen_ai.completion": [answer],
            "gen_ai.response.finish_reasons": '["STOP"]',
            "spring.ai.chat.client.conversation.id": "s-1",
            **more,
        }
    )


TURNS: Final[Mapping[str, Turn]] = {
    "vercel": vercel,
    "langfuse": langfuse,
    "mlflow": mlflow,
    "langsmith": langsmith,
    "cloudflare": cloudflare,
    "genkit": genkit,
    "llamaindex": llamaindex,
    "springai": springai,
}
"""A model's call in each layout, about gpt-5, with 20 and 14 tokens."""


def without(span: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A span without the attributes, of itself and of its events, whose names hold one of these."""

    def kept(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [pair for pair in pairs if not any(name in pair["key"] for name in names)]

    events = [each | {"attributes": kept(each["attributes"])} for each in span.get("events", [])]
    return span | {"attributes": kept(span["attributes"])} | ({"events": events} if events else {})


def exchange(span: dict[str, Any]) -> Trace:
    """The exchange of a span that is sent alone."""
    (decoded,) = decode(request(span))
    trace: Trace = decoded.exchange
    return trace
