"""An agent of Agno, instrumented by OpenInference."""

import scenario
from openinference.instrumentation.agno import AgnoInstrumentor
from telemetry import exported, lookup_order

with exported() as (spans, _):
    AgnoInstrumentor().instrument(tracer_provider=spans)
    from agno.agent import Agent
    from agno.models.openai import OpenAIChat

    agent = Agent(
        name="Support",
        model=OpenAIChat(id=scenario.MODEL),
        tools=[lookup_order],
        instructions=scenario.SYSTEM,
        telemetry=False,
    )
    done = agent.run(scenario.QUESTION, user_id=scenario.USER, session_id=scenario.CONVERSATION)
    assert done.content == scenario.ANSWER, done.content
