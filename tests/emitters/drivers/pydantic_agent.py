"""An agent of Pydantic AI with its own instrumentation: `pydantic_agent.py VERSION`."""

import sys
from typing import Any

import scenario
from telemetry import exported, lookup_order


def main() -> None:
    with exported() as (spans, _):
        from pydantic_ai import Agent
        from pydantic_ai.models.instrumented import InstrumentationSettings
        from pydantic_ai.models.openai import OpenAIChatModel

        settings: Any = InstrumentationSettings(tracer_provider=spans, version=int(sys.argv[1]))
        Agent.instrument_all(settings)
        agent = Agent(
            OpenAIChatModel(scenario.MODEL),
            name="support",
            instructions=scenario.SYSTEM,
            tools=[lookup_order],
        )
        done = agent.run_sync(scenario.QUESTION, conversation_id=scenario.CONVERSATION)
        assert done.output == scenario.ANSWER


if __name__ == "__main__":
    main()
