"""Google's Agent Development Kit: the requests and responses of its `call_llm` spans, and its tools' calls.

Source: `google-adk` 1.18 and 2.13, `telemetry/tracing.py`; ADK for Java, `telemetry/Tracing.java`.
Where content is off, `{}` stands in its place.
"""

from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.spans import Reading
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED, cut_answer, cut_prompt
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import StepKind

NAME: Final = "Google ADK"
CONTENT_ON: Final = (
    "set ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS=true, the default; since 2.13 also "
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY and "
    "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental"
)
_OWN: Final = "gcp.vertex.agent."
_REQUEST, _RESPONSE = f"{_OWN}llm_request", f"{_OWN}llm_response"
_ARGUMENTS, _RESULT = f"{_OWN}tool_call_args", f"{_OWN}tool_response"
MARKS: Final = frozenset(
    {_REQUEST, _RESPONSE, _ARGUMENTS, _RESULT, f"{_OWN}session_id", f"{_OWN}invocation_id"}
)
_MERGED: Final = "(merged tools)"  # repeats calls that have spans of their own, for ADK's web page
_NONE: Final = frozenset({"{}", "N/A", "<not specified>", "<not serializable>"})


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading | None:
    """Read what this dialect adds to GenAI's attributes of a span."""
    attributes = span.attributes
    if attributes.get("gen_ai.operation.name") == "execute_tool" or _ARGUMENTS in attributes:
        return _read_tool(attributes)
    if f"{_OWN}data" in attributes:
        return None  # what a live session was sent: part of no call, so it counts as foreign
    conversation = attributes.get(f"{_OWN}session_id")
    if _REQUEST not in attributes and _RESPONSE not in attributes:
        # Content is off in 1.x too if there is neither: an object is no attribute and was dropped.
        kind = StepKind.CHAT if span.name == "call_llm" else None
        return Reading(kind=kind, conversation=conversation)
    reading = Reading(kind=StepKind.CHAT, conversation=conversation)
    _read_request(reading, attributes.get(_REQUEST))
    _read_response(reading, attributes.get(_RESPONSE))
    return reading


def _read_tool(attributes: Attributes) -> Reading:
    if attributes.get("gen_ai.tool.name") == _MERGED:
        return Reading(kind=StepKind.OTHER)
    return Reading(
        kind=StepKind.TOOL,
        name=attributes.get("gen_ai.tool.name"),
        call_id=_unless_none(attributes.get("gen_ai.tool.call.id", attributes.get("gen_ai.tool_call.id"))),
        input=messages.text_of(_unless_none(attributes.get(_ARGUMENTS))),
        output=messages.text_of(_unless_none(attributes.get(_RESULT))),
    )


def _read_request(reading: Reading, value: Any) -> None:
    request, cut = messages.opened(value)
    if type(request) is not dict:
        return
    config = request.get("config")
    system = _either(config, "system_instruction") if type(config) is dict else None
    reading.model = reading.name = request.get("model")
    contents = request.get("contents")
    asked = messages.asked(contents, system) if contents or system else NOTHING_ASKED
    reading.asked = cut_prompt(asked) if cut else asked


def _read_response(reading: Reading, value: Any) -> None:
    response, cut = messages.opened(value)
    if type(response) is not dict:
        return
    reading.model_version = _either(response, "model_version")
    finish, error = _either(response, "finish_reason"), _either(response, "error_code")
    reading.finish = finish or error
    # What a filter held back has its reason in both places.
    reading.error = error if error != finish else None
    answered = NOTHING_ANSWERED
    if (content := response.get("content")) is not None:
        answered = messages.answered([content if type(content) is dict else {"content": content}])
    reading.answered = cut_answer(answered) if cut else answered
    usage = _either(response, "usage_metadata")
    if type(usage) is dict:
        reading.input_tokens = _either(usage, "prompt_token_count")
        reading.output_tokens = _either(usage, "candidates_token_count")


def _either(held: dict[str, Any], name: str) -> Any:
    """Return a value by its name in Python, or by the one that ADK for Java and Go gives it."""
    first, *words = name.split("_")
    return held.get(name, held.get(first + "".join(map(str.capitalize, words))))


def _unless_none(value: Any) -> Any:
    return None if type(value) is str and value in _NONE else value
