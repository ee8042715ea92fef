"""The trace: one prompt/response exchange of an LLM application, as every stage sees it.

Field names follow the OpenTelemetry GenAI conventions where one exists.
The structs are immutable and serialise to msgpack for the detector workers.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple, NewType

import msgspec

SafeText = NewType("SafeText", str)
"""Redacted text. Only `privacy.redact` makes it; each sink (log, metric, span, alert, file) takes only it."""


class Origin(NamedTuple):
    """Origin of a trace: the `part`-th trace of one record. The key of every effect.

    `incarnation` counts how often the partition's log turned out to be another one than was read before:
    its topic was made anew, or its end was cut off. Records of two incarnations have nothing in common.
    """

    topic: str
    partition: int
    offset: int
    part: int
    incarnation: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The fields as text, for ids. A first incarnation is left out: ids are older than that field."""
        return tuple(map(str, self if self.incarnation else self[:4]))


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
    """One tool call of the exchange, with its result. `error` is true when the tool reported one."""

    name: str = ""
    arguments: str = ""
    result: str = ""
    id: str = ""
    error: bool = False


class StepKind(StrEnum):
    """Kind of a step of a run, after the operation names of the OpenTelemetry GenAI conventions."""

    AGENT = "agent"  # invoke_agent, create_agent
    WORKFLOW = "workflow"
    CHAT = "chat"  # an inference: chat, text_completion, generate_content
    TOOL = "tool"
    RETRIEVAL = "retrieval"
    HANDOFF = "handoff"
    GUARDRAIL = "guardrail"  # a check or an approval by a person
    OTHER = "other"  # embeddings, and spans outside the GenAI conventions


RETURNS = frozenset({StepKind.TOOL, StepKind.RETRIEVAL})
"""Kinds of steps whose output comes from outside the model: calls."""


RUNS = frozenset({StepKind.AGENT, StepKind.WORKFLOW, StepKind.TOOL, StepKind.HANDOFF})
"""Kinds of steps of which any one makes the steps of a trace an agent's run."""


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of an agent's run, in order of start. The steps of a trace form a forest.

    `parent` is the index of the step it ran under, -1 for none. `name` is the agent's, tool's, data source's
    or model's, and `error` the type of error it ended with (empty: none); both were cleaned and may be
    logged. `input` and `output` are a tool's arguments and result, a query, or a message: text that may not.
    `start` is Unix seconds, `seconds` its duration, `cost` in the currency that the sender used.
    """

    kind: StepKind
    name: str = ""
    id: str = ""
    parent: int = -1
    start: float = 0.0
    seconds: float = 0.0
    error: str = ""
    input: str = ""
    output: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts as the provider billed them."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class Missing(StrEnum):
    """Part of a trace that did not arrive."""

    INFERENCE = "inference"  # no call of a model among its spans
    ROOT = "root"
    PARENT = "parent"  # a span that another one names as its parent
    SPAN = "span"  # only log records of it
    CONTENT = "content"  # text of the prompt, the response, documents or tool results: see `Trace.unread`
    EARLIER_SPANS = "earlier_spans"  # it came after the rest of its trace had been judged
    LATER_SPANS = "later_spans"  # its trace has more spans than are judged together


class Side(StrEnum):
    """Part of a trace whose text has one origin."""

    PROMPT = "prompt"
    RESPONSE = "response"
    DOCUMENTS = "documents"
    TOOL_RESULTS = "tool_results"


class Unreadable(StrEnum):
    """Why text that was there could not be read."""

    NO_CONTENT = "no_content"  # the sender does not capture it, or keeps it elsewhere
    REDACTED = "redacted"  # a marker stands in its place
    FOREIGN = "foreign"  # under names that no dialect reads
    TRUNCATED = "truncated"  # cut off by the sender; what is left was read
    LEFT_OUT = "left_out"  # more sources than one call is given; another exchange of the trace was given it
    TOO_MUCH = "too_much"  # more sources than one call is given; no exchange was given it


PARTLY: Final = frozenset({Unreadable.TRUNCATED, Unreadable.LEFT_OUT})
"""Reasons with which a side was read, save what is known to be elsewhere or lost for good."""


class Unread(NamedTuple):
    """A side of a trace on which a text was not read, or with one of `PARTLY` not all of it."""

    side: Side
    reason: Unreadable


class Traffic(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Fields that identify traffic: carried whole from a trace to its flags, alerts, verdict and page.

    Cleaned on entry, so it may be logged. Empty where the sender did not say.
    """

    app: str = "unknown"
    environment: str = "unknown"
    provider: str = "unknown"
    model: str = "unknown"
    model_version: str = ""
    prompt_name: str = ""
    prompt_version: str = ""

    def identity(self) -> dict[str, Any]:
        """Return these fields, all text, by name, also of a struct that holds more."""
        return {name: getattr(self, name) for name in TRAFFIC}


TRAFFIC: Final = Traffic.__struct_fields__
"""Names of the fields, which are also those of columns, labels and keys."""


