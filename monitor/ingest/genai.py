"""OpenTelemetry's GenAI conventions: current names, the older ones still sent, and events of both.

Source: `open-telemetry/semantic-conventions-genai`.
"""

from typing import Any

from monitor.ingest import messages
from monitor.ingest.spans import Attributes, Reading, SpanEvent, WireSpan
from monitor.trace import StepKind

KINDS = {
    "chat": StepKind.CHAT,
    "text_completion": StepKind.CHAT,
    "completion": StepKind.CHAT,
    "generate_content": StepKind.CHAT,
    "fetch_response": StepKind.CHAT,
    "invoke_agent": StepKind.AGENT,
    "create_agent": StepKind.AGENT,
    "invoke_workflow": StepKind.WORKFLOW,
    "execute_tool": StepKind.TOOL,
    "retrieval": StepKind.RETRIEVAL,
    "handoff": StepKind.HANDOFF,
    "guardrail": StepKind.GUARDRAIL,
}
DETAILS = "gen_ai.client.inference.operation.details"
_CHOICE = "gen_ai.choice"
_MESSAGES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_CONTENT = {"gen_ai.content.prompt": "gen_ai.prompt", "gen_ai.content.completion": "gen_ai.completion"}
EVENTS = frozenset({DETAILS, _CHOICE, *_MESSAGES, *_CONTENT})
_ELSEWHERE = tuple(
    f"gen_ai.{name}{suffix}"
    for name in ("input.messages", "output.messages", "system_instructions")
    for suffix in ("_ref", ".ref")
)
_NAMED_BY = {
    StepKind.AGENT: "gen_ai.agent.name",
    StepKind.WORKFLOW: "gen_ai.workflow.name",
    StepKind.TOOL: "gen_ai.tool.name",
    StepKind.RETRIEVAL: "gen_ai.data_source.id",
    StepKind.CHAT: "gen_ai.request.model",
}


def speaks(span: WireSpan) -> bool:
    """Return whether a span is of this dialect."""
    attributes = span.attributes
    return (
        "gen_ai.operation.name" in attributes
        or "gen_ai.provider.name" in attributes
        or "gen_ai.system" in attributes
    )


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span: its attributes, then events of it that hold content."""
    reading = read_attributes(span.attributes, document_keys)
    asked, answered = bool(reading.messages), bool(reading.response or reading.tool_calls)
    for event in span.events:
        if event.name in EVENTS:
            _merge(reading, read_event(event, document_keys), asked=asked, answered=answered)
        elif event.name == "exception" and not reading.error:
            reading.error = event.attributes.get("exception.type")
    return summarise(reading)


def read_attributes(attributes: Attributes, document_keys: tuple[str, ...]) -> Reading:
    """Read the attributes of a span or of an event with a span's attributes."""
    get = attributes.get
    operation = get("gen_ai.operation.name")
    kind = KINDS.get(operation) if type(operation) is str else StepKind.CHAT
    system, inputs, outputs = (
        get("gen_ai.system_instructions"),
        get("gen_ai.input.messages") or get("gen_ai.prompt"),
        get("gen_ai.output.messages") or get("gen_ai.completion"),
    )
    if kind is None:  # an operation that is not of the conventions; what answered is judged all the same
        kind = StepKind.CHAT if outputs else StepKind.OTHER
    finish = get("gen_ai.response.finish_reasons")
    reading = Reading(
        kind=kind,
        name=get(_NAMED_BY.get(kind, "gen_ai.operation.name")),
        provider=get("gen_ai.provider.name") or get("gen_ai.system"),
        model=get("gen_ai.request.model"),
        model_version=get("gen_ai.response.model"),
        response_id=get("gen_ai.response.id"),
        conversation=get("gen_ai.conversation.id") or get("session.id"),
        user=get("user.id") or get("enduser.id"),
        agent=get("gen_ai.agent.name"),
        prompt_name=get("gen_ai.prompt.name"),
        prompt_version=get("gen_ai.prompt.version"),
        finish=finish[0] if type(finish) is list and finish else finish,
        error=get("error.type"),
        input_tokens=_first(get, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        output_tokens=_first(get, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        cost=get("gen_ai.usage.cost"),
    )
    if inputs or system:
        reading.messages = messages.prompt(inputs, system)
    if outputs:
        reading.response, reading.alternatives, reading.tool_calls, finish_reason = messages.output(outputs)
        reading.finish = reading.finish or finish_reason
    if kind is StepKind.TOOL:
        reading.call_id = get("gen_ai.tool.call.id")
        reading.input = messages.text_of(get("gen_ai.tool.call.arguments"))
        reading.output = messages.text_of(get("gen_ai.tool.call.result"))
    elif kind is StepKind.RETRIEVAL:
        reading.input = messages.text_of(get("gen_ai.retrieval.query.text"))
        reading.documents = messages.documents(get("gen_ai.retrieval.documents"), document_keys)
    if not (inputs and outputs):
        reading.elsewhere = any(key in attributes for key in _ELSEWHERE)
    return reading


def read_event(event: SpanEvent, document_keys: tuple[str, ...]) -> Reading:
    """Read one of `EVENTS`: content is in a log record's body, or in the attributes of a span's event."""
    if event.name == DETAILS:
        body = event.body if type(event.body) is dict else {}
        return summarise(read_attributes(event.attributes | body, document_keys))
    get = event.attributes.get
    reading = Reading(
        kind=StepKind.CHAT,
        provider=get("gen_ai.provider.name") or get("gen_ai.system"),
        conversation=get("gen_ai.conversation.id"),
    )
    content = _content(event)
    if event.name in {_CHOICE, "gen_ai.content.completion"}:
        reading.response, reading.alternatives, reading.tool_calls, reading.finish = messages.output(content)
        index = content.get("index") if type(content) is dict else 0
        if type(index) is int and index > 0 and reading.response:
            reading.response, reading.alternatives = "", (reading.response, *reading.alternatives)
    elif event.name == "gen_ai.content.prompt":
        reading.messages = messages.prompt(content)
    else:
        role = _MESSAGES[event.name]
        if type(content) is not dict:
            content = {"content": content}
        reading.messages = messages.prompt([{"role": role} | content])
    return reading


def summarise(reading: Reading) -> Reading:
    """Fill in the input and output of an exchange's step."""
    if reading.kind is StepKind.CHAT or reading.kind is StepKind.AGENT:
        if not reading.input:
            for message in reversed(reading.messages):
                if message.role == "user":
                    reading.input = message.content
                    break
        reading.output = reading.output or reading.response
    return reading


def _content(event: SpanEvent) -> Any:
    if event.body is not None and event.body != "":
        return messages.structured(event.body)
    attributes = event.attributes
    key = _CONTENT.get(event.name, "gen_ai.event.content")
    if key in attributes:
        return messages.structured(attributes[key])
    return {name: value for name, value in attributes.items() if name in messages.KEYS}


def _merge(reading: Reading, part: Reading, *, asked: bool, answered: bool) -> None:
    """Add what an event says of its span, unless the span's attributes said it: whether it was `asked`, …."""
    if not asked:
        reading.messages += part.messages
    if not answered:
        reading.tool_calls += part.tool_calls
        responses = (part.response, *part.alternatives) if part.response else part.alternatives
        if responses and not reading.response:
            reading.response, *rest = responses
            responses = tuple(rest)
        reading.alternatives += responses
    reading.finish = reading.finish or part.finish
    reading.elsewhere = reading.elsewhere or part.elsewhere


def _first(get: Any, name: str, older: str) -> object:
    value = get(name)
    return get(older) if value is None else value
