"""LlamaIndex's own instrumentation: events of its calls on spans that have no attributes.

Source: PyPI `llama-index-observability-otel` 0.7.0 with `llama-index-core` 0.14.25, recorded. Nested fields
are flattened by dots, lists are JSON.
"""

from typing import Any, Final

from monitor.ingest.dialects import langchain, messages
from monitor.ingest.dialects.payloads import DOCUMENT_KEYS, answered_of, asked_of, tokens_of
from monitor.ingest.dialects.values import opened
from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.texts import Answered
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import Document, StepKind

NAME: Final = "LlamaIndex (llama-index-observability-otel)"
CONTENT_ON: Final = "call without streaming, as the answer of a stream is on no span; on by default"
MARKS: Final = frozenset[str]()
_CHAT = frozenset({"LLMChatStartEvent", "LLMChatEndEvent"})
_COMPLETION = frozenset({"LLMCompletionStartEvent", "LLMCompletionEndEvent"})
_RETRIEVAL = frozenset({"RetrievalStartEvent", "RetrievalEndEvent", "ReRankEndEvent"})
_QUERY = frozenset({"QueryStartEvent", "QueryEndEvent", "LLMPredictEndEvent"})
_AGENT = frozenset({"AgentChatWithStepStartEvent", "AgentChatWithStepEndEvent"})
_TOOL = "AgentToolCallEvent"
EVENTS: Final = _CHAT | _COMPLETION | _RETRIEVAL | _QUERY | _AGENT | {_TOOL}
_ANSWERS = ("response.text", "response.response", "response.message.content", "response", "output")
_QUESTIONS = ("query.query_str", "query", "str_or_query_bundle.query_str", "str_or_query_bundle", "user_msg")


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read the events of a span."""
    held: Attributes = {}
    names = set()
    for event in span.events:
        if event.name in EVENTS:
            names.add(event.name)
            held |= event.attributes
    own = span.name.partition(".")[0]
    reading = Reading(name=own, error=span.exception_type())
    if not names.isdisjoint(_CHAT) or not names.isdisjoint(_COMPLETION):
        reading.kind = StepKind.CHAT
        _read_call(reading, held)
    elif not names.isdisjoint(_RETRIEVAL):
        reading.kind = StepKind.RETRIEVAL
        reading.input = _question(held)
        reading.documents = _documents(held.get("nodes"), document_keys)
    elif _TOOL in names:
        reading.kind = StepKind.TOOL
        reading.name = held.get("tool.name") or own
        reading.input = messages.text_of(held.get("arguments"))
    elif names:
        reading.kind = StepKind.WORKFLOW if names.isdisjoint(_AGENT) else StepKind.AGENT
        reading.asked, reading.answered = asked_of(_question(held)), _answered(held)
        if reading.kind is StepKind.AGENT:
            reading.agent = own
    return reading


def _read_call(reading: Reading, held: Attributes) -> None:
    reading.model = reading.name = held.get("model_dict.model") or held.get("model_dict.model_name")
    reading.model_version = held.get("response.raw.model")
    reading.response_id = held.get("response.raw.id")
    reading.asked = asked_of(held.get("messages") or held.get("prompt"))
    reading.answered = _answered(held)
    usage = {
        key.removeprefix("response.raw.usage."): value
        for key, value in held.items()
        if key.startswith("response.raw.usage.")
    }
    reading.input_tokens, reading.output_tokens = tokens_of(usage)
    choices = opened(held.get("response.raw.choices"))[0]
    if type(choices) is list and choices and type(choices[0]) is dict:
        reading.finish = choices[0].get("finish_reason")


def _answered(held: Attributes) -> Answered:
    blocks = opened(held.get("response.message.blocks"))[0]
    if type(blocks) is not list:
        text = next((held[key] for key in _ANSWERS if held.get(key)), None)
        # Older versions keep no objects, and a response is then what it prints.
        return answered_of(text.removeprefix("assistant: ") if type(text) is str else text)
    message = {"role": plain(held.get("response.message.role")) or "assistant", "blocks": blocks}
    calls = opened(held.get("response.message.additional_kwargs.tool_calls"))[0]
    made: dict[str, Any] = langchain.plain(message | {"additional_kwargs": {"tool_calls": calls}})
    return messages.answered([made])


def _question(held: Attributes) -> str:
    return next((text for key in _QUESTIONS if (text := plain(held.get(key)))), "")


def _documents(value: Any, document_keys: tuple[str, ...]) -> tuple[Document, ...]:
    """Read nodes with their scores; a node's text is its own or that of its resource."""
    listed = opened(value)[0]
    made = []
    for item in listed if type(listed) is list else ():
        node = item.get("node") if type(item) is dict else None
        if type(node) is not dict:
            made.append(messages.document(item, (*DOCUMENT_KEYS, *document_keys)))
            continue
        resource = node.get("text_resource")
        text = node.get("text") or (resource.get("text") if type(resource) is dict else None)
        found = {"id": node.get("id_"), "text": text, "score": item.get("score")}
        made.append(messages.document(node | found, ("text", *document_keys)))
    return tuple(made)
