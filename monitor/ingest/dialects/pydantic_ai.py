"""Pydantic AI: the answer and messages of a run, older names of a tool's call, and events in one attribute.

Source: `pydantic-ai-slim` 2.68 (`capabilities/instrumentation.py`; its versions 2 and 3 of instrumentation)
and 0.2 (`models/instrumented.py`).
"""

from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.spans import Reading
from monitor.ingest.texts import NOTHING_ASKED, Answered
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import StepKind

NAME: Final = "Pydantic AI"
CONTENT_ON: Final = "create its InstrumentationSettings with include_content=True, the default"
MARKS: Final = frozenset({
    "pydantic_ai.all_messages", "all_messages_events", "final_result", "tool_arguments", "tool_response",
    "model_request_parameters",
})  # fmt: skip


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading | None:
    """Read what this dialect adds to GenAI's attributes of a span."""
    attributes = span.attributes
    get = attributes.get
    if "pydantic_ai.all_messages" in attributes or "all_messages_events" in attributes:
        return _read_run(attributes)
    if "gen_ai.tool.name" in attributes:
        return Reading(
            kind=StepKind.TOOL,
            name=get("gen_ai.tool.name"),
            input=messages.text_of(get("tool_arguments")),
            output=messages.text_of(get("tool_response")),
        )
    if "model_request_parameters" in attributes:
        reading = Reading()
        events = messages.structured(get("events"))
        if type(events) is list:
            choices = [event for event in events if _is_choice(event)]
            reading.asked = messages.asked([event for event in events if not _is_choice(event)])
            reading.answered = messages.answered(choices)
        return reading
    return None


def _read_run(attributes: Attributes) -> Reading:
    get = attributes.get
    reading = Reading(
        kind=StepKind.AGENT,
        agent=get("gen_ai.agent.name") or get("agent_name"),
        answered=Answered(messages.compact(get("final_result"))),
    )
    reading.name = reading.agent
    held, _ = messages.opened(get("pydantic_ai.all_messages") or get("all_messages_events"))
    if type(held) is list:
        while held and _is_answer(held[-1]):
            held.pop()
        reading.asked = messages.asked(held, get("gen_ai.system_instructions")) if held else NOTHING_ASKED
    return reading


def _is_choice(event: Any) -> bool:
    return type(event) is dict and event.get("event.name") == "gen_ai.choice"


def _is_answer(message: Any) -> bool:
    return type(message) is dict and message.get("role") == "assistant"
