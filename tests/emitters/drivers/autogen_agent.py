"""An agent of AutoGen, which reports by itself, and whose client of OpenAI is not instrumented."""

import asyncio

import scenario
from telemetry import exported, lookup_order


async def main() -> None:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    agent = AssistantAgent(
        "support",
        model_client=OpenAIChatCompletionClient(model=scenario.MODEL),
        tools=[lookup_order],
        system_message=scenario.SYSTEM,
        reflect_on_tool_use=True,
    )
    done = await agent.run(task=scenario.QUESTION)
    assert done.messages[-1].to_text() == scenario.ANSWER, done.messages[-1]


with exported():
    asyncio.run(main())
