"""Logfire's spans of clients: requests and responses as they were sent, and streams that come as two spans.

Source: `logfire` 4.41, `_internal/integrations/llm_providers`. The first span of a stream ends with the
request; a log, which is a span too, follows with what came.
"""

from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.spans import Reading
from monitor.ingest.texts import Answered
from monitor.ingest.wire import WireSpan
from monitor.trace import StepKind

NAME: Final = "Logfire"
CONTENT_ON: Final = (
    "instrument the client with a version of logfire that sends request_data and response_data"
)
MARKS: Final = frozenset({"logfire.span_type", "logfire.json_schema", "request_data", "response_data"})
_PENDING: Final = "pending_span"  # sent when a span begins, and again whole when it ends


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading | None:
    """Read a span; None if it is one of Logfire's that is about no model."""
    attributes = span.attributes
    if attributes.get("logfire.span_type") == _PENDING:
        return Reading(kind=StepKind.OTHER)
    if "request_data" not in attributes or "gen_ai.request.model" not in attributes:
        return None
    request, _ = messages.opened(attributes["request_data"])
    response, cut = messages.opened(attributes.get("response_data"))
    if type(request) is not dict:
        return Reading()
    streams = request.get("stream") is True and response is None
    if streams and "gen_ai.output.messages" not in attributes and not span.failed:
        return Reading(kind=StepKind.OTHER)
    reading = Reading(model=request.get("model"))
    asked = request.get("messages") or request.get("input") or request.get("prompt")
    system = request.get("system") or request.get("instructions")
    if asked or system:
        reading.asked = messages.asked(asked, system)
    if type(response) is dict and not cut:
        reading.answered = _answered(response)
    return reading


def _answered(response: dict[str, Any]) -> Answered:
    if type(message := response.get("message")) is dict:
        return messages.answered([message])
    return Answered(messages.text_of(response.get("combined_chunk_content") or response.get("text")))
