"""Anthropic's client: `anthropic_messages.py LIBRARY [stream]`."""

import sys
from contextlib import nullcontext
from typing import Any

import scenario
from telemetry import TOOL, exported, lookup_order

TOOLS = [
    {
        "name": scenario.TOOL,
        "description": TOOL["function"]["description"],  # type: ignore[index]
        "input_schema": TOOL["function"]["parameters"],  # type: ignore[index]
    }
]


def main() -> None:
    library, stream = sys.argv[1], sys.argv[2:] == ["stream"]
    with exported() as (spans, logs):
        about: Any = nullcontext()
        if library == "openinference":
            from openinference.instrumentation import using_attributes
            from openinference.instrumentation.anthropic import AnthropicInstrumentor as OpenInference

            OpenInference().instrument(tracer_provider=spans)
            about = using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)
        else:
            from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor as OpenLLMetry

            OpenLLMetry().instrument(tracer_provider=spans, logger_provider=logs)
        import anthropic

        client = anthropic.Anthropic(max_retries=0)
        with about, spans.get_tracer("support-bot").start_as_current_span("support"):
            assert converse(client, stream=stream) == scenario.ANSWER


def converse(client: Any, *, stream: bool) -> str:
    messages: list[Any] = [{"role": "user", "content": scenario.QUESTION}]
    used = ask(client, messages, stream=stream)
    result = lookup_order(**used.input)
    messages.append({"role": "assistant", "content": [used.model_dump()]})
    messages.append(
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": result}]}
    )
    return str(ask(client, messages, stream=stream).text)


def ask(client: Any, messages: list[Any], *, stream: bool) -> Any:
    common: dict[str, Any] = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "system": scenario.SYSTEM,
        "messages": messages,
        "tools": TOOLS,
    }
    if not stream:
        return client.messages.create(**common).content[0]
    with client.messages.stream(**common) as streamed:
        return streamed.get_final_message().content[0]


if __name__ == "__main__":
    main()
