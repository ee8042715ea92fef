"""A chain of LangChain with a retriever, a tool and two calls of the model: `langchain_agent.py LIBRARY`."""

import os
import sys
from typing import Any

import scenario
from telemetry import SINK, exported, lookup_order

CONFIG: dict[str, Any] = {"metadata": {"session_id": scenario.CONVERSATION, "user_id": scenario.USER}}


def main() -> None:
    library = sys.argv[1]
    with exported() as (spans, logs):
        finish = LIBRARIES[library](spans, logs)
        answered = chain().invoke(scenario.QUESTION, config=CONFIG)
        assert answered == scenario.ANSWER, answered
        finish()


def chain() -> Any:
    from langchain_core.documents import Document
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnableLambda
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    class Policies(BaseRetriever):
        def _get_relevant_documents(self, *_: Any, **__: Any) -> list[Document]:
            return [Document(page_content=scenario.DOCUMENT, metadata={"id": "policy"})]

    lookup = tool(lookup_order)
    model = ChatOpenAI(model=scenario.MODEL, use_responses_api=False).bind_tools([lookup])
    policies = Policies()

    def support(question: str, config: Any) -> Any:
        policies.invoke(question, config=config)
        messages: list[Any] = [SystemMessage(scenario.SYSTEM), HumanMessage(question)]
        messages.append(model.invoke(messages, config=config))
        messages += [
            lookup.invoke({**call, "type": "tool_call"}, config=config) for call in messages[-1].tool_calls
        ]
        return model.invoke(messages, config=config)

    return RunnableLambda(support) | StrOutputParser()


def nothing() -> None:
    """Finish at once."""


def langsmith(_: Any, __: Any) -> Any:
    from langchain_core.tracers.langchain import wait_for_all_tracers
    from langsmith.run_trees import get_cached_client

    def finish() -> None:
        wait_for_all_tracers()
        get_cached_client().flush()

    return finish


def langfuse(spans: Any, _: Any) -> Any:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    client = Langfuse(public_key="pk", secret_key="sk", host=SINK, tracer_provider=spans)
    CONFIG["callbacks"] = [CallbackHandler()]
    CONFIG["metadata"] = {
        "langfuse_session_id": scenario.CONVERSATION,
        "langfuse_user_id": scenario.USER,
    }
    return client.flush


def openinference(spans: Any, _: Any) -> Any:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=spans)
    return nothing


def openllmetry(spans: Any, logs: Any) -> Any:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=spans, logger_provider=logs)
    return nothing


def mlflow(_: Any, __: Any) -> Any:
    del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]  # it would turn metrics on, which want a server
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{SINK}/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    os.environ["MLFLOW_TRACKING_URI"] = SINK
    import mlflow as library

    library.langchain.autolog()
    return getattr(library, "flush_trace_async_logging", nothing)


LIBRARIES = {
    "langsmith": langsmith,
    "langfuse": langfuse,
    "openinference": openinference,
    "openllmetry": openllmetry,
    "mlflow": mlflow,
}

if __name__ == "__main__":
    main()
