"""An agent of Microsoft's Agent Framework, which reports by itself."""

import asyncio

import scenario
from telemetry import exported, lookup_order


async def main() -> None:
    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(model=scenario.MODEL)
    agent = Agent(client=client, name="Support", instructions=scenario.SYSTEM, tools=[lookup_order])
    done = await agent.run(scenario.QUESTION)
    assert done.text == scenario.ANSWER, done.text


with exported():
    from agent_framework import observability

    observability.enable_instrumentation(enable_sensitive_data=True)
    asyncio.run(main())
