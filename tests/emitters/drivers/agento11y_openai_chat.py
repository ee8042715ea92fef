"""OpenAI's client in Grafana's Agent Observability SDK: `agento11y_openai_chat.py PROTOCOL`."""

import sys
from typing import Any

import openai
import scenario
from agento11y import Client, ClientConfig, GenerationExportConfig
from agento11y_openai import OpenAIOptions, chat
from telemetry import SINK, SINK_GRPC, TOOL, lookup_order


def main(protocol: str) -> None:
    """Talk, and send the generations over `http` or `grpc`."""
    export = GenerationExportConfig(
        protocol=protocol, endpoint=f"http://{SINK_GRPC}" if protocol == "grpc" else SINK
    )
    observed = Client(
        ClientConfig(generation_export=export, user_id=scenario.USER, tags={"service.name": "support-bot"})
    )
    client = openai.OpenAI(max_retries=0)
    options = OpenAIOptions(conversation_id=scenario.CONVERSATION, agent_name="Support")
    messages: list[Any] = [
        {"role": "system", "content": scenario.SYSTEM},
        {"role": "user", "content": scenario.QUESTION},
    ]

    def ask() -> Any:
        request = {"model": scenario.MODEL, "messages": messages, "tools": [TOOL]}
        done = chat.completions.create(
            observed, request, lambda asked: client.chat.completions.create(**asked), options
        )
        return done.choices[0].message

    called = ask()
    messages.append(called.model_dump(exclude_none=True))
    for call in called.tool_calls:
        result = lookup_order(scenario.ORDER)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert ask().content == scenario.ANSWER
    observed.flush()
    observed.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
