"""How to switch on that texts are sent, for emitters that only the name of their scope tells apart.

A dialect says it in its `CONTENT_ON`; these write GenAI's attributes and have switches of their own.
"""

from collections.abc import Mapping
from typing import Final

CONTENT_ON: Final[Mapping[str, str]] = {
    "kong": "set logging.log_payloads of the plugin ai-proxy to true",
    "litellm": "remove turn_off_message_logging, and redaction in callbacks",
    "openai": "record the bodies with the texts of their messages",
    "native": "send `messages` and `response` with their texts",
    "agento11y": "set content capture of the SDK to full",
    "github.com/grafana/sigil": (
        "the SDK sends texts only to its own endpoint: read them there, in format agento11y "
        "(POST /api/v1/generations:export); or export generations as spans (AGENTO11Y_USE_EXPERIMENTAL_OTEL)"
    ),
    "com.anthropic.sdk": "the SDK's own spans never hold texts: add an instrumentation of the SDK that does",
    "com.anthropic.claude-platform": "the platform's spans never hold texts: instrument the client",
    "strands.telemetry": "its spans hold texts as events: keep the events (no Collector may drop them)",
    "agent_framework": "set ENABLE_SENSITIVE_DATA=true",
    "semantic_kernel": "set SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE=true",
    "Microsoft.SemanticKernel": (
        "set SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE=true"
    ),
    "Experimental.Microsoft.Extensions.AI": "call UseOpenTelemetry with EnableSensitiveData = true",
    "autogen": "its spans never hold texts: add an instrumentation of the model's client",
    "gemini-cli": "set GEMINI_TELEMETRY_LOG_PROMPTS=true (telemetry.logPrompts) and telemetry.traces",
    "vllm": "vLLM's own spans never hold texts: instrument the client or the gateway",
    "azure.ai": "set AZURE_TRACING_GEN_AI_CONTENT_RECORDING_ENABLED=true",
    "opentelemetry.instrumentation.": (
        "set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY (older versions: true) and "
        "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental; "
        "for OpenLLMetry's, TRACELOOP_TRACE_CONTENT=true"
    ),
    "@traceloop/": "set TRACELOOP_TRACE_CONTENT=true, the default",
    "opentelemetry.instrumentation.mcp": "set TRACELOOP_TRACE_CONTENT=true, the default",
}
"""Sentences by the beginning of a scope's name."""


def content_on(scope: str) -> str:
    """Return how to switch on texts for the emitter of a scope, by its longest beginning; or nothing."""
    known = [beginning for beginning in CONTENT_ON if scope.startswith(beginning)]
    return CONTENT_ON[max(known, key=len)] if known else ""
