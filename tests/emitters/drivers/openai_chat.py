"""OpenAI's client, which one of several libraries instruments: `openai_chat.py LIBRARY [stream]`."""

import json
import sys
from contextlib import nullcontext
from typing import Any

import scenario
from telemetry import TOOL, exported, lookup_order


def main() -> None:
    library, stream = sys.argv[1], sys.argv[2:] == ["stream"]
    with exported() as (spans, logs):
        instrument(library, spans, logs)
        import openai

        client = openai.OpenAI(max_retries=0)
        tracer = spans.get_tracer("support-bot")
        with about(library), tracer.start_as_current_span("support"):
            assert (
                converse(client, stream=stream, retrieve=lambda: retrieve(library, spans)) == scenario.ANSWER
            )


def instrument(library: str, spans: Any, logs: Any) -> None:
    if library == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference

        OpenInference().instrument(tracer_provider=spans)
    elif library == "openllmetry":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry

        OpenLLMetry().instrument(tracer_provider=spans, logger_provider=logs)
    else:
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as GenAI

        GenAI().instrument(tracer_provider=spans, logger_provider=logs)


def about(library: str) -> Any:
    """Name user and conversation, where the library has a way to."""
    if library == "openinference":
        from openinference.instrumentation import using_attributes

        return using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)
    return nullcontext()


def retrieve(library: str, spans: Any) -> None:
    """Report the document, where the library has a way to."""
    if library == "openinference":
        with spans.get_tracer("support-bot").start_as_current_span("retrieve") as span:
            span.set_attribute("openinference.span.kind", "RETRIEVER")
            span.set_attribute("input.value", scenario.QUESTION)
            span.set_attribute("retrieval.documents.0.document.content", scenario.DOCUMENT)
            span.set_attribute("retrieval.documents.0.document.id", "policy")


def converse(client: Any, *, stream: bool, retrieve: Any) -> str:
    retrieve()
    messages: list[Any] = [
        {"role": "system", "content": scenario.SYSTEM},
        {"role": "user", "content": scenario.QUESTION},
    ]
    _, calls = ask(client, messages, stream=stream)
    for call in calls:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        result = lookup_order(**json.loads(call["function"]["arguments"]))
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return ask(client, messages, stream=stream)[0]


def ask(client: Any, messages: list[Any], *, stream: bool) -> tuple[str, list[Any]]:
    common: dict[str, Any] = {"model": scenario.MODEL, "messages": messages, "tools": [TOOL]}
    if not stream:
        message = client.chat.completions.create(**common, user=scenario.USER).choices[0].message
        return message.content or "", [call.model_dump() for call in message.tool_calls or []]
    text, calls = "", []
    for chunk in client.chat.completions.create(
        **common, user=scenario.USER, stream=True, stream_options={"include_usage": True}
    ):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            calls += [
                {"id": c.id, "type": "function", "function": c.function.model_dump()}
                for c in choice.delta.tool_calls or []
            ]
    return text, calls


if __name__ == "__main__":
    main()
