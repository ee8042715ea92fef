"""The trace: one prompt/response exchange of an LLM application, as every stage sees it.

Field names follow the OpenTelemetry GenAI conventions where one exists (`ecosystem.md` section 1).
The structs are immutable and serialise to msgpack for the detector workers.
"""

from typing import NamedTuple, NewType

import msgspec

SafeText = NewType("SafeText", str)
"""Redacted text. Made only by `monitor.redact`; every sink (log, metric, span, alert, file) takes only it."""


class Origin(NamedTuple):
    """Where a trace came from: the `part`-th trace of one record. The key of every effect."""

    topic: str
    partition: int
    offset: int
    part: int


class Record(NamedTuple):
    """One raw record of a source, before decoding. `time` is the source's timestamp, Unix seconds."""

    topic: str
    partition: int
    offset: int
    time: float
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message of the prompt: role is system, user, assistant or tool."""

    role: str = "user"
    content: str = ""


class Document(msgspec.Struct, frozen=True, gc=False):
    """One retrieved passage the model was shown. `score` is the retriever's, in its own unit."""

    id: str = ""
    content: str = ""
    score: float | None = None


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """One tool call of the exchange, with what came back. `error` is true when the tool reported one."""

    name: str = ""
    arguments: str = ""
    result: str = ""
    id: str = ""
    error: bool = False


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts as the provider billed them."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class Trace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One exchange to judge.

    `id` is the response id, else trace:span, else a content hash. `time` is Unix seconds; `latency` seconds.
    `user` is a keyed pseudonym, never the raw id. Identifiers (`id`, `app`, `environment`, `model`, …) were
    cleaned on entry and may be logged; `messages`, `response`, `context`, `tool_calls`, `alternatives` and
    `labels` hold what people wrote and may not.
    """

    id: str
    time: float
    response: str
    app: str = "unknown"
    environment: str = "unknown"
    provider: str = "unknown"
    model: str = "unknown"
    model_version: str = ""
    prompt_name: str = ""
    prompt_version: str = ""
    conversation: str = ""
    user: str = ""
    trace_id: str = ""
    span_id: str = ""
    finish_reason: str = ""
    messages: tuple[Message, ...] = ()
    context: tuple[Document, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    alternatives: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    usage: Usage | None = None
    latency: float | None = None
    labels: dict[str, str] = {}

    def prompt(self) -> str:
        """Return what the model was asked: user, system and tool messages joined by a newline."""
        return "\n".join(m.content for m in self.messages if m.role != "assistant")

    def question(self) -> str:
        """Return the last user message, or an empty string."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")
