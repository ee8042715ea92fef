"""OpenAI's client with an observability SDK that has decorators of its own: `openai_sdk.py LIBRARY`."""

import json
import sys
from typing import Any

import scenario
from telemetry import MODELS, SINK, exported, lookup_order


def langfuse() -> None:
    with exported() as (spans, _):
        from langfuse import Langfuse, observe, propagate_attributes
        from langfuse.openai import OpenAI

        client = Langfuse(public_key="pk", secret_key="sk", host=SINK, tracer_provider=spans)

        @observe(as_type="agent")
        def support(question: str) -> str:
            with propagate_attributes(user_id=scenario.USER, session_id=scenario.CONVERSATION):
                return _talk(
                    OpenAI(max_retries=0),
                    question,
                    observe(as_type="tool")(lookup_order),
                    observe(as_type="retriever")(_documents),
                )

        assert support(scenario.QUESTION) == scenario.ANSWER
        client.flush()


def mlflow() -> None:
    import os

    del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]  # it would turn metrics on, which want a server
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{SINK}/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    os.environ["MLFLOW_TRACKING_URI"] = SINK
    import mlflow as library
    import openai
    from mlflow.entities import Document

    library.openai.autolog()
    documents = library.trace(span_type="RETRIEVER")(
        lambda _: [Document(page_content=scenario.DOCUMENT, metadata={"doc_uri": "policy"})]
    )

    @library.trace(span_type="AGENT")
    def support(question: str) -> str:
        library.update_current_trace(
            metadata={"mlflow.trace.user": scenario.USER, "mlflow.trace.session": scenario.CONVERSATION}
        )
        return _talk(
            openai.OpenAI(max_retries=0), question, library.trace(span_type="TOOL")(lookup_order), documents
        )

    assert support(scenario.QUESTION) == scenario.ANSWER


def openlit() -> None:
    import openai
    import openlit as library

    library.init(otlp_endpoint=SINK, application_name="support-bot", disable_batch=True)
    _talk(openai.OpenAI(max_retries=0), scenario.QUESTION, lookup_order, _documents)


def _documents(_: str) -> list[dict[str, Any]]:
    return [{"page_content": scenario.DOCUMENT, "metadata": {"id": "policy"}}]


def _talk(client: Any, question: str, lookup: Any, documents: Any) -> str:
    import openai_chat

    documents(question)
    messages: list[Any] = [
        {"role": "system", "content": scenario.SYSTEM},
        {"role": "user", "content": question},
    ]
    _, calls = openai_chat.ask(client, messages, stream=False)
    for call in calls:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        result = lookup(**json.loads(call["function"]["arguments"]))
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return openai_chat.ask(client, messages, stream=False)[0]


if __name__ == "__main__":
    assert MODELS
    {"langfuse": langfuse, "mlflow": mlflow, "openlit": openlit}[sys.argv[1]]()
