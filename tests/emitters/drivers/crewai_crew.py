"""A crew of CrewAI with one agent and one tool: `crewai_crew.py LIBRARY`."""

import sys
from contextlib import nullcontext
from typing import Any

import scenario
from telemetry import exported, lookup_order


def main() -> None:
    with exported() as (spans, _), instrument(sys.argv[1], spans):
        from crewai import Agent, Crew, Task
        from crewai.tools import tool

        agent = Agent(
            role="Support",
            goal=scenario.SYSTEM,
            backstory="Knows orders.",
            llm=f"openai/{scenario.MODEL}",
            tools=[tool(scenario.TOOL)(lookup_order)],
        )
        task = Task(description=scenario.QUESTION, expected_output="A sentence.", agent=agent)
        done = Crew(agents=[agent], tasks=[task]).kickoff()
        assert done.raw == scenario.ANSWER, done.raw


def instrument(library: str, spans: Any) -> Any:
    if library == "openinference":
        from openinference.instrumentation import using_attributes
        from openinference.instrumentation.crewai import CrewAIInstrumentor as OpenInference

        OpenInference().instrument(tracer_provider=spans)
        return using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)
    from opentelemetry.instrumentation.crewai import CrewAIInstrumentor as OpenLLMetry

    OpenLLMetry().instrument(tracer_provider=spans)
    return nullcontext()


if __name__ == "__main__":
    main()
