"""Real emitters of spans: OpenAI's client, instrumented, against a server that answers like OpenAI's API.

    python tests/support/emitters.py EMITTER API COLLECTOR

runs the scenarios of one emitter in a process of its own, because an instrumentation patches the client for
good, and exports over OTLP/HTTP. `captured` does that and returns what arrived.
"""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from http_served import served

MODEL = "gpt-4o-mini"
ANSWERED_BY = "gpt-4o-mini-2024-07-18"
SYSTEM = "Answer only from the policy."
QUESTION = "Can I return shoes after 40 days?"
ANSWER = "No: shoes may be returned within 30 days."
SECOND = "Only within 30 days."
ARGUMENTS = '{"order":"991"}'
RESULT = "Order 991 left on 3 November."
TOOL = {
    "type": "function",
    "function": {
        "name": "get_order",
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
    },
}
CHAT = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_order", "arguments": ARGUMENTS}}
FOLLOW_UP: list[dict[str, Any]] = [
    {"role": "user", "content": "Where is order 991?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": RESULT},
]
EMITTERS = ("genai", "genai_events", "openinference", "openllmetry")
_USAGE = {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30}


class _Api(BaseHTTPRequestHandler):
    """Answers `POST /v1/chat/completions` with what the request asks for."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        if not asked.get("stream"):
            body = json.dumps(_completion(asked)).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for chunk in _chunks():
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    answers: list[dict[str, Any]]
    if asked["messages"][-1]["role"] == "tool":
        answers, reason = [{"content": RESULT}], "stop"
    elif asked.get("tools"):
        answers, reason = [{"content": None, "tool_calls": [CALL]}], "tool_calls"
    else:
        answers, reason = [{"content": ANSWER}, {"content": SECOND}][: asked.get("n", 1)], "stop"
    choices = [
        {"index": at, "message": {"role": "assistant", **answer}, "finish_reason": reason}
        for at, answer in enumerate(answers)
    ]
    return _head("chat.completion") | {"choices": choices, "usage": _USAGE}


def _chunks() -> Iterator[dict[str, Any]]:
    head = _head("chat.completion.chunk")
    for piece in (ANSWER[:10], ANSWER[10:]):
        yield head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}}]}
    yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield head | {"choices": [], "usage": _USAGE}


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-9", "object": kind, "created": 1_795_000_000, "model": ANSWERED_BY}


class _Collector(BaseHTTPRequestHandler):
    """Keeps the bodies of what is exported, as (path, protobuf)."""

    bodies: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append((self.path, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def captured(emitter: str) -> tuple[list[bytes], list[bytes]]:
    """Bodies of the trace requests and of the log requests that this emitter's scenarios export."""
    bodies: list[tuple[str, bytes]] = []
    keeper = type("Keeper", (_Collector,), {"bodies": bodies})
    with served(_Api) as api, served(keeper) as collector:
        subprocess.run(
            [sys.executable, __file__, emitter, api, collector],
            check=True,
            timeout=120,
            env=os.environ
            | {"OTEL_SERVICE_NAME": "support-bot", "OPENAI_API_KEY": "none"}
            | _SWITCHES[emitter],
        )
    return [b for path, b in bodies if path == "/v1/traces"], [b for path, b in bodies if path == "/v1/logs"]


_LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_SWITCHES: dict[str, dict[str, str]] = {
    "genai": _LATEST | {_CONTENT: "SPAN_ONLY"},
    "genai_events": _LATEST | {_CONTENT: "EVENT_ONLY"},
    "openinference": {},
    "openllmetry": {"TRACELOOP_TRACE_CONTENT": "true"},
}


def _run(emitter: str, api: str, collector: str) -> None:
    import openai
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"deployment.environment.name": "prod"})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector}/v1/traces")))
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{collector}/v1/logs")))
    _instrumentor(emitter).instrument(tracer_provider=spans, logger_provider=logs)

    chat: Any = openai.OpenAI(base_url=f"{api}/v1", max_retries=0).chat.completions
    with spans.get_tracer("app").start_as_current_span("chat turn"):
        chat.create(model=MODEL, messages=CHAT, n=2)
    for _ in chat.create(model=MODEL, messages=CHAT, stream=True, stream_options={"include_usage": True}):
        pass
    chat.create(model=MODEL, messages=FOLLOW_UP[:1], tools=[TOOL])
    chat.create(model=MODEL, messages=FOLLOW_UP, tools=[TOOL])
    spans.shutdown()
    logs.shutdown()


def _instrumentor(emitter: str) -> Any:
    if emitter == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference

        openinference: Any = OpenInference
        return openinference()
    if emitter == "openllmetry":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry

        return OpenLLMetry()
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as GenAI

    genai: Any = GenAI
    return genai()


if __name__ == "__main__":
    _run(*sys.argv[1:])
