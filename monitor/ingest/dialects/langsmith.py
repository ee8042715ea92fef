"""LangSmith's export to OpenTelemetry: runs of LangChain, LangGraph and wrapped clients as spans.

Source: PyPI `langsmith` 0.15.1 `_internal/otel/_otel_exporter.py`, recorded with langchain-core 1.8.3.
`gen_ai.prompt` and `gen_ai.completion` are the run's inputs and outputs, LangChain's JSON for the most part.
"""

from typing import Any, Final

from monitor.ingest.dialects import langchain, messages
from monitor.ingest.dialects.metadata import read_metadata, under
from monitor.ingest.dialects.payloads import answered_of, asked_of, documents_of, question_of, returned_of
from monitor.ingest.dialects.values import opened
from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.wire import WireSpan
from monitor.trace import StepKind

NAME: Final = "LangSmith's OpenTelemetry export"
CONTENT_ON: Final = "unset LANGSMITH_HIDE_INPUTS and LANGSMITH_HIDE_OUTPUTS; on by default"
_KIND = "langsmith.span.kind"
_INPUT, _OUTPUT = "gen_ai.prompt", "gen_ai.completion"
_METADATA = "langsmith.metadata."
MARKS: Final = frozenset({_KIND})
KINDS: Final = {
    "llm": StepKind.CHAT,
    "chain": StepKind.WORKFLOW,
    "agent": StepKind.AGENT,
    "tool": StepKind.TOOL,
    "retriever": StepKind.RETRIEVAL,
}
_OWN = (
    "ls_", "lc_", "_", "LANGSMITH_", "LANGCHAIN_", "usage_metadata", "invocation_params", "revision_id",
    "model", "stream", "temperature", "max_tokens",
)  # fmt: skip
"""Beginnings of metadata that the SDK adds: labels are the application's."""


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span, and take its inputs and outputs away: GenAI's reader would take the JSON for the text.

    Prompts, parsers and embeddings are no steps: what they hold is said again by the model's call.
    """
    attributes = span.attributes
    get = attributes.get
    sent, made = get(_INPUT), get(_OUTPUT)
    span.attributes = {key: v for key, v in attributes.items() if key not in {_INPUT, _OUTPUT}}
    metadata = under(attributes, _METADATA)
    kind = KINDS.get(plain(get(_KIND)).lower(), StepKind.OTHER)
    reading = Reading(kind=kind, name=get("langsmith.trace.name") or span.name)
    if kind is StepKind.TOOL:
        _read_tool(reading, sent, made)
    elif kind is StepKind.RETRIEVAL:
        reading.input, reading.documents = question_of(sent), documents_of(made, document_keys)
    elif kind is not StepKind.OTHER:
        reading.asked, reading.answered = asked_of(sent), answered_of(made)
        if kind is StepKind.CHAT:
            reading.name = get("gen_ai.request.model") or metadata.get("ls_model_name")
            reading.model = reading.name
            reading.provider = metadata.get("ls_provider")
            reading.model_version = get("gen_ai.response.model") or _answering_model(made)
        elif kind is StepKind.AGENT:
            reading.agent = reading.name
    read_metadata(reading, {key: v for key, v in metadata.items() if not key.startswith(_OWN)})
    reading.conversation = reading.conversation or get("langsmith.trace.session_id")
    return reading


def _read_tool(reading: Reading, sent: Any, made: Any) -> None:
    """Read a tool's run: its arguments, and a result that may be a message of LangChain."""
    arguments = opened(sent)[0]
    if type(arguments) is dict and arguments.keys() == {"input"}:
        arguments = arguments["input"]
    reading.input = messages.text_of(arguments)
    reading.output, reading.call_id = returned_of(made)


def _answering_model(made: Any) -> str | None:
    """Return the model that answered, which LangChain keeps with the message."""
    read = langchain.plain(opened(made)[0])
    generations = read.get("generations") if type(read) is dict else None
    while type(generations) is list and generations:
        generations = generations[0]
    message = generations.get("message") if type(generations) is dict else None
    said = message.get("response_metadata") if type(message) is dict else None
    return plain(said.get("model_name") or said.get("model")) or None if type(said) is dict else None
