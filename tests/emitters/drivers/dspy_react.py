"""A `ReAct` of DSPy, instrumented by OpenInference."""

import scenario
from openinference.instrumentation import using_attributes
from openinference.instrumentation.dspy import DSPyInstrumentor
from telemetry import exported, lookup_order

with exported() as (spans, _):
    DSPyInstrumentor().instrument(tracer_provider=spans)
    import dspy

    dspy.configure(lm=dspy.LM(f"openai/{scenario.MODEL}", cache=False))
    with using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER):
        done = dspy.ReAct("question -> answer", tools=[lookup_order])(question=scenario.QUESTION)
    assert done.answer == scenario.ANSWER, done
