"""What drivers share: providers of OpenTelemetry that export to the sink, and the tool of the scenario."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import scenario

MODELS = os.environ["MODELS"]
SINK = os.environ["SINK"]
SINK_GRPC = os.environ["SINK_GRPC"]
TOOL = {
    "type": "function",
    "function": {
        "name": scenario.TOOL,
        "description": "Tell where an order is.",
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
    },
}


def lookup_order(order: str) -> str:
    """Tell where an order is.

    Args:
        order: number of the order
    """
    assert order == scenario.ORDER
    return scenario.RESULT


@contextmanager
def exported() -> Iterator[tuple[Any, Any]]:
    """Make providers of spans and logs the global ones; whatever they hold is sent when the block ends."""
    from opentelemetry import _logs, trace
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    spans = TracerProvider()
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{SINK}/v1/traces")))
    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{SINK}/v1/logs")))
    trace.set_tracer_provider(spans)
    _logs.set_logger_provider(logs)
    yield spans, logs
    spans.shutdown()
    logs.shutdown()
