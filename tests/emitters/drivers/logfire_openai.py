"""OpenAI's client, instrumented by Logfire."""

import logfire
import openai
import scenario
from openai_chat import converse
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from telemetry import SINK

logfire.configure(
    send_to_logfire=False,
    console=False,
    additional_span_processors=[BatchSpanProcessor(OTLPSpanExporter(f"{SINK}/v1/traces"))],
)
client = openai.OpenAI(max_retries=0)
logfire.instrument_openai(client)
with logfire.span("support"):
    assert converse(client, stream=False, retrieve=lambda: None) == scenario.ANSWER
logfire.shutdown()
