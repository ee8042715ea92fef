"""Google's client of Gemini: `google_genai.py LIBRARY [stream]`."""

import sys
from contextlib import nullcontext
from typing import Any

import scenario
from telemetry import MODELS, TOOL, exported, lookup_order


def main() -> None:
    library = sys.argv[1]
    with exported() as (spans, logs):
        about: Any = nullcontext()
        if library == "openinference":
            from openinference.instrumentation import using_attributes
            from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor as OpenInference

            OpenInference().instrument(tracer_provider=spans)
            about = using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)
        elif library == "openllmetry":
            from opentelemetry.instrumentation.google_generativeai import GoogleGenerativeAiInstrumentor

            GoogleGenerativeAiInstrumentor().instrument(tracer_provider=spans, logger_provider=logs)
        else:
            from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor

            GoogleGenAiSdkInstrumentor().instrument(tracer_provider=spans, logger_provider=logs)
        from google import genai
        from google.genai import types

        client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=MODELS))
        with about, spans.get_tracer("support-bot").start_as_current_span("support"):
            assert converse(client, types) == scenario.ANSWER


def converse(client: Any, types: Any) -> str:
    function: Any = TOOL["function"]
    declared = types.FunctionDeclaration(
        name=scenario.TOOL, description=function["description"], parameters_json_schema=function["parameters"]
    )
    config = types.GenerateContentConfig(
        system_instruction=scenario.SYSTEM,
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    contents = [types.Content(role="user", parts=[types.Part(text=scenario.QUESTION)])]
    first = client.models.generate_content(model="gemini-2.5-flash", contents=contents, config=config)
    call = first.function_calls[0]
    result = {"result": lookup_order(**call.args)}
    contents.append(first.candidates[0].content)
    contents.append(
        types.Content(role="user", parts=[types.Part.from_function_response(name=call.name, response=result)])
    )
    second = client.models.generate_content(model="gemini-2.5-flash", contents=contents, config=config)
    return str(second.text)


if __name__ == "__main__":
    main()
