"""Spans of an agent's runs, as the Collector writes them to Kafka."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

OPERATIONS = ("invoke_agent", "retrieval", "execute_tool", "chat")


def agent_spans(number: int) -> list[Span]:
    """Return an agent's run of four spans: it looks something up, calls a tool, answers."""
    trace_id = (number + 1).to_bytes(16, "big")  # all zeros are no id
    start = 1_700_000_000_000_000_000 + number * 1_000_000_000
    spans = []
    for place, operation in enumerate(OPERATIONS):
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": "gpt-5",
            "gen_ai.agent.name": "Returns",
        }
        if operation == "chat":
            attributes["gen_ai.response.id"] = f"resp-{number}"
            attributes["gen_ai.output.messages"] = (
                '[{"role":"assistant","parts":[{"type":"text","content":"Within 30 days."}]}]'
            )
        if operation == "execute_tool":
            attributes["gen_ai.tool.name"] = "get_order"
            attributes["gen_ai.tool.call.result"] = "shipped"
        span = Span(
            trace_id=trace_id,
            span_id=(number * 8 + place + 1).to_bytes(8, "big"),
            parent_span_id=b"" if place == 0 else (number * 8 + 1).to_bytes(8, "big"),
            name=operation,
            start_time_unix_nano=start + place * 1000,
            end_time_unix_nano=start + (5000 if place == 0 else place * 1000 + 500),
        )
        for key, text in attributes.items():
            span.attributes.add(key=key).value.string_value = text
        spans.append(span)
    return spans


def record_of(spans: list[Span]) -> bytes:
    """Return a record as the Collector writes it: spans of several traces of one service."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    resource.scope_spans.add().spans.extend(spans)
    return bytes(request.SerializeToString())
