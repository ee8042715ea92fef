"""Bedrock's `Converse` with boto3: `bedrock_converse.py LIBRARY`."""

import os
import sys
from contextlib import nullcontext
from typing import Any

import scenario
from telemetry import MODELS, TOOL, exported, lookup_order

os.environ |= {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def main() -> None:
    library = sys.argv[1]
    with exported() as (spans, logs):
        about: Any = nullcontext()
        if library == "openinference":
            from openinference.instrumentation import using_attributes
            from openinference.instrumentation.bedrock import BedrockInstrumentor as OpenInference

            OpenInference().instrument(tracer_provider=spans)
            about = using_attributes(session_id=scenario.CONVERSATION, user_id=scenario.USER)
        elif library == "openllmetry":
            from opentelemetry.instrumentation.bedrock import BedrockInstrumentor as OpenLLMetry

            OpenLLMetry().instrument(tracer_provider=spans, logger_provider=logs)
        else:
            from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

            BotocoreInstrumentor().instrument(tracer_provider=spans, logger_provider=logs)
        import boto3

        client = boto3.client("bedrock-runtime", endpoint_url=MODELS)
        with about, spans.get_tracer("support-bot").start_as_current_span("support"):
            assert converse(client) == scenario.ANSWER


def converse(client: Any) -> str:
    function: Any = TOOL["function"]
    tool = {
        "name": scenario.TOOL,
        "description": function["description"],
        "inputSchema": {"json": function["parameters"]},
    }
    messages: list[Any] = [{"role": "user", "content": [{"text": scenario.QUESTION}]}]
    common: dict[str, Any] = {
        "modelId": "anthropic.claude-sonnet-4-5-v1:0",
        "system": [{"text": scenario.SYSTEM}],
        "toolConfig": {"tools": [{"toolSpec": tool}]},
    }
    first = client.converse(messages=messages, **common)["output"]["message"]
    used = first["content"][0]["toolUse"]
    result = {"toolUseId": used["toolUseId"], "content": [{"text": lookup_order(**used["input"])}]}
    messages += [first, {"role": "user", "content": [{"toolResult": result}]}]
    second = client.converse(messages=messages, **common)["output"]["message"]
    return str(second["content"][0]["text"])


if __name__ == "__main__":
    main()
