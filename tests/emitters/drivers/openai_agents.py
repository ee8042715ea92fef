"""An agent of OpenAI's Agents SDK: `openai_agents.py LIBRARY`."""

import sys
from typing import Any

import scenario
from telemetry import exported, lookup_order


def main() -> None:
    with exported() as (spans, _):
        instrument(sys.argv[1], spans)
        from agents import Agent, Runner, function_tool

        agent: Any = Agent(
            name="Support",
            instructions=scenario.SYSTEM,
            model=scenario.MODEL,
            tools=[function_tool(lookup_order)],
        )
        done = Runner.run_sync(agent, scenario.QUESTION)
        assert done.final_output == scenario.ANSWER


def instrument(library: str, spans: Any) -> None:
    if library == "openinference":
        from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor as OpenInference

        OpenInference().instrument(tracer_provider=spans)
    else:
        from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor as OpenLLMetry

        OpenLLMetry().instrument(tracer_provider=spans)


if __name__ == "__main__":
    main()
