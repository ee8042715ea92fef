"""Vercel AI SDK: its own attributes `ai.*`, which versions 3 to 6 send, and what 7 keeps beside GenAI's.

Source: npm `ai` 3.4.33, 4.3.19, 5.0.277 and 6.0.326, and `@ai-sdk/otel` 1.0.173, which traces `ai` 7.
"""

from typing import Any, Final

from msgspec.structs import replace

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.metadata import read_metadata, under, unquoted
from monitor.ingest.dialects.payloads import asked_of
from monitor.ingest.dialects.values import opened
from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.texts import NOTHING_ANSWERED, Answered, Asked, cut_prompt
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import Document, StepKind, Unreadable

NAME: Final = "Vercel AI SDK"
CONTENT_ON: Final = (
    "remove recordInputs: false and recordOutputs: false from its telemetry options; on by default"
)
_OPERATION = "ai.operationId"
_RANKING = "ai.ranking"
_CONTEXT = "ai.settings.context."
_METADATA = "ai.telemetry.metadata."
MARKS: Final = frozenset({
    _OPERATION, _RANKING, "ai.request.text", "ai.request.audio.size", "ai.response.audio.size",
    *(f"{_CONTEXT}{name}" for name in ("userId", "user_id", "sessionId", "session_id", "conversationId")),
})  # fmt: skip
_CALLS = frozenset({"ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject"})
_AGENTS = _CALLS | {"ai.workflowAgent.stream"}
_CHATS = frozenset(f"{call}.{step}" for call in _CALLS for step in ("doGenerate", "doStream"))
_AUDIO = frozenset({"ai.generateSpeech", "ai.transcribe", "ai.streamTranscribe"})
_TEXT = ("ai.response.text", "ai.result.text", "ai.response.object", "ai.result.object")
_TOOL_CALLS = ("ai.response.toolCalls", "ai.result.toolCalls")
_LEFT_OUT = (
    ("ai.response.reasoning", "reasoning"),
    ("ai.response.files", "file"),
    ("ai.response.audio.size", "audio"),
)
_FINISH = ("ai.response.finishReason", "ai.finishReason")
_INPUT_TOKENS = ("ai.usage.inputTokens", "ai.usage.promptTokens")
_OUTPUT_TOKENS = ("ai.usage.outputTokens", "ai.usage.completionTokens")


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span; the outer one of a call is an agent's: it calls the model and tools until it is done."""
    attributes = span.attributes
    get = attributes.get
    operation = plain(get(_OPERATION))
    reading = Reading(
        provider=get("ai.model.provider"),
        model=get("ai.model.id"),
        model_version=get("ai.response.model"),
        response_id=get("ai.response.id"),
        finish=_finish(attributes),
        error=span.exception_type(),
        input_tokens=_first(attributes, _INPUT_TOKENS),
        output_tokens=_first(attributes, _OUTPUT_TOKENS),
    )
    if operation in _AGENTS:
        reading.kind = StepKind.AGENT
        reading.name = reading.agent = get("ai.telemetry.functionId")
    elif operation in _CHATS or (operation or plain(get("gen_ai.operation.name"))) in _AUDIO:
        reading.kind, reading.name = StepKind.CHAT, reading.model
    elif operation == "ai.toolCall":
        reading.kind = StepKind.TOOL
        reading.name, reading.call_id = get("ai.toolCall.name"), get("ai.toolCall.id")
        reading.input = messages.text_of(get("ai.toolCall.args"))
        reading.output = messages.text_of(get("ai.toolCall.result"))
    elif _RANKING in attributes:
        reading.kind, reading.documents = StepKind.RETRIEVAL, _ranked(attributes, document_keys)
    elif operation:
        reading.kind = StepKind.OTHER  # embeddings, and what is new
    if reading.kind in {StepKind.AGENT, StepKind.CHAT}:
        reading.asked, reading.answered = _asked(attributes), _answered(attributes)
    read_metadata(reading, under(attributes, _CONTEXT) | under(attributes, _METADATA))
    return reading


def _asked(attributes: Attributes) -> Asked:
    said = attributes.get("ai.prompt.messages")
    if said is None:
        asked = asked_of(attributes.get("ai.prompt") or attributes.get("ai.request.text"))
        audio = "ai.request.audio.size" in attributes
        return replace(asked, left_out=(*asked.left_out, "audio")) if audio else asked
    turns, cut = opened(said)
    if type(turns) is not list:
        return asked_of(turns)
    asked = messages.asked([_turn(turn) for turn in turns])
    return cut_prompt(asked) if cut else asked


def _turn(turn: Any) -> Any:
    """Return a message with the results of its tools without the envelope that tells their kind."""
    content = turn.get("content") if type(turn) is dict else None
    return turn | {"content": [_part(part) for part in content]} if type(content) is list else turn


def _part(part: Any) -> Any:
    output = part.get("output") if type(part) is dict else None
    if type(output) is dict and "value" in output and type(output.get("type")) is str:
        return part | {"output": output["value"]}
    return part


def _answered(attributes: Attributes) -> Answered:
    text = _first(attributes, _TEXT)
    calls, cut = opened(_first(attributes, _TOOL_CALLS))
    parts = [{"type": "text", "text": messages.text_of(text)}] if text else []
    answered = messages.answered([{
        "role": "assistant", "content": parts, "tool_calls": calls if type(calls) is list else None,
    }])  # fmt: skip
    left_out = tuple(kind for key, kind in _LEFT_OUT if key in attributes)
    if answered is NOTHING_ANSWERED and not left_out:
        return NOTHING_ANSWERED
    return replace(answered, left_out=left_out, unread=Unreadable.TRUNCATED if cut else None)


def _finish(attributes: Attributes) -> object:
    reason = _first(attributes, _FINISH)
    if reason is None:
        reasons = attributes.get("gen_ai.response.finish_reasons")
        reason = reasons[0] if type(reasons) is list and reasons else reasons
    return reason.replace("-", "_") if type(reason) is str else None


def _ranked(attributes: Attributes, document_keys: tuple[str, ...]) -> tuple[Document, ...]:
    """Return the documents in the order of their ranking, which names them by their index."""
    listed, ranking = attributes.get("ai.documents"), attributes.get(_RANKING)
    if type(listed) is not list or type(ranking) is not list:
        return ()
    found = [messages.document(opened(unquoted(text))[0], ("text", *document_keys)) for text in listed]
    ranked = []
    for item in map(messages.structured, ranking):
        index = item.get("index", item.get("originalIndex")) if type(item) is dict else None
        if type(index) is int and 0 <= index < len(found):
            score = messages.document(item | {"score": item.get("relevanceScore")}, ()).score
            ranked.append(Document(found[index].id, found[index].content, score))
    return tuple(ranked)


def _first(attributes: Attributes, names: tuple[str, ...]) -> Any:
    return next(
        (value for name in names if (value := attributes.get(name)) is not None and value != ""), None
    )