class Trace(Traffic, frozen=True, kw_only=True, gc=False):
    """One exchange to judge.

    `id` is the response id, else trace:span, else a content hash. `time` is when it began, in Unix seconds,
    and `ended` when the last span of its trace did, if it was assembled; `latency` is seconds.
    `user` is a keyed pseudonym, never the raw id. Identifiers (`id`, `app`, `environment`, `model`, …) were
    cleaned on entry and may be logged; `messages`, `response`, `context`, `tool_calls`, `alternatives`,
    `steps` and `labels` hold what people wrote and may not.

    `agent` names the agent whose run ends with this exchange, and `steps` are that run's. `missing` names,
    from the bounded set `Missing`, what was known to exist of the trace and did not arrive. `unread` names
    the sides whose text is known to have existed and was not read, each once. `error` is the type of error
    that the exchange ended with, `emitter` the instrumentation or gateway that reported it where it is known,
    both cleaned. `revision` counts how often the exchange had been judged before without a text that came too
    late for it.
    """

    id: str
    time: float
    response: str
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
    ended: float | None = None
    agent: str = ""
    steps: tuple[Step, ...] = ()
    missing: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()
    error: str = ""
    emitter: str = ""
    revision: int = 0
    labels: dict[str, str] = {}

    def chars(self) -> int:
        """Return the number of characters that detectors may read; in time proportional to its parts."""
        return (
            len(self.response)
            + sum([len(message.content) for message in self.messages])
            + sum([len(document.content) for document in self.context])
            + sum([len(call.arguments) + len(call.result) for call in self.tool_calls])
            + sum([len(step.input) + len(step.output) for step in self.steps])
            + sum(map(len, self.alternatives))
        )

    def complete(self) -> float:
        """Return when the trace was complete, Unix seconds."""
        end = self.time + (self.latency or 0.0)
        return end if self.ended is None else max(end, self.ended)

    def blind(self) -> tuple[Unread, ...]:
        """Return the sides on which a text was there that no detector saw; without any, all could be read."""
        return tuple(each for each in self.unread if each.reason not in PARTLY)

    def may_be_revised(self) -> bool:
        """Return whether it was assembled, and a text of it may come late: a side has none, or not all."""
        answered = self.response or self.alternatives or self.tool_calls
        whole = answered and not self.unread and any(message.content for message in self.messages)
        return bool(self.span_id) and not whole

    def prompt(self) -> str:
        """Return the prompt: user, system and tool messages joined by a newline."""
        return "\n".join(m.content for m in self.messages if m.role != "assistant")

    def question(self) -> str:
        """Return the last user message, or an empty string."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.content
        return ""

    def shown(self) -> Iterator[tuple[str, str]]:
        """Yield path and text of each source the model was shown: documents, results of tools and searches.

        Outputs of the run's steps count too, unless they are among the documents and tool calls.
        """
        for n, document in enumerate(self.context):
            yield f"context.{n}", document.content
        for n, call in enumerate(self.tool_calls):
            yield f"tool_calls.{n}.result", call.result
        if self.steps:
            held = {call.result for call in self.tool_calls} | {d.content for d in self.context}
            for n, step in enumerate(self.steps):
                if step.kind in RETURNS and step.output not in held:
                    yield f"steps.{n}.output", step.output

    def written(self) -> Iterator[tuple[str, str]]:
        """Yield path and text of everything else: arguments of tool calls, requests and messages of steps."""
        for n, call in enumerate(self.tool_calls):
            yield f"tool_calls.{n}.arguments", call.arguments
        for n, step in enumerate(self.steps):
            yield f"steps.{n}.input", step.input
            if step.kind not in RETURNS:
                yield f"steps.{n}.output", step.output


class Span(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One span of a distributed trace, or a log record about one: a piece that is assembled with others.

    `app` and `environment` are those of its resource, cleaned; `conversation` and `user` (a pseudonym) are
    its own, and those of the spans below it that name none. `exchange` is the prompt and response that an
    inference or agent span holds. `documents` are a retrieval's, `call` a tool's. `partial` marks what a log
    record adds to a span of the same `span_id`: its messages come before or after those of others by
    `step.start`, its response counts where the span has none; `log_only` says that no such span is ever sent.
    `unread` are the sides of a retrieval or tool whose text was not read; an exchange names its own.
    `foreign` names the instrumentation of a span that looks like a model's call and that no dialect reads.
    Ids are lower-case hexadecimal, `parent_id` is empty for a root; `end` is Unix seconds; `size` is about
    how many bytes it takes to keep.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    step: Step
    app: str = "unknown"
    environment: str = "unknown"
    conversation: str = ""
    user: str = ""
    end: float = 0.0
    exchange: Trace | None = None
    documents: tuple[Document, ...] = ()
    call: ToolCall | None = None
    partial: bool = False
    log_only: bool = False
    unread: tuple[Unread, ...] = ()
    foreign: str = ""
    size: int = 0
