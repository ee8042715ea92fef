"""Spans of the Model Context Protocol: one call of a tool is seen by a framework, the client and the server.

Source: `open-telemetry/semantic-conventions-genai`, `model/mcp/spans.yaml`; `mcp` 2.3, whose client names the
tool in the name of its span alone.
"""

from typing import Final

from monitor.ingest.dialects import messages
from monitor.ingest.spans import Reading
from monitor.ingest.wire import WireSpan
from monitor.trace import StepKind

NAME: Final = "MCP instrumentations"
CONTENT_ON: Final = (
    "opt in to gen_ai.tool.call.arguments and gen_ai.tool.call.result; or trace the agent's calls"
)
METHOD: Final = "mcp.method.name"
MARKS: Final = frozenset({METHOD})
_CALL: Final = "tools/call"


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading:
    """Read a span: a call of a tool, which the span of a tool around it may tell of too; or no step."""
    get = span.attributes.get
    if get(METHOD) != _CALL:
        return Reading(kind=StepKind.OTHER)
    target = span.name.rpartition(f"{_CALL} ")[2] if _CALL in span.name else ""
    return Reading(
        kind=StepKind.TOOL,
        name=get("gen_ai.tool.name") or target,
        error=get("error.type"),
        input=messages.text_of(get("gen_ai.tool.call.arguments")),
        output=messages.text_of(get("gen_ai.tool.call.result")),
    )
