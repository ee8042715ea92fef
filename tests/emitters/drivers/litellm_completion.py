"""LiteLLM's `completion`, with its own callback or another library: `litellm_completion.py LIBRARY`."""

import json
import sys
import time
from contextlib import nullcontext
from typing import Any

import scenario
from telemetry import TOOL, exported, lookup_order


def main() -> None:
    with exported() as (spans, _):
        import litellm

        about: Any = nullcontext()
        if sys.argv[1] == "openinference":
            from openinference.instrumentation import using_attributes
            from openinference.instrumentation.litellm import LiteLLMInstrumentor

            LiteLLMInstrumentor().instrument(tracer_provider=spans)
            about = using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)
        else:
            litellm.callbacks = ["otel"]
        with about:
            assert converse(litellm) == scenario.ANSWER
        time.sleep(2)  # its callbacks run on a thread that ends with the process


def converse(litellm: Any) -> str:
    messages: list[Any] = [
        {"role": "system", "content": scenario.SYSTEM},
        {"role": "user", "content": scenario.QUESTION},
    ]
    common: dict[str, Any] = {
        "model": f"openai/{scenario.MODEL}",
        "tools": [TOOL],
        "user": scenario.USER,
        "metadata": {"session_id": scenario.CONVERSATION},
    }
    first = litellm.completion(messages=messages, **common).choices[0].message
    call = first.tool_calls[0]
    messages.append(first.model_dump())
    result = lookup_order(**json.loads(call.function.arguments))
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return str(litellm.completion(messages=messages, **common).choices[0].message.content)


if __name__ == "__main__":
    main()
