"""OpenLLMetry (Traceloop): GenAI's attributes, its own of workflows, flattened prompts, vector stores.

Source: `opentelemetry-semantic-conventions-ai` 0.4 (flattened) and 0.5 (GenAI's).
"""

from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.flat import tool_calls, unflatten
from monitor.ingest.dialects.genai import KINDS as OPERATIONS
from monitor.ingest.dialects.metadata import read_metadata, under
from monitor.ingest.dialects.payloads import documents_of, question_of
from monitor.ingest.fields import OWNERS, plain
from monitor.ingest.spans import Reading
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED, Answered
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import StepKind

NAME: Final = "OpenLLMetry (Traceloop)"
CONTENT_ON: Final = "set TRACELOOP_TRACE_CONTENT=true, the default"
KINDS = {
    "workflow": StepKind.WORKFLOW,
    "task": StepKind.WORKFLOW,
    "agent": StepKind.AGENT,
    "tool": StepKind.TOOL,
}
_REQUESTS = {
    "chat": StepKind.CHAT,
    "completion": StepKind.CHAT,
    "rerank": StepKind.RETRIEVAL,
    "embedding": StepKind.OTHER,
}
FOUND = "db.query.result"
_PROPERTIES = "traceloop.association.properties."
_OF_FRAMEWORKS = ("ls_", "lc_", "langgraph_", "checkpoint_ns", "__", "langfuse_")
"""Beginnings of properties that LangChain and its like add: labels are the application's."""
_CREW = "crewai.crew.result"
MARKS = frozenset({
    "traceloop.span.kind", "llm.request.type", "gen_ai.prompt.0.role", "gen_ai.prompt.0.content",
    "gen_ai.prompt.0.user",
    "gen_ai.completion.0.role", "gen_ai.completion.0.content", "gen_ai.completion.0.function_call.name",
    "gen_ai.completion.0.finish_reason", "gen_ai.completion.0.tool_calls.0.name", "traceloop.workflow.name",
    _CREW, *(f"{_PROPERTIES}{name}" for name in OWNERS),
})  # fmt: skip
EVENTS = frozenset({FOUND})


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading | None:
    """Read what this dialect adds to GenAI's attributes of a span; None if it adds nothing."""
    attributes = span.attributes
    get = attributes.get
    reading = Reading()
    request = _REQUESTS.get(plain(get("llm.request.type")).lower())
    own = KINDS.get(plain(get("traceloop.span.kind")).lower())
    kind = OPERATIONS.get(plain(get("gen_ai.operation.name")))
    if kind is None and "gen_ai.operation.name" not in attributes:
        kind = reading.kind = request or own
    if own:
        _read_entity(reading, attributes, own, kind, document_keys)
    _read_flattened(reading, attributes)
    _read_found(reading, span, document_keys)
    _read_properties(reading, attributes)
    reading.prompt_name = get("traceloop.prompt.key")
    reading.prompt_version = get("traceloop.prompt.version")
    if kind is StepKind.AGENT:
        _read_agent(reading, get(_CREW))
    return None if reading == _NOTHING else reading


_NOTHING = Reading()


def _read_entity(
    reading: Reading,
    attributes: Attributes,
    own: StepKind,
    kind: StepKind | None,
    document_keys: tuple[str, ...],
) -> None:
    """Read a function or a step of a framework: its name, and what went in and came out."""
    get = attributes.get
    sent, made = get("traceloop.entity.input"), get("traceloop.entity.output")
    if own is kind or kind is StepKind.AGENT or kind is StepKind.RETRIEVAL:
        reading.name = get("traceloop.entity.name")
    if kind is StepKind.AGENT:
        reading.agent = get("gen_ai.agent.name") or reading.name or get("crewai.agent.role")
        reading.name = reading.name or reading.agent
    if kind is StepKind.RETRIEVAL:
        reading.input = question_of(_called_with(sent))
        reading.documents = documents_of(made, document_keys)
    elif kind is not StepKind.CHAT:
        reading.input, reading.output = _called_with(sent), _came_out(made)


def _read_agent(reading: Reading, crew: Any) -> None:
    """Read an agent's question and answer, unless its messages were flattened."""
    if reading.asked is NOTHING_ASKED and reading.input:
        reading.asked = messages.asked(reading.input)
    if reading.answered is NOTHING_ANSWERED and (answer := reading.output or messages.text_of(crew)):
        reading.answered = Answered(answer)


def _called_with(value: Any) -> str:
    """Return the arguments of a call, without what a framework or decorator puts around them."""
    held = whole = messages.structured(value)
    if type(held) is dict:
        if "inputs" in held and not held.keys().isdisjoint(("tags", "metadata", "input_str")):
            held = held["inputs"] or held.get("input_str")  # LangChain's callback
        elif held.keys() == {"args", "kwargs"}:
            args, named = held["args"], held["kwargs"]
            if not args:
                held = named
            elif not named and type(args) is list and len(args) == 1:
                held = args[0]
    held = _said(held)
    return messages.text_of(value if held is whole else held)


def _came_out(value: Any) -> str:
    """Return what a call returned, likewise; of messages the last one's text."""
    held = whole = messages.structured(value)
    if type(held) is dict and "kwargs" in held and not held.keys().isdisjoint(("output", "outputs")):
        held = held.get("output", held.get("outputs"))
    held = _said(held)
    return messages.text_of(value if held is whole else held)


def _said(value: Any) -> Any:
    """Return the text of LangChain's message, or of the last in a state of messages; others as they are."""
    if type(value) is dict and type(state := value.get("messages")) is list and state:
        value = state[-1]
        if type(value) is list and len(value) == 2:  # noqa: PLR2004 - a role and a text
            return value[1]
    if type(value) is dict and "lc" in value and type(fields := value.get("kwargs")) is dict:
        return fields.get("content", value)
    return value


def _read_flattened(reading: Reading, attributes: Attributes) -> None:
    inputs = [_message(item) for item in unflatten(attributes, "gen_ai.prompt.")]
    outputs = [_message(item) for item in unflatten(attributes, "gen_ai.completion.")]
    if inputs:
        reading.asked = messages.asked(inputs)
    if outputs:
        reading.answered = messages.answered(outputs)


def _message(item: Attributes) -> dict[str, Any]:
    content = item.get("content", item.get("user"))  # the latter of completions
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
    tied = under(attributes, _PROPERTIES).items()
    read_metadata(
        reading,
        {key: value for key, value in tied if key in OWNERS or not key.startswith(_OF_FRAMEWORKS)},
    )
