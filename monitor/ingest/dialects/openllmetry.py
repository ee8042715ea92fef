"""OpenLLMetry (Traceloop): GenAI's attributes, its own of workflows, flattened prompts, vector stores.

Source: `opentelemetry-semantic-conventions-ai` 0.4 (flattened) and 0.5 (GenAI's).
"""

from typing import Any

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.flat import tool_calls, unflatten
from monitor.ingest.spans import Attributes, Reading, WireSpan, plain
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED, Answered
from monitor.trace import StepKind

KINDS = {
    "workflow": StepKind.WORKFLOW,
    "task": StepKind.WORKFLOW,
    "agent": StepKind.AGENT,
    "tool": StepKind.TOOL,
}
_REQUESTS = {"chat": StepKind.CHAT, "completion": StepKind.CHAT, "rerank": StepKind.RETRIEVAL}
FOUND = "db.query.result"
MARKS = frozenset({
    "traceloop.span.kind", "llm.request.type", "gen_ai.prompt.0.role", "gen_ai.prompt.0.content",
    "gen_ai.completion.0.role", "gen_ai.completion.0.content", "gen_ai.completion.0.function_call.name",
})  # fmt: skip
EVENTS = frozenset({FOUND})
_PROPERTIES = "traceloop.association.properties."
_USER = ("user_id", "userId", "user")
_CONVERSATION = ("session_id", "sessionId", "conversation_id", "chat_id", "thread_id")


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read what this dialect adds to GenAI's attributes of a span."""
    attributes = span.attributes
    get = attributes.get
    reading = Reading()
    request = _REQUESTS.get(plain(get("llm.request.type")).lower())
    own = KINDS.get(plain(get("traceloop.span.kind")).lower())
    if "gen_ai.operation.name" not in attributes:
        reading.kind = request or own
    if own and (reading.kind is own or reading.kind is None):
        reading.name = get("traceloop.entity.name")
        if own is StepKind.AGENT:
            reading.agent = reading.name
        reading.input = messages.text_of(get("traceloop.entity.input"))
        reading.output = messages.text_of(get("traceloop.entity.output"))
    _read_flattened(reading, attributes)
    _read_found(reading, span, document_keys)
    _read_properties(reading, attributes)
    reading.prompt_name = get("traceloop.prompt.key")
    reading.prompt_version = get("traceloop.prompt.version")
    if own is StepKind.AGENT and reading.asked is NOTHING_ASKED and reading.answered is NOTHING_ANSWERED:
        reading.asked, reading.answered = messages.asked(reading.input), Answered(reading.output)
    return reading


def _read_flattened(reading: Reading, attributes: Attributes) -> None:
    inputs = [_message(item) for item in unflatten(attributes, "gen_ai.prompt.")]
    outputs = [_message(item) for item in unflatten(attributes, "gen_ai.completion.")]
    if inputs:
        reading.asked = messages.asked(inputs)
    if outputs:
        reading.answered = messages.answered(outputs)


def _message(item: Attributes) -> dict[str, Any]:
    content = item.get("content")
    return {
        "role": item.get("role"),
        "content": content if item.get("role") == "tool" else _parts(content),
        "tool_calls": [*tool_calls(item, "tool_calls."), *_function_call(item)],
        "finish_reason": item.get("finish_reason"),
    }


def _function_call(item: Attributes) -> list[dict[str, Any]]:
    """Return the one call of OpenAI's older shape, which LiteLLM flattens."""
    name, arguments = item.get("function_call.name"), item.get("function_call.arguments")
    return [{"name": name, "arguments": arguments}] if name else []


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
        reading.user = next((properties.pop(key) for key in _USER if key in properties), None)
        reading.conversation = next((properties.pop(key) for key in _CONVERSATION if key in properties), None)
        reading.labels = properties
