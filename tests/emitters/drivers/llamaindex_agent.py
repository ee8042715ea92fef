"""A query engine and an agent of LlamaIndex: `llamaindex_agent.py LIBRARY`."""

import asyncio
import sys
from contextlib import nullcontext
from typing import Any

import scenario
from telemetry import SINK, exported, lookup_order


def main() -> None:
    library = sys.argv[1]
    with exported() as (spans, logs):
        about = instrument(library, spans, logs) if library == "own" else nullcontext()
        from llama_index.core import Document, MockEmbedding, Settings, VectorStoreIndex
        from llama_index.core.agent.workflow import FunctionAgent
        from llama_index.core.tools import FunctionTool
        from llama_index.llms.openai import OpenAI

        Settings.llm = OpenAI(model=scenario.MODEL)
        Settings.embed_model = MockEmbedding(8)
        index: Any = VectorStoreIndex.from_documents([Document(text=scenario.DOCUMENT, doc_id="policy")])
        if library != "own":  # what builds an index is no conversation
            about = instrument(library, spans, logs)
        with about:
            index.as_query_engine().query(scenario.QUESTION)

        async def run() -> Any:
            agent = FunctionAgent(
                tools=[FunctionTool.from_defaults(lookup_order)],
                llm=Settings.llm,
                system_prompt=scenario.SYSTEM,
                streaming=False,
            )
            return await agent.run(scenario.QUESTION)

        with about:
            answered = asyncio.run(run())
        assert str(answered) == scenario.ANSWER, answered


def instrument(library: str, spans: Any, logs: Any) -> Any:
    if library == "own":
        from llama_index.observability.otel import LlamaIndexOpenTelemetry
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=f"{SINK}/v1/traces")
        LlamaIndexOpenTelemetry(span_exporter=exporter, span_processor="simple").start_registering()
        return nullcontext()
    if library == "openinference":
        from openinference.instrumentation import using_attributes
        from openinference.instrumentation.llama_index import LlamaIndexInstrumentor as OpenInference

        OpenInference().instrument(tracer_provider=spans)
        return using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)
    from opentelemetry.instrumentation.llamaindex import LlamaIndexInstrumentor as OpenLLMetry
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=spans, logger_provider=logs)
    OpenLLMetry().instrument(tracer_provider=spans, logger_provider=logs)
    return nullcontext()


if __name__ == "__main__":
    main()
