"""OpenTelemetry's GenAI conventions: current names, the older ones still sent, and events of both.

Source: `open-telemetry/semantic-conventions-genai`.
"""

from typing import Any, Final

from msgspec.structs import replace

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.flat import nested
from monitor.ingest.dialects.payloads import answered_of, asked_of, is_body
from monitor.ingest.fields import token_count
from monitor.ingest.spans import Reading
from monitor.ingest.texts import (
    NOTHING_ANSWERED,
    NOTHING_ASKED,
    Answered,
    Asked,
    fuller_answer,
    fuller_prompt,
    joined_answers,
    joined_prompts,
)
from monitor.ingest.wire import Attributes, SpanEvent, WireLog, WireSpan
from monitor.trace import Message, StepKind, Unreadable

NAME: Final = "OpenTelemetry's GenAI instrumentations"
CONTENT_ON: Final = (
    "set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY (older versions: true) and "
    "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental"
)
KINDS = {
    "chat": StepKind.CHAT,
    "text_completion": StepKind.CHAT,
    "text_completions": StepKind.CHAT,  # Semantic Kernel; before 1.36 the next two
    "chat.completions": StepKind.CHAT,
    "text.completions": StepKind.CHAT,
    "completion": StepKind.CHAT,
    "generate_content": StepKind.CHAT,
    "fetch_response": StepKind.CHAT,
    "realtime_inference": StepKind.CHAT,
    "generateText": StepKind.CHAT,  # agento11y
    "streamText": StepKind.CHAT,
    "llm_call": StepKind.CHAT,  # Gemini CLI
    "invoke_agent": StepKind.AGENT,
    "create_agent": StepKind.OTHER,  # makes an agent and asks it nothing
    "invoke_workflow": StepKind.WORKFLOW,
    "plan": StepKind.WORKFLOW,
    "agent_call": StepKind.AGENT,
    "execute_tool": StepKind.TOOL,
    "tool_call": StepKind.TOOL,
    "retrieval": StepKind.RETRIEVAL,
    "search_memory": StepKind.RETRIEVAL,
    "vector_db_retrieve": StepKind.RETRIEVAL,  # OpenLLMetry
    "handoff": StepKind.HANDOFF,
    "guardrail": StepKind.GUARDRAIL,
    "embeddings": StepKind.OTHER,
}
DETAILS: Final = "gen_ai.client.inference.operation.details"
_CHOICE = "gen_ai.choice"
_MESSAGES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_PROMPTS = frozenset({"gen_ai.content.prompt", "gen_ai.prompt"})  # the latter is Semantic Kernel's
_CONTENT = dict.fromkeys(_PROMPTS, "gen_ai.prompt") | {"gen_ai.content.completion": "gen_ai.completion"}
EVENTS: Final = frozenset({DETAILS, _CHOICE, *_MESSAGES, *_CONTENT})
LOGS: Final = EVENTS
MARKS: Final = frozenset({
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.request.model",
    "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.input.messages", "gen_ai.output.messages",
    "gen_ai.agent.name", "gen_ai.response.id",
})  # fmt: skip
_FINISH = "gen_ai.response.finish_reason"
_ELSEWHERE = frozenset({"gen_ai.input.messages_ref", "gen_ai.input.messages.ref"})
"""Attributes of a prompt that was captured and is stored elsewhere."""
_OPERATION = "gen_ai.operation.name"
_OF_TOOLS = frozenset({"gen_ai.tool.name", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"})
_NAMED_BY = {
    StepKind.AGENT: "gen_ai.agent.name",
    StepKind.WORKFLOW: "gen_ai.workflow.name",
    StepKind.TOOL: "gen_ai.tool.name",
    StepKind.RETRIEVAL: "gen_ai.data_source.id",
    StepKind.CHAT: "gen_ai.request.model",
}


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span: its attributes, then events of it that hold content."""
    attributes = span.attributes
    reading = read_attributes(attributes, document_keys)
    if span.events:
        reading.error = reading.error or span.exception_type()
        if events := [event for event in span.events if event.name in EVENTS]:
            _read_events(reading, events, document_keys)
    if (reading.asked is NOTHING_ASKED or reading.answered is NOTHING_ANSWERED) and _lacks(reading):
        _read_flattened(reading, attributes, document_keys)
    # Strands' agents have had both names.
    system = attributes.get("system_prompt") or attributes.get("gen_ai.agent.system_prompt")
    if type(system) is str and system and all(message.role != "system" for message in reading.asked.messages):
        held = reading.asked
        reading.asked = replace(held, messages=(Message("system", system), *held.messages))
    return reading


def read_log(log: WireLog, document_keys: tuple[str, ...]) -> Reading:
    """Read a log record of one of `EVENTS`."""
    return read_event(log.event, document_keys)


def read_attributes(attributes: Attributes, document_keys: tuple[str, ...]) -> Reading:
    """Read the attributes of a span or of an event with a span's attributes."""
    get = attributes.get
    system, inputs, outputs = (
        get("gen_ai.system_instructions"),
        get("gen_ai.input.messages") or get("gen_ai.prompt"),
        get("gen_ai.output.messages") or get("gen_ai.completion"),
    )
    output_tokens = _first(get, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
    operation = get(_OPERATION)
    kind = KINDS.get(operation) if type(operation) is str else None
    if kind is None:
        kind = _kind(attributes, asked=bool(inputs), answered=bool(outputs), output_tokens=output_tokens)
    finish = messages.structured(get("gen_ai.response.finish_reasons"))
    reading = Reading(
        kind=kind,
        # An enumeration's members are hashed slowly, and most spans are chats.
        name=get("gen_ai.request.model" if kind is StepKind.CHAT else _NAMED_BY.get(kind, _OPERATION)),
        provider=get("gen_ai.provider.name") or get("gen_ai.system"),
        model=get("gen_ai.request.model"),
        model_version=get("gen_ai.response.model"),
        response_id=get("gen_ai.response.id"),
        conversation=get("gen_ai.conversation.id") or get("session.id") or get("gen_ai.session.id"),
        user=get("user.id")
        or get("enduser.id")
        or get("gen_ai.user.id")
        or get("gen_ai.user")
        or get("gen_ai.request.user"),
        agent=get("gen_ai.agent.name"),
        prompt_name=get("gen_ai.prompt.name"),
        prompt_version=get("gen_ai.prompt.version"),
        finish=(finish[0] if finish else None) if type(finish) is list else _reason(finish) or get(_FINISH),
        error=get("error.type"),
        input_tokens=_first(get, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        output_tokens=output_tokens,
    )
    # Apart: with a sixteenth keyword, CPython would build a dict for the call.
    reading.cost = get("gen_ai.usage.cost")
    if kind is StepKind.TOOL:
        _read_tool(reading, attributes, inputs, outputs)
        return reading
    if inputs and is_body(inputs):
        reading.asked = joined_prompts([messages.asked(None, system), asked_of(inputs)])
    elif inputs or system:
        reading.asked = messages.asked(inputs, system)
    elif not _ELSEWHERE.isdisjoint(attributes):
        reading.asked = Asked(unread=Unreadable.NO_CONTENT)
    if outputs:
        reading.answered = answered_of(outputs) if is_body(outputs) else messages.answered(outputs)
    if "gen_ai.retrieval.documents" in attributes:
        reading.documents = messages.documents(get("gen_ai.retrieval.documents"), document_keys)
    if kind is StepKind.RETRIEVAL:
        query = get("gen_ai.retrieval.query.text") or get("gen_ai.memory.query.text")
        reading.input = messages.text_of(query)
        if not reading.documents:
            reading.documents = messages.documents(get("gen_ai.memory.records"), document_keys)
    return reading


def _reason(finish: Any) -> Any:
    """Return a finish reason, of a list that Python printed or that was cut off the first one."""
    if type(finish) is str and finish[:1] == "[":
        return finish.partition(",")[0].strip("[]'\" ")
    return finish


def _kind(attributes: Attributes, *, asked: bool, answered: bool, output_tokens: object) -> StepKind:
    """Return the kind of step without a known operation, by what the span holds."""
    operation = attributes.get(_OPERATION)
    if not (operation or _OF_TOOLS.isdisjoint(attributes)):
        return StepKind.TOOL
    spent = (token_count(output_tokens) or 0) > 0
    if answered or spent or (asked and not operation):
        return StepKind.CHAT
    # A provider alone is no model's call: it lists models, counts tokens, keeps files.
    return StepKind.CHAT if not operation and "gen_ai.request.model" in attributes else StepKind.OTHER


def _read_tool(reading: Reading, attributes: Attributes, inputs: Any, outputs: Any) -> None:
    get = attributes.get
    arguments = _first(get, "gen_ai.tool.call.arguments", "gen_ai.tool.args")
    reading.call_id = reading.call_id or get("gen_ai.tool.call.id")
    if not reading.error and "error" in (get("gen_ai.tool.status"), get("tool.status")):
        reading.error = "error"  # Strands', whose spans do not fail with their tools
    reading.input = reading.input or messages.text_of(arguments)
    reading.output = reading.output or messages.text_of(get("gen_ai.tool.call.result"))
    # LiteLLM writes both as messages of the role tool.
    if not reading.input and inputs:
        called = messages.answered(inputs).tool_calls
        reading.input = called[0].arguments if called else _first_text(messages.asked(inputs))
    if not reading.output and outputs:
        answered = messages.answered(outputs)
        reading.output = answered.response or _first_text(messages.asked(outputs))


def _first_text(asked: Asked) -> str:
    return next((message.content for message in asked.messages if message.content), "")


def _read_events(reading: Reading, events: list[SpanEvent], document_keys: tuple[str, ...]) -> None:
    """Add what events say of their span, unless its attributes said more."""
    parts = [read_event(event, document_keys) for event in events]
    if reading.kind is StepKind.TOOL:
        _read_tool_events(reading, events, parts)
        return
    answered = NOTHING_ANSWERED
    prompts: list[Asked] = []
    said: set[Message] = set()
    # An event of the whole exchange repeats those of single messages; some send one of each side.
    whole = any(event.name == DETAILS for event in events)
    for event, part in zip(events, parts, strict=True):
        if event.name == DETAILS:
            _fill(reading, part)
            if part.asked is not NOTHING_ASKED and not (prompts and said.issuperset(part.asked.messages)):
                prompts.append(part.asked)
                said.update(part.asked.messages)
            answered = fuller_answer(answered, part.answered)
        elif not whole:
            prompts.append(part.asked)
        reading.finish = reading.finish or part.finish
        reading.documents = reading.documents or part.documents
    if not whole:
        answered = joined_answers([part.answered for part in parts])
    asked = joined_prompts(prompts)
    if answered is NOTHING_ANSWERED and not reading.error:
        asked, answered = _ending(asked)
    reading.asked = fuller_prompt(reading.asked, asked)
    reading.answered = fuller_answer(reading.answered, answered)


def _fill(reading: Reading, of_event: Reading) -> None:
    """Take from an event of the whole exchange what its span, maybe of a server, does not say."""
    if reading.kind is StepKind.OTHER and not reading.name:  # no operation
        reading.kind, reading.name = of_event.kind, of_event.name
    for name in _OF_EXCHANGE:
        if not getattr(reading, name):
            setattr(reading, name, getattr(of_event, name))


_OF_EXCHANGE = (
    "provider", "model", "model_version", "response_id", "conversation", "user", "agent", "input_tokens",
    "output_tokens",
)  # fmt: skip


def _ending(asked: Asked) -> tuple[Asked, Answered]:
    """Return a talk that ends with the assistant's words as its prompt and its answer: Azure's agents."""
    *before, last = asked.messages or (Message(),)
    if last.role != "assistant" or not last.content:
        return asked, NOTHING_ANSWERED
    return replace(asked, messages=tuple(before)), Answered(last.content)


def _read_tool_events(reading: Reading, events: list[SpanEvent], parts: list[Reading]) -> None:
    """Read arguments and result of a tool from events: Strands', or one with the span's attributes."""
    for event, part in zip(events, parts, strict=True):
        if event.name == DETAILS:
            held = event.attributes | (event.body if type(event.body) is dict else {})
            _read_tool(reading, held, held.get("gen_ai.input.messages"), held.get("gen_ai.output.messages"))
        elif event.name == "gen_ai.tool.message":
            reading.input = reading.input or _first_text(part.asked)
        elif event.name == _CHOICE:
            reading.output = reading.output or part.answered.response


def _read_flattened(reading: Reading, attributes: Attributes, document_keys: tuple[str, ...]) -> None:
    """Read what a Collector flattened: `gen_ai.output.messages.0.parts.0.content`."""
    found = nested(attributes, _FLATTENED)
    for name in _LISTS:
        if type(found.get(name)) is dict:  # `gen_ai.input.messages.ref` names where they are
            del found[name]
    if not found:
        return
    whole = read_attributes(attributes | found, document_keys)
    reading.kind = whole.kind
    for name in ("asked", "answered", "documents", "input", "output", "finish"):
        if not getattr(reading, name) or getattr(reading, name) in (NOTHING_ASKED, NOTHING_ANSWERED):
            setattr(reading, name, getattr(whole, name))


def _lacks(reading: Reading) -> bool:
    """Return whether a text that most spans have was not read."""
    kind = reading.kind
    if kind is StepKind.TOOL:
        return not (reading.input and reading.output)
    if kind is StepKind.RETRIEVAL:
        return not reading.documents
    return reading.asked is NOTHING_ASKED or reading.answered is NOTHING_ANSWERED


_LISTS = (
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
    "gen_ai.retrieval.documents", "gen_ai.response.finish_reasons",
)  # fmt: skip
_FLATTENED = (*_LISTS, "gen_ai.tool.call.arguments", "gen_ai.tool.call.result")


def read_event(event: SpanEvent, document_keys: tuple[str, ...]) -> Reading:
    """Read one of `EVENTS`: content is in a log record's body, or in the attributes of a span's event."""
    if event.name == DETAILS:
        held = event.attributes | (event.body if type(event.body) is dict else {})
        whole = read_attributes(held, document_keys)
        if _lacks(whole):
            _read_flattened(whole, held, document_keys)
        return whole
    get = event.attributes.get
    reading = Reading(
        kind=StepKind.CHAT,
        provider=get("gen_ai.provider.name") or get("gen_ai.system"),
        conversation=get("gen_ai.conversation.id"),
    )
    content = _content(event)
    if event.name in {_CHOICE, "gen_ai.content.completion"}:
        answered = messages.answered(content)
        index = content.get("index") if type(content) is dict else 0
        if type(index) is int and index > 0 and answered.response:
            answered = replace(
                answered, response="", alternatives=(answered.response, *answered.alternatives)
            )
        reading.answered, reading.finish = answered, answered.finish
    elif event.name in _PROMPTS:
        reading.asked = messages.asked(content)
    else:
        role = _MESSAGES[event.name]
        if type(content) is not dict:
            content = {"content": content}
        reading.asked = messages.asked([{"role": role} | content])
    return reading


def _content(event: SpanEvent) -> Any:
    if event.body is not None and event.body != "":
        return messages.structured(event.body)
    attributes = event.attributes
    key = _CONTENT.get(event.name, "gen_ai.event.content")
    if key in attributes:
        return messages.structured(attributes[key])
    return {name: value for name, value in attributes.items() if name in messages.KEYS}


def _first(get: Any, name: str, older: str) -> object:
    value = get(name)
    return get(older) if value is None else value
