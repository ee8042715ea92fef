"""Claude Code: its spans (beta), and its log records without spans: those of one prompt are one exchange.

Source: Claude Code's documentation, "Monitoring", of 2.1.
"""

import hashlib
from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.fields import plain, token_count
from monitor.ingest.spans import Reading
from monitor.ingest.texts import Answered, Asked
from monitor.ingest.wire import Attributes, SpanEvent, WireLog, WireSpan
from monitor.trace import Message, StepKind, Unreadable

NAME: Final = "Claude Code"
CONTENT_ON: Final = "set OTEL_LOG_USER_PROMPTS=1, OTEL_LOG_ASSISTANT_RESPONSES=1 and OTEL_LOG_TOOL_DETAILS=1"
MARKS: Final = frozenset({"span.type"})
OUTPUT: Final = "tool.output"
EVENTS: Final = frozenset({OUTPUT})
PREFIX: Final = "claude_code."
LOGS: Final = frozenset({
    f"{PREFIX}{name}"
    for name in (
        "user_prompt", "assistant_response", "api_request", "api_error", "api_refusal", "tool_result",
        "tool_decision",
    )
})  # fmt: skip
_KINDS: Final = {
    "interaction": StepKind.AGENT,
    "llm_request": StepKind.CHAT,
    "tool": StepKind.TOOL,
    "tool.blocked_on_user": StepKind.GUARDRAIL,  # a person allows the call, or not
}
_PROVIDER: Final = "anthropic"
_ARGUMENTS: Final = ("tool_input", "tool_parameters", "full_command", "file_path")
_RESULTS: Final = ("output", "content", "result", "diff", "new_context")
_ABOUT: Final = ("_truncated", "_length", "_bytes")  # ends of keys that measure a text


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading | None:
    """Read a span; None if it is of another sender."""
    if not span.name.startswith(PREFIX):
        return None
    attributes = span.attributes
    get = attributes.get
    kind = _KINDS.get(span.name.removeprefix(PREFIX), StepKind.OTHER)
    reading = Reading(kind=kind, conversation=get("session.id"), user=_user(attributes))
    if kind is StepKind.AGENT:
        reading.name = reading.agent = "claude_code"
        reading.asked = _asked(get("user_prompt"))
    elif kind is StepKind.CHAT:
        _read_request(reading, attributes)
        reading.asked = _asked(get("new_context")) if "new_context" in attributes else reading.asked
        reading.answered = Answered(messages.text_of(get("response.model_output")))
    elif kind is StepKind.TOOL:
        _read_tool(reading, attributes)
        outputs = [event for event in span.events if event.name == OUTPUT]
        reading.output = "\n".join(map(_output, outputs)) or messages.text_of(get("new_context"))
    elif kind is StepKind.GUARDRAIL:
        reading.name, reading.output = get("source") or "blocked_on_user", plain(get("decision"))
    return reading


def read_log(log: WireLog, _document_keys: tuple[str, ...]) -> Reading:
    """Read a log record of one of `LOGS`, and give it the ids of its exchange where it names no span."""
    attributes = log.event.attributes
    get = attributes.get
    name = log.event.name.removeprefix(PREFIX)
    reading = Reading(
        kind=StepKind.CHAT, provider=_PROVIDER, conversation=get("session.id"), user=_user(attributes)
    )
    if not log.span_id:
        _place(log, attributes)
    if name == "user_prompt":
        reading.asked = _asked(get("prompt"))
    elif name == "assistant_response":
        reading.model = get("model")
        reading.answered = Answered(messages.text_of(get("response")))
    elif name in {"api_request", "api_error", "api_refusal"}:
        _read_request(reading, attributes)
        if name == "api_error":  # its message may quote the prompt
            reading.error = get("status_code") or name
        elif name == "api_refusal":
            reading.finish = "refusal"
    else:
        # A call without a prompt to belong to would stand alone, as an exchange without its text.
        kind = StepKind.TOOL if name == "tool_result" else StepKind.GUARDRAIL
        reading.kind = kind if not log.log_only or get("prompt.id") else StepKind.OTHER
        _read_tool(reading, attributes)
        if name == "tool_decision":
            reading.output = plain(get("decision"))
        if log.log_only:
            log.parent_id, log.span_id = (
                log.span_id,
                _digest(log.span_id, name, reading.call_id, log.event.time),
            )
    return reading


def _place(log: WireLog, attributes: Attributes) -> None:
    """Derive the ids of an exchange from its session and prompt, which are UUIDs: as random as ids are."""
    get = attributes.get
    session, prompt = plain(get("session.id")), plain(get("prompt.id"))
    if session or prompt:
        log.trace_id = _digest("trace", session, prompt, digits=32)
        log.span_id = _digest("span", session, prompt)
        log.log_only = True


def _digest(*parts: object, digits: int = 16) -> str:
    return hashlib.sha256("\0".join(map(str, (PREFIX, *parts))).encode()).hexdigest()[:digits]


def _asked(prompt: Any) -> Asked:
    text = messages.text_of(prompt)
    return Asked((Message("user", text),)) if text else Asked(unread=Unreadable.NO_CONTENT)


def _read_request(reading: Reading, attributes: Attributes) -> None:
    get = attributes.get
    reading.model = get("gen_ai.request.model") or get("model")
    reading.name = reading.model
    reading.provider = _PROVIDER
    reading.response_id = get("gen_ai.response.id")
    reading.finish = get("stop_reason")
    reading.cost = _number(get("cost_usd"))
    reading.output_tokens = get("output_tokens")
    # Without those of the cache, which may be all of them.
    reading.input_tokens = token_count(get("input_tokens")) or get("cache_read_tokens")
    if get("success") in {False, "false"}:
        reading.error = get("error.type") or get("status_code") or "error"


def _read_tool(reading: Reading, attributes: Attributes) -> None:
    get = attributes.get
    reading.name = get("tool_name")
    reading.call_id = get("tool_use_id") or get("gen_ai.tool.call.id")
    reading.input = next((messages.text_of(attributes[key]) for key in _ARGUMENTS if key in attributes), "")
    if get("success") in {False, "false"}:
        reading.error = get("error_type") or "error"


def _output(event: SpanEvent) -> str:
    """Return the text of a tool's result; its keys depend on the tool."""
    attributes = event.attributes
    found = next((attributes[key] for key in _RESULTS if key in attributes), None)
    if found is None:
        found = {key: value for key, value in attributes.items() if not key.endswith(_ABOUT)}
    return messages.text_of(found or None)


def _user(attributes: Attributes) -> object:
    return next((attributes[key] for key in _USER if attributes.get(key)), None)


_USER: Final = ("user.id", "user.email", "user.account_uuid")


def _number(value: Any) -> object:
    try:
        return float(value) if type(value) is str else value
    except ValueError:
        return None
