"""MLflow Tracing: attributes in JSON, the inputs and outputs of its integrations as they are.

Source: PyPI `mlflow-tracing` 3.17.2 (`tracing/constant.py`, `entities/span.py`). Its export in GenAI's names
(`MLFLOW_ENABLE_OTEL_GENAI_SEMCONV`) has none of these attributes.
"""

from typing import Any, Final

from monitor.ingest.dialects import messages
from monitor.ingest.dialects.metadata import read_metadata, under, unquoted
from monitor.ingest.dialects.payloads import (
    answered_of,
    asked_of,
    documents_of,
    model_of,
    question_of,
    returned_of,
    tokens_of,
)
from monitor.ingest.dialects.values import opened
from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import StepKind

NAME: Final = "MLflow Tracing"
CONTENT_ON: Final = (
    "remove span processors (mlflow.tracing.configure) that clear inputs or outputs; on by default"
)
_TYPE = "mlflow.spanType"
_INPUT, _OUTPUT = "mlflow.spanInputs", "mlflow.spanOutputs"
_MESSAGES = "mlflow.chat.messages"
MARKS: Final = frozenset({_TYPE, _INPUT, _OUTPUT, _MESSAGES, "mlflow.chat.tokenUsage"})
KINDS: Final = {
    "CHAT_MODEL": StepKind.CHAT,
    "LLM": StepKind.CHAT,
    "AGENT": StepKind.AGENT,
    "CHAIN": StepKind.WORKFLOW,
    "WORKFLOW": StepKind.WORKFLOW,
    "TASK": StepKind.WORKFLOW,
    "TOOL": StepKind.TOOL,
    "RETRIEVER": StepKind.RETRIEVAL,
    "RERANKER": StepKind.RETRIEVAL,
    "GUARDRAIL": StepKind.GUARDRAIL,
    "EMBEDDING": StepKind.OTHER,
    "PARSER": StepKind.OTHER,
    "EVALUATOR": StepKind.OTHER,
    "MEMORY": StepKind.OTHER,
}
_USER = ("mlflow.trace.user", "user.id", "mlflow.user")
_CONVERSATION = ("mlflow.trace.session", "session.id")


def read(span: WireSpan, document_keys: tuple[str, ...]) -> Reading:
    """Read a span."""
    attributes = span.attributes
    get = attributes.get
    sent, made = unquoted(get(_INPUT)), unquoted(get(_OUTPUT))
    kind = KINDS.get(plain(unquoted(get(_TYPE))).upper())
    if kind is None and (sent or made) and "gen_ai.operation.name" not in attributes:
        kind = StepKind.WORKFLOW  # a function that was traced and says no more
    tokens = tokens_of(get("mlflow.chat.tokenUsage"))
    cost = opened(get("mlflow.llm.cost"))[0]
    reading = Reading(
        kind=kind,
        name=span.name,
        user=_first(attributes, _USER),
        conversation=_first(attributes, _CONVERSATION),
        error=span.exception_type(),
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cost=cost.get("total_cost") if type(cost) is dict else None,
    )
    if kind is StepKind.TOOL:
        reading.input = messages.text_of(sent)
        reading.output, reading.call_id = returned_of(made)
    elif kind is StepKind.RETRIEVAL:
        reading.input, reading.documents = question_of(sent), documents_of(made, document_keys)
    elif kind in {StepKind.CHAT, StepKind.AGENT, StepKind.WORKFLOW}:
        _read_exchange(reading, attributes, sent, made)
    read_metadata(reading, under(attributes, "mlflow.traceTag."))
    return reading


def _read_exchange(reading: Reading, attributes: Attributes, sent: Any, made: Any) -> None:
    reading.asked, reading.answered = asked_of(sent), answered_of(made)
    if reading.kind is StepKind.CHAT:
        named = unquoted(attributes.get("mlflow.llm.model"))  # the one that answered, where that is known
        reading.model = reading.name = model_of(sent) or named
        reading.model_version = model_of(made) or named
        reading.provider = unquoted(attributes.get("mlflow.llm.provider"))
        if reading.input_tokens is None and reading.output_tokens is None:
            reading.input_tokens, reading.output_tokens = tokens_of(made)
    elif reading.kind is StepKind.AGENT:
        reading.agent = reading.name
    talk = opened(attributes.get(_MESSAGES))[0]  # of older versions: the prompt and, at its end, the answer
    if type(talk) is list and reading.asked is NOTHING_ASKED and reading.answered is NOTHING_ANSWERED:
        ends = bool(talk) and type(talk[-1]) is dict and talk[-1].get("role") == "assistant"
        reading.asked = asked_of(talk[:-1] if ends else talk)
        reading.answered = answered_of(talk[-1:]) if ends else NOTHING_ANSWERED


def _first(attributes: Attributes, names: tuple[str, ...]) -> Any:
    return next((unquoted(attributes[name]) for name in names if attributes.get(name)), None)
