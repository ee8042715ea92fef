"""An agent of Google's ADK, which reports by itself: `adk_agent.py [openinference]`."""

import asyncio
import sys

import scenario
from telemetry import MODELS, exported, lookup_order


async def main() -> None:
    from google.adk.agents import Agent
    from google.adk.models import Gemini
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    model = Gemini(model="gemini-2.5-flash", base_url=MODELS)
    agent = Agent(name="support", model=model, instruction=scenario.SYSTEM, tools=[lookup_order])
    runner = InMemoryRunner(agent=agent, app_name="support-bot")
    await runner.session_service.create_session(
        app_name="support-bot", user_id=scenario.USER, session_id=scenario.CONVERSATION
    )
    asked = types.Content(role="user", parts=[types.Part(text=scenario.QUESTION)])
    said = ""
    async for event in runner.run_async(
        user_id=scenario.USER, session_id=scenario.CONVERSATION, new_message=asked
    ):
        for part in event.content.parts if event.content else []:
            said = part.text or said
    assert said == scenario.ANSWER, said


with exported() as (spans, _):
    if sys.argv[1:] == ["openinference"]:
        from openinference.instrumentation.google_adk import GoogleADKInstrumentor

        GoogleADKInstrumentor().instrument(tracer_provider=spans)
    asyncio.run(main())
