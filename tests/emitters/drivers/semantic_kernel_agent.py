"""An agent of Semantic Kernel, which reports by itself."""

import asyncio
import logging

import scenario
from opentelemetry.sdk._logs import LoggingHandler
from telemetry import exported, lookup_order


async def main() -> None:
    from semantic_kernel.agents import ChatCompletionAgent
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
    from semantic_kernel.functions import kernel_function

    class Orders:
        @kernel_function(name=scenario.TOOL, description="Tell where an order is.")
        def lookup(self, order: str) -> str:
            return lookup_order(order)

    service = OpenAIChatCompletion(ai_model_id=scenario.MODEL)
    agent = ChatCompletionAgent(
        service=service, name="Support", instructions=scenario.SYSTEM, plugins=[Orders()]
    )
    done = await agent.get_response(messages=scenario.QUESTION)
    assert str(done) == scenario.ANSWER, done


with exported() as (_, logs):
    logging.getLogger().addHandler(LoggingHandler(logger_provider=logs))
    logging.getLogger("semantic_kernel").setLevel(logging.INFO)
    asyncio.run(main())
