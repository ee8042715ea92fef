"""An agent of smolagents that calls tools, instrumented by OpenInference."""

import scenario
from openinference.instrumentation import using_attributes
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from telemetry import MODELS, exported, lookup_order

with exported() as (spans, _):
    SmolagentsInstrumentor().instrument(tracer_provider=spans)
    from smolagents import OpenAIModel, ToolCallingAgent, tool

    model = OpenAIModel(model_id=scenario.MODEL, api_base=f"{MODELS}/v1", api_key="none")
    agent = ToolCallingAgent(tools=[tool(lookup_order)], model=model, instructions=scenario.SYSTEM)
    with using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER):
        assert agent.run(scenario.QUESTION) == scenario.ANSWER
