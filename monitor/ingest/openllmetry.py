"""OpenLLMetry (Traceloop): GenAI's attributes, its own of workflows, flattened prompts, vector stores.

Source: `opentelemetry-semantic-conventions-ai` 0.4 (flattened) and 0.5 (GenAI's).
"""

from typing import Any

from monitor.ingest import genai, messages
from monitor.ingest.flat import tool_calls, unflatten
from monitor.ingest.spans import Attributes, Reading, WireSpan, plain
from monitor.trace import StepKind

KINDS = {
    "workflow": StepKind.WORKFLOW,
    "task": StepKind.WORKFLOW,
    "agent": StepKind.AGENT,
    "tool": StepKind.TOOL,
}
_REQUESTS = {"chat": StepKind.CHAT, "completion": StepKind.CHAT, "rerank": StepKind.RETRIEVAL}
FOUND = "db.query.result"
_PROPERTIES = "traceloop.association.properties."
_USER = ("user_id", "userId", "user")
_CONVERSATION = ("session_id", "sessionId", "conversation_id", "chat_id", "thread_id")


def speaks(span: WireSpan) -> bool:
    """Return whether a span is of this dialect; its vector stores show in events only."""
    attributes = span.attributes
    return (
        "traceloop.span.kind" in attributes
        or "llm.request.type" in attributes
        or "gen_ai.prompt.0.role" in attributes
        or "gen_ai.completion.0.role" in attributes
        or (bool(span.events) and any(event.name == FOUND for event in span.events))
    )


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span."""
    attributes = span.attributes
    get = attributes.get
    reading = genai.read(span, document_keys)
    request = _REQUESTS.get(plain(get("llm.request.type")).lower())
    own = KINDS.get(plain(get("traceloop.span.kind")).lower())
    if "gen_ai.operation.name" not in attributes:
        reading.kind = request or own or (StepKind.CHAT if genai.speaks(span) else StepKind.OTHER)
    if own and reading.kind is own:
        reading.name = get("traceloop.entity.name") or reading.name
        if own is StepKind.AGENT:
            reading.agent = reading.agent or reading.name
        reading.input = reading.input or messages.text_of(get("traceloop.entity.input"))
        reading.output = reading.output or messages.text_of(get("traceloop.entity.output"))
    _read_flattened(reading, attributes)
    _read_found(reading, span, document_keys)
    _read_properties(reading, attributes)
    reading.prompt_name = reading.prompt_name or get("traceloop.prompt.key")
    reading.prompt_version = reading.prompt_version or get("traceloop.prompt.version")
    if reading.kind is StepKind.AGENT and not reading.messages and not reading.response:
        reading.messages, reading.response = messages.prompt(reading.input), reading.output
    return genai.summarise(reading)


def _read_flattened(reading: Reading, attributes: Attributes) -> None:
    inputs = [_message(item) for item in unflatten(attributes, "gen_ai.prompt.")]
    outputs = [_message(item) for item in unflatten(attributes, "gen_ai.completion.")]
    if inputs and not reading.messages:
        reading.messages = messages.prompt(inputs)
    if outputs and not reading.response:
        reading.response, reading.alternatives, reading.tool_calls, finish = messages.output(outputs)
        reading.finish = reading.finish or finish


def _message(item: Attributes) -> dict[str, Any]:
    content = item.get("content")
    return {
        "role": item.get("role"),
        "content": content if item.get("role") == "tool" else _parts(content),
        "tool_calls": tool_calls(item, "tool_calls."),
        "finish_reason": item.get("finish_reason"),
    }


def _parts(content: Any) -> Any:
    """Return content that is a JSON list of parts as that list; text that only looks like it stays text."""
    parts = messages.structured(content) if type(content) is str and content.startswith("[{") else None
    return parts if type(parts) is list and all(type(p) is dict and "type" in p for p in parts) else content


def _read_found(reading: Reading, span: WireSpan, document_keys: tuple[str, ...]) -> None:
    """Read what a vector store found: an event for each document."""
    items = [event.attributes for event in span.events if event.name == FOUND]
    if items:
        reading.kind = StepKind.RETRIEVAL
        reading.name = (
            reading.name or span.attributes.get("db.system") or span.attributes.get("db.system.name")
        )
        keys = ("document", *document_keys)
        plain_keys = [{key.removeprefix(f"{FOUND}."): value for key, value in item.items()} for item in items]
        reading.documents = tuple([messages.document(item, keys) for item in plain_keys])


def _read_properties(reading: Reading, attributes: Attributes) -> None:
    """Read what the application tied to its traces: user and conversation by usual names, else labels."""
    start = len(_PROPERTIES)
    properties = {
        key[start:]: plain(value) for key, value in attributes.items() if key.startswith(_PROPERTIES)
    }
    if properties:
        reading.user = reading.user or next((properties.pop(key) for key in _USER if key in properties), None)
        reading.conversation = reading.conversation or next(
            (properties.pop(key) for key in _CONVERSATION if key in properties), None
        )
        reading.labels = properties
