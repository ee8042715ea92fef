"""Cloudflare's AI Gateway, and others that write `gen_ai.prompt_json` and `gen_ai.completion_json`.

Source: Cloudflare's documentation `ai-gateway/observability/otel-integration`, 2026-11; Langfuse documents
the two names for any sender. Other attributes are GenAI's.
"""

from typing import Final

from monitor.ingest.dialects.payloads import answered_of, asked_of, error_of, model_of
from monitor.ingest.fields import CONVERSATION, USER
from monitor.ingest.spans import Reading
from monitor.ingest.wire import WireSpan
from monitor.trace import StepKind

NAME: Final = "Cloudflare AI Gateway"
CONTENT_ON: Final = "its OpenTelemetry exporter sends prompts and completions by default"
_INPUT, _OUTPUT = "gen_ai.prompt_json", "gen_ai.completion_json"
_PROVIDER = "gen_ai.model.provider"
MARKS: Final = frozenset({_INPUT, _OUTPUT, _PROVIDER})


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading:
    """Read what this dialect adds to GenAI's attributes; the gateway's custom metadata have no prefix."""
    get = span.attributes.get
    sent, made = get(_INPUT), get(_OUTPUT)
    known = "gen_ai.operation.name" in span.attributes
    return Reading(
        kind=None if known else StepKind.CHAT,
        name=get("gen_ai.request.model") or model_of(sent) or None,
        provider=get(_PROVIDER),
        model=get("gen_ai.request.model") or model_of(sent) or None,
        model_version=model_of(made) or None,
        error=error_of(made) or None,
        user=next((get(name) for name in USER if get(name)), None),
        conversation=next((get(name) for name in CONVERSATION if get(name)), None),
        asked=asked_of(sent),
        answered=answered_of(made),
    )
