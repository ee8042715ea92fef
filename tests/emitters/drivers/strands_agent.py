"""An agent of Strands, which reports by itself."""

import scenario
from telemetry import exported, lookup_order

with exported():
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    agent = Agent(
        model=OpenAIModel(model_id=scenario.MODEL, client_args={"api_key": "none"}),
        system_prompt=scenario.SYSTEM,
        tools=[tool(lookup_order)],
        callback_handler=None,
        trace_attributes={"session.id": scenario.CONVERSATION, "user.id": scenario.USER},
    )
    assert str(agent(scenario.QUESTION)).strip() == scenario.ANSWER
