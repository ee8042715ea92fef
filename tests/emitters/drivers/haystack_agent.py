"""A retriever, a model and a tool of Haystack in pipelines, instrumented by OpenInference."""

from typing import Any

import scenario
from telemetry import exported, lookup_order


def main() -> None:
    with exported() as (spans, _), instrument(spans):
        assert ask() == scenario.ANSWER


def ask() -> str:
    from haystack import Document
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
    from haystack.core.pipeline import Pipeline
    from haystack.dataclasses import ChatMessage
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack.tools import Tool

    store = InMemoryDocumentStore()
    store.write_documents([Document(content=scenario.DOCUMENT, id="policy")])
    parameters = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
    tool = Tool(
        name=scenario.TOOL, description="Tell where it is.", parameters=parameters, function=lookup_order
    )
    pipeline = Pipeline()
    pipeline.add_component("documents", InMemoryBM25Retriever(store))
    pipeline.add_component("generator", OpenAIChatGenerator(model=scenario.MODEL, tools=[tool]))
    after = Pipeline()
    after.add_component("generator", OpenAIChatGenerator(model=scenario.MODEL, tools=[tool]))
    messages = [ChatMessage.from_system(scenario.SYSTEM), ChatMessage.from_user(scenario.QUESTION)]
    said = pipeline.run({"documents": {"query": "parcels"}, "generator": {"messages": messages}})[
        "generator"
    ]["replies"]
    call = said[0].tool_calls[0]
    messages += [said[0], ChatMessage.from_tool(tool.invoke(**call.arguments), origin=call)]
    return str(after.run({"generator": {"messages": messages}})["generator"]["replies"][0].text)


def instrument(spans: Any) -> Any:
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.haystack import HaystackInstrumentor

    HaystackInstrumentor().instrument(tracer_provider=spans)
    return using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)


if __name__ == "__main__":
    main()
