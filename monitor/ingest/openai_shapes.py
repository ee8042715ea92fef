"""Shapes of requests and responses that gateways speak, whatever model is behind them.

Chat completions, the older text completions and the Responses API are OpenAI's, as its client defines them
(PyPI `openai` 3.57: `types/chat`, `types/completion.py`, `types/responses`). Anthropic's messages are those
that LiteLLM passes on (docs.anthropic.com, "Messages"). Unknown keys are ignored.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from monitor.trace import Usage

FAILED = "error"
"""Finish reason of an exchange that ended with an error."""
_Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class TokenLogprob(msgspec.Struct, gc=False):
    """A token of the response with the natural log of its probability."""

    logprob: float = 0.0


class Logprobs(msgspec.Struct, gc=False):
    """Log probabilities of chat completions, and (`token_logprobs`) of text completions."""

    content: tuple[TokenLogprob, ...] | None = None
    token_logprobs: tuple[float | None, ...] | None = None


class ContentPart(msgspec.Struct, gc=False):
    """A part of a message. Anthropic's `tool_use` has a name and input, its `tool_result` content."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    content: "str | tuple[ContentPart | str, ...] | None" = None


class Function(msgspec.Struct, gc=False):
    """The function of a tool call; `input` is a custom tool's."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    input: str | None = None


class WireCall(msgspec.Struct, gc=False):
    """A tool call. A stream's pieces of one share their `index`."""

    id: str | None = None
    function: Function | None = None
    custom: Function | None = None
    index: int | None = None


class Turn(msgspec.Struct, gc=False):
    """A message of the prompt, or another input item of the Responses API."""

    type: str | None = None
    role: str | None = None
    content: str | tuple[ContentPart | str, ...] | None = None
    refusal: str | None = None
    output: Any = None


class Template(msgspec.Struct, gc=False):
    """A stored prompt that the Responses API filled in."""

    id: str | None = None
    version: str | None = None


class Thread(msgspec.Struct, gc=False):
    """A stored conversation."""

    id: str | None = None


class Request(msgspec.Struct, gc=False):
    """The fields read from a request's body."""

    model: str | None = None
    messages: str | tuple[Turn, ...] | None = None
    input: str | tuple[Turn | str, ...] | None = None
    instructions: str | tuple[Turn, ...] | None = None
    system: str | tuple[ContentPart | str, ...] | None = None
    prompt: str | list[Any] | Template | None = None
    conversation: str | Thread | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None


class Reply(msgspec.Struct, gc=False):
    """A message of the response, or a streamed piece of one."""

    content: str | tuple[ContentPart | str, ...] | None = None
    refusal: str | None = None
    tool_calls: tuple[WireCall, ...] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the samples; a stream's chunk has a `delta`, a text completion `text`."""

    index: int = 0
    message: Reply | None = None
    delta: Reply | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class FileSearchResult(msgspec.Struct, gc=False):
    """A passage that the provider's file search or a vector store returned."""

    file_id: str | None = None
    filename: str | None = None
    score: float | None = None
    text: str | None = None
    content: str | tuple[ContentPart | str, ...] | None = None


class Item(msgspec.Struct, gc=False):
    """An output item of the Responses API."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: Any = None
    error: Any = None
    content: str | tuple[ContentPart | str, ...] | None = None
    results: tuple[FileSearchResult, ...] | None = None


class TokenUsage(msgspec.Struct, gc=False):
    """Usage under the names of chat completions and of the Responses API."""

    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None

    def usage(self) -> Usage | None:
        """Return the counts that are set."""
        pairs = [self.prompt_tokens, self.input_tokens], [self.completion_tokens, self.output_tokens]
        counts = [next((n for n in pair if n is not None), None) for pair in pairs]
        return None if counts == [None, None] else Usage(*counts)


class Failure(msgspec.Struct, gc=False):
    """An error's kind; its message may quote the prompt and is not read."""

    type: str | None = None
    code: str | int | None = None

    def kind(self) -> str:
        """Return the type, else the code."""
        return self.type or str(self.code or FAILED)


class IncompleteReason(msgspec.Struct, gc=False):
    """The reason that a response is incomplete."""

    reason: str | None = None


class Body(msgspec.Struct, gc=False):
    """The fields read from a response's body, or from a chunk of a streamed chat completion."""

    id: str | None = None
    created: float | None = None
    created_at: float | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    choices: tuple[Choice, ...] | None = None
    output: tuple[Item, ...] | None = None
    content: tuple[ContentPart, ...] | None = None
    usage: TokenUsage | None = None
    status: str | None = None
    stop_reason: str | None = None
    incomplete_details: IncompleteReason | None = None
    error: str | Failure | None = None


class StreamEvent(msgspec.Struct, gc=False):
    """The fields read from an event of a streamed response of the Responses API."""

    type: str
    response: Body | None = None
    item: Item | None = None
    output_index: int = 0
    content_index: int = 0
    delta: Any = None
    code: str | None = None
