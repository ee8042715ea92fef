"""Langfuse SDKs 3 to 5, and spans to which an application adds Langfuse's attributes.

Source: PyPI `langfuse` 5.0.4 and npm `@langfuse/otel` 5.11.1 (`langfuse.observation.*`, `langfuse.trace.*`).
"""

import re
from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.metadata import read_metadata, under
from monitor.ingest.dialects.payloads import (
    answered_of,
    asked_of,
    documents_of,
    question_of,
    returned_of,
    tokens_of,
)
from monitor.ingest.dialects.values import opened
from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import StepKind

NAME: Final = "Langfuse SDK"
CONTENT_ON: Final = (
    "observe with capture_input and capture_output, and with no mask that empties texts; on by default"
)
_TYPE = "langfuse.observation.type"
_INPUT, _OUTPUT = "langfuse.observation.input", "langfuse.observation.output"
_MODEL = "langfuse.observation.model.name"
_OF_TRACE = ("langfuse.trace.input", "langfuse.trace.output")
_USER = ("langfuse.user.id", "user.id", "langfuse.trace.user_id", "langfuse.trace.userId")
_CONVERSATION = (
    "langfuse.session.id", "session.id", "langfuse.trace.session_id", "langfuse.trace.sessionId",
)  # fmt: skip
_USAGE = "langfuse.observation.usage_details"
MARKS: Final = frozenset({_TYPE, _INPUT, _OUTPUT, _MODEL, _USAGE, *_OF_TRACE, *_USER, *_CONVERSATION}) - {
    "user.id",
    "session.id",
}
KINDS: Final = {
    "generation": StepKind.CHAT,
    "agent": StepKind.AGENT,
    "tool": StepKind.TOOL,
    "chain": StepKind.WORKFLOW,
    "retriever": StepKind.RETRIEVAL,
    "guardrail": StepKind.GUARDRAIL,
    "embedding": StepKind.OTHER,
    "evaluator": StepKind.OTHER,
    "event": StepKind.OTHER,
}
_OTHERS_SAY = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind", "ai.operationId")
_SNAPSHOT = re.compile(r"(.+?)-(?:\d{4}-\d{2}-\d{2}|20\d{6})")  # OpenAI's and Anthropic's dates of a model


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span."""
    attributes = span.attributes
    get = attributes.get
    sent, made = _called(get(_INPUT) or get(_OF_TRACE[0])), get(_OUTPUT) or get(_OF_TRACE[1])
    kind = _kind(attributes, holds_text=bool(sent or made))
    tokens = tokens_of(get(_USAGE))
    cost = opened(get("langfuse.observation.cost_details"))[0]
    reading = Reading(
        kind=kind,
        user=_first(attributes, _USER),
        conversation=_first(attributes, _CONVERSATION),
        prompt_name=get("langfuse.observation.prompt.name"),
        prompt_version=get("langfuse.observation.prompt.version"),
        error=_error(span),
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cost=cost.get("total") if type(cost) is dict else None,
    )
    metadata = under(attributes, "langfuse.trace.metadata.") | under(
        attributes, "langfuse.observation.metadata."
    )
    reading.finish = metadata.pop("finish_reason", None)
    reading.provider = metadata.pop("ls_provider", None)
    read_metadata(
        reading, {key: value for key, value in metadata.items() if not key.startswith(("ls_", "lc_"))}
    )
    if kind is StepKind.TOOL:
        reading.name = span.name
        reading.input = messages.text_of(sent)
        reading.output, reading.call_id = returned_of(made)
    elif kind is StepKind.RETRIEVAL:
        reading.name = span.name
        reading.input, reading.documents = question_of(sent), documents_of(made, document_keys)
    elif kind in {StepKind.CHAT, StepKind.AGENT, StepKind.WORKFLOW, None}:
        reading.asked, reading.answered = asked_of(sent), answered_of(made)
        _read_names(reading, span)
        reading.finish = reading.finish or _finish(reading, attributes)
    return reading


def _kind(attributes: Attributes, *, holds_text: bool) -> StepKind | None:
    """Return the kind; a `span` may be any step, and is one of ours if no other dialect knows it."""
    named = plain(attributes.get(_TYPE)).lower()
    if named in KINDS:
        return KINDS[named]
    if any(mark in attributes for mark in _OTHERS_SAY):
        return None
    if _MODEL in attributes or _USAGE in attributes:
        return StepKind.CHAT
    return StepKind.WORKFLOW if holds_text else None


def _read_names(reading: Reading, span: WireSpan) -> None:
    """Read the model: OpenAI's wrapper replaces the one that was asked for by the one that answered."""
    if reading.kind is StepKind.CHAT:
        named = plain(span.attributes.get(_MODEL))
        snapshot = _SNAPSHOT.fullmatch(named)
        reading.model = reading.name = snapshot[1] if snapshot else named or None
        reading.model_version = named or None
    else:
        reading.name = span.name
        if reading.kind is StepKind.AGENT:
            reading.agent = span.name


def _finish(reading: Reading, attributes: Attributes) -> str | None:
    """Return why an output ended. Langfuse keeps it for few APIs: then its shape and its length tell."""
    answered = reading.answered
    if answered.finish or reading.error or reading.kind is not StepKind.CHAT:
        return None
    if not answered.response:
        return "tool_calls" if answered.tool_calls else None
    parameters = opened(attributes.get("langfuse.observation.model.parameters"))[0]
    if type(parameters) is dict:
        most = parameters.get("max_completion_tokens") or parameters.get("max_tokens")
        if type(most) is int and type(made := reading.output_tokens) is int and made >= most:
            return "length"
    return "stop"


def _called(value: Any) -> Any:
    """Return what a decorated function was called with: its named arguments, or its only one."""
    read = opened(value)[0]
    if type(read) is not dict or read.keys() != {"args", "kwargs"}:
        return value
    args, named = read["args"], read["kwargs"]
    if not args:
        return named
    return args[0] if not named and type(args) is list and len(args) == 1 else read


def _error(span: WireSpan) -> object:
    failed = "error" if span.attributes.get("langfuse.observation.level") == "ERROR" else None
    return span.exception_type() or failed


def _first(attributes: Attributes, names: tuple[str, ...]) -> Any:
    return next((attributes[name] for name in names if attributes.get(name)), None)
