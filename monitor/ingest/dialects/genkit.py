"""Genkit (JavaScript, Go, Python): attributes `genkit:*`, inputs and outputs of its actions in JSON.

Source: npm `@genkit-ai/core` and `@genkit-ai/ai` 1.42.0 (`tracing/instrumentation.ts`, `model-types.ts`).
"""

from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.metadata import unquoted
from monitor.ingest.dialects.payloads import answered_of, asked_of, tokens_of
from monitor.ingest.dialects.values import opened
from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED, Answered, Asked, cut_answer, cut_prompt
from monitor.ingest.wire import WireSpan
from monitor.trace import Document, StepKind

NAME: Final = "Genkit"
CONTENT_ON: Final = (
    "set disableLoggingInputAndOutput: false in its Google Cloud plugin; on by default elsewhere"
)
_TYPE, _SUBTYPE = "genkit:type", "genkit:metadata:subtype"
MARKS: Final = frozenset({_TYPE, _SUBTYPE})
KINDS: Final = {
    "model": StepKind.CHAT,
    "background-model": StepKind.CHAT,
    "agent": StepKind.AGENT,
    "tool": StepKind.TOOL,
    "tool.v2": StepKind.TOOL,
    "flow": StepKind.WORKFLOW,
    "util": StepKind.WORKFLOW,
    "executable-prompt": StepKind.WORKFLOW,
    "retriever": StepKind.RETRIEVAL,
    "reranker": StepKind.RETRIEVAL,
}
_STEPS = frozenset({"util", "dotprompt", "helper", "flowStep"})
_FINISHES = {"blocked": "content_filter", "failed": "error"}


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span."""
    get = span.attributes.get
    kind = KINDS.get(plain(get(_SUBTYPE)))
    if kind is None:
        alone = _SUBTYPE not in span.attributes and plain(get(_TYPE)) in _STEPS
        kind = StepKind.WORKFLOW if alone else StepKind.OTHER
    name = plain(get("genkit:name")) or span.name
    context = opened(get("genkit:metadata:context"))[0]
    auth = context.get("auth") if type(context) is dict else None
    reading = Reading(
        kind=kind,
        name=name,
        user=auth.get("uid") if type(auth) is dict else None,
        conversation=get("genkit:sessionId"),
        error=next((e.attributes.get("exception.type") for e in span.events if e.name == "exception"), None),
    )
    if reading.error is None and get("genkit:state") == "error":
        reading.error = "error"
    sent, made = get("genkit:input"), get("genkit:output")
    if kind is StepKind.TOOL:
        reading.input, reading.output = messages.text_of(unquoted(sent)), messages.text_of(unquoted(made))
    elif kind is StepKind.RETRIEVAL:
        query = opened(sent)[0]
        query = query.get("query") if type(query) is dict and "query" in query else query
        reading.input = _text(query) if type(query) is dict else messages.text_of(unquoted(query))
        reading.documents = _documents(made, document_keys)
    elif kind is not StepKind.OTHER:
        reading.asked, reading.answered = _asked(sent), _answered(made)
        if kind is StepKind.CHAT:
            _read_model(reading, name, sent, made, document_keys)
        elif kind is StepKind.AGENT:
            reading.agent = name
    return reading


def _read_model(reading: Reading, name: str, sent: Any, made: Any, document_keys: tuple[str, ...]) -> None:
    """Read the model, whose name begins with its plugin's, its tokens, and the documents it was given."""
    plugin, _, model = name.partition("/")
    reading.provider = plugin if model else None
    reading.model = reading.name = model or name
    reading.input_tokens, reading.output_tokens = tokens_of(made)
    request = opened(sent)[0]
    if type(request) is dict and request.get("docs"):
        reading.documents = _documents({"documents": request["docs"]}, document_keys)


def _asked(value: Any) -> Asked:
    read, cut = opened(value)
    if type(read) is not dict or type(turns := read.get("messages")) is not list:
        return asked_of(unquoted(value)) if value else NOTHING_ASKED
    asked = messages.asked([_message(turn) for turn in turns])
    return cut_prompt(asked) if cut else asked


def _answered(value: Any) -> Answered:
    read, cut = opened(value)
    samples = read.get("candidates") if type(read) is dict else None
    if type(samples) is not list:
        if type(read) is not dict or "message" not in read:
            return answered_of(unquoted(value)) if value else NOTHING_ANSWERED
        samples = [read]
    made = []
    for sample in samples:
        if type(sample) is dict:
            reason = plain(sample.get("finishReason"))
            made.append(_message(sample.get("message")) | {"finish_reason": _FINISHES.get(reason, reason)})
    answered = messages.answered(made)
    return cut_answer(answered) if cut else answered


def _message(message: Any) -> dict[str, Any]:
    if type(message) is not dict:
        return {"content": messages.text_of(message)}
    content = message.get("content")
    parts = [_part(part) for part in content] if type(content) is list else content
    return {"role": message.get("role"), "content": parts}


def _part(part: Any) -> Any:
    """Return a part, which its only key names, as one with a type."""
    if type(part) is not dict:
        return part
    if type(call := part.get("toolRequest")) is dict:
        own = {"id": call.get("ref"), "name": call.get("name"), "arguments": call.get("input")}
        return {"type": "tool_call"} | own
    if type(result := part.get("toolResponse")) is dict:
        output = result.get("output")
        return {"type": "tool_call_response", "id": result.get("ref"), "response": output}
    if type(media := part.get("media")) is dict:
        kind = plain(media.get("contentType")).partition("/")[0]
        return {"type": kind if kind in {"image", "audio", "video"} else "file"}
    said = next((key for key in ("text", "data", "reasoning") if key in part), None)
    if said == "reasoning":
        return {"type": said}
    return {"type": "text", "text": messages.text_of(part[said])} if said else part


def _documents(value: Any, document_keys: tuple[str, ...]) -> tuple[Document, ...]:
    read = opened(value)[0]
    listed = read.get("documents") if type(read) is dict else read
    if type(listed) is not list:
        return messages.documents(unquoted(read), ("content", *document_keys))
    made = []
    for item in listed:
        if type(item) is dict and type(item.get("content")) is list:
            said = item.get("metadata")
            score = item.get("score", said.get("score") if type(said) is dict else None)
            item = item | {"content": _text(item), "score": score}  # noqa: PLW2901 - the same, opened
        made.append(messages.document(item, ("content", "text", *document_keys)))
    return tuple(made)


def _text(document: dict[str, Any]) -> str:
    """Return the text of a document, which has parts as a message has."""
    asked = messages.asked([_message(document)])
    return "\n".join(message.content for message in asked.messages)
