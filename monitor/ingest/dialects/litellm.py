"""LiteLLM's OpenTelemetry callback: operations by the names of its functions, users and keys of its proxy.

Source: `litellm` 1.110 `integrations/opentelemetry.py`. Texts are in GenAI's attributes, calls of tools also
flattened as OpenLLMetry does.
"""

from typing import Final

from monitor.ingest.fields import plain
from monitor.ingest.spans import Reading
from monitor.ingest.wire import Attributes, WireSpan
from monitor.trace import StepKind

NAME: Final = "LiteLLM's OpenTelemetry callback"
CONTENT_ON: Final = (
    "remove turn_off_message_logging, and set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true"
)
MARKS: Final = frozenset({
    "litellm.call_id", "llm.is_streaming", "llm.user", "metadata.user_api_key_hash",
    "metadata.user_api_key_alias",
})  # fmt: skip
RAW: Final = "raw_gen_ai_request"
"""Name of the span that repeats the body of a request, which the span around it tells of."""
_CALLS: Final = frozenset({
    "completion", "text_completion", "chat", "responses", "anthropic_messages", "generate_content",
    "generate_content_stream", "llm_passthrough_route", "pass_through_endpoint", "realtime",
})  # fmt: skip
_KEY: Final = "metadata.user_api_key_"
_USER: Final = ("llm.user", f"{_KEY}end_user_id", f"{_KEY}user_id")
_LABELS: Final = {
    f"{_KEY}alias": "key", f"{_KEY}team_alias": "team", f"{_KEY}org_id": "organization",
    "metadata.requester_ip_address": "",
}  # fmt: skip


def read(span: WireSpan, _document_keys: tuple[str, ...]) -> Reading:
    """Read what this dialect adds to GenAI's attributes of a span."""
    attributes = span.attributes
    get = attributes.get
    call = plain(get("gen_ai.operation.name")) or plain(get("llm.request.type"))
    # Asynchronous functions have an "a" before the name.
    known = call in _CALLS or call.removeprefix("a") in _CALLS
    operates = bool(call) and "gen_ai.request.model" in attributes
    return Reading(
        kind=(StepKind.CHAT if known else StepKind.OTHER) if operates else None,
        user=next((get(key) for key in _USER if get(key)), None),
        labels=_labels(attributes),
    )


def _labels(attributes: Attributes) -> dict[str, str]:
    return {name: text for key, name in _LABELS.items() if name and (text := plain(attributes.get(key)))}
