"""OpenInference: flattened messages and documents, `openinference.span.kind`.

Source: Arize-ai/openinference `spec/semantic_conventions.md` at 1fe497f1.
"""

from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.flat import tool_calls, unflatten
from monitor.ingest.dialects.payloads import answered_of, asked_of, is_body, returned_of
from monitor.ingest.fields import CONVERSATION, USER, plain
from monitor.ingest.spans import Reading
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import Document, StepKind

NAME: Final = "OpenInference (Arize, Phoenix)"
CONTENT_ON: Final = "set OPENINFERENCE_HIDE_INPUTS=false and OPENINFERENCE_HIDE_OUTPUTS=false, the defaults"
KIND = "openinference.span.kind"
MARKS = frozenset({KIND})
KINDS = {
    "LLM": StepKind.CHAT,
    "AGENT": StepKind.AGENT,
    "CHAIN": StepKind.WORKFLOW,
    "TOOL": StepKind.TOOL,
    "RETRIEVER": StepKind.RETRIEVAL,
    "RERANKER": StepKind.RETRIEVAL,
    "GUARDRAIL": StepKind.GUARDRAIL,
}
_NAMED_BY = {
    StepKind.AGENT: ("agent.name", "graph.node.id"),
    StepKind.TOOL: ("tool.name",),
    StepKind.RETRIEVAL: ("reranker.model_name",),
}
_PREPARES = "._prepare_chat_with_tools"  # LlamaIndex's span of kind LLM that calls no model
_HANDOFF = ("transfer_to_", "handoff to ", "handoff_to_")  # OpenAI's and LangGraph's names of such tools


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span."""
    attributes = span.attributes
    get = attributes.get
    kind = KINDS.get(str(get(KIND)).upper(), StepKind.OTHER)
    if span.name.endswith(_PREPARES):
        kind = StepKind.OTHER
    reading = Reading(
        kind=kind,
        name=_first(attributes, *_NAMED_BY.get(kind, ())),
        provider=get("llm.provider") or get("llm.system"),
        conversation=get("session.id"),
        user=get("user.id"),
        agent=get("agent.name"),
        prompt_name=get("prompt.id"),
        prompt_version=get("llm.prompt_template.version"),
        finish=get("llm.finish_reason"),
        error=span.exception_type(),
        input_tokens=get("llm.token_count.prompt"),
        output_tokens=get("llm.token_count.completion"),
        cost=get("llm.cost.total"),
        input=messages.text_of(get("input.value")),
        output=messages.text_of(get("output.value")),
    )
    if kind is StepKind.CHAT or kind is StepKind.AGENT:
        _read_model(reading, attributes)
        _read_exchange(reading, attributes)
    elif kind is StepKind.TOOL:
        _read_tool(reading, attributes)
    elif kind is StepKind.RETRIEVAL:
        reading.input = reading.input or messages.text_of(get("reranker.query"))
        # A reranker's output is what the model sees; without it nothing was left out.
        for prefix in ("reranker.output_documents.", "retrieval.documents."):
            if items := unflatten(attributes, prefix):
                reading.documents = tuple([_document(item, document_keys) for item in items])
                break
    _read_metadata(reading, messages.structured(get("metadata")))
    return reading


def _read_metadata(reading: Reading, found: Any) -> None:
    """Take user and conversation from what the application ties to its spans, if nothing else has them."""
    if type(found) is dict:
        reading.user = reading.user or next((v for name in USER if plain(v := found.get(name))), None)
        reading.conversation = reading.conversation or next(
            (v for name in CONVERSATION if plain(v := found.get(name))), None
        )


def _read_model(reading: Reading, attributes: Attributes) -> None:
    """Read the model that was asked for and the one that answered; `llm.model_name` may be either."""
    named = attributes.get("llm.model_name")
    asked = attributes.get("llm.request.model_name")
    parameters = messages.structured(attributes.get("llm.invocation_parameters"))
    if type(parameters) is dict:
        asked = parameters.get("model") if asked is None else asked
        reading.user = reading.user or parameters.get("safety_identifier") or parameters.get("user")
    reading.model = asked or named
    if reading.kind is StepKind.CHAT:
        reading.name = reading.model
    reading.model_version = attributes.get("llm.response.model_name") or named


def _read_exchange(reading: Reading, attributes: Attributes) -> None:
    inputs = [_message(item) for item in unflatten(attributes, "llm.input_messages.")]
    if not inputs:
        inputs = [{"content": item.get("prompt.text")} for item in unflatten(attributes, "llm.prompts.")]
    outputs = [_message(item) for item in unflatten(attributes, "llm.output_messages.")]
    if not outputs:
        outputs = [{"content": item.get("completion.text")} for item in unflatten(attributes, "llm.choices.")]
    # What an agent was given may be any object of an application; a model's request is an API's.
    calls = reading.kind is StepKind.CHAT
    if not inputs and (calls or is_body(reading.input)):
        reading.asked = asked_of(reading.input)
    else:
        reading.asked = messages.asked(inputs or reading.input)
    if not outputs and (calls or is_body(reading.output)):
        reading.answered = answered_of(reading.output)
    else:
        reading.answered = messages.answered(outputs or reading.output)
    reading.input = reading.output = ""  # the exchange says it, without what else the request held


def _read_tool(reading: Reading, attributes: Attributes) -> None:
    reading.call_id = attributes.get("tool_call.id") or attributes.get("tool.id")
    arguments = attributes.get("tool_call.function.arguments") or attributes.get("tool.parameters")
    reading.input = reading.input or messages.text_of(arguments)
    reading.output, call_id = returned_of(reading.output)
    reading.call_id = reading.call_id or call_id
    if type(reading.name) is str and reading.name.lower().startswith(_HANDOFF):
        reading.kind = StepKind.HANDOFF


def _message(item: Attributes) -> dict[str, Any]:
    content = item.get("message.content")
    calls = tool_calls(item, "message.tool_calls.", "tool_call.", "function.")
    known = {plain(call["id"]) for call in calls}
    if content is None:
        content = []
        for part in unflatten(item, "message.contents."):
            if "tool_call.function.name" in part:
                if plain(part.get("tool_call.id")) not in known:
                    calls += tool_calls(
                        {f"0.{key}": value for key, value in part.items()}, "", "tool_call.", "function."
                    )
                continue
            if part.keys() == {"message_content.type"} and calls:
                continue  # the place of a call that stands beside the content
            content.append(
                {
                    "type": part.get("message_content.type"),
                    "text": part.get("message_content.text"),
                    "transcript": part.get("message_content.audio.transcript"),
                }
            )
    if name := item.get("message.function_call_name"):
        calls.append({"name": name, "arguments": item.get("message.function_call_arguments_json")})
    made = {"role": item.get("message.role"), "content": content, "tool_calls": calls}
    if call_id := item.get("message.tool_call_id"):
        made["tool_call_id"] = call_id
    return made


def _document(item: Attributes, document_keys: tuple[str, ...]) -> Document:
    fields = {key.removeprefix("document."): value for key, value in item.items()}
    return messages.document(fields, ("content", *document_keys))


def _first(attributes: Attributes, *keys: str) -> object:
    return next((attributes[key] for key in keys if key in attributes), None)
