"""Fields read from bodies of requests and responses, of every API: a body is recognised by those it has.

Parts of messages are read by `parts`, whatever their shape, so they are `Any` here. Unknown keys are ignored.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from monitor.ingest.texts import FAILED
from monitor.trace import Usage

_Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class Template(msgspec.Struct, gc=False):
    """A stored prompt that the Responses API filled in."""

    id: str | None = None
    version: str | None = None
    variables: dict[str, Any] | None = None


class Thread(msgspec.Struct, gc=False):
    """A stored conversation."""

    id: str | None = None


class Request(msgspec.Struct, gc=False):
    """A request: chat and text completions, Responses, Anthropic, Gemini, Converse, Cohere, Ollama."""

    model: str | None = None
    messages: Any = None
    input: Any = None
    instructions: Any = None
    system: Any = None
    prompt: str | list[Any] | Template | None = None
    conversation: str | Thread | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None
    contents: Any = None
    system_instruction: Any = msgspec.field(name="systemInstruction", default=None)
    system_instruction_: Any = msgspec.field(name="system_instruction", default=None)
    documents: Any = None
    preamble: Any = None
    chat_history: Any = None
    message: Any = None
    inputs: Any = None
    input_text: Any = msgspec.field(name="inputText", default=None)
    model_id: str | None = msgspec.field(name="modelId", default=None)


class TokenLogprob(msgspec.Struct, gc=False):
    """A token of the response with the natural log of its probability."""

    logprob: float | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Log probabilities of chat completions, and (`token_logprobs`) of text completions."""

    content: tuple[TokenLogprob, ...] | None = None
    token_logprobs: tuple[float | None, ...] | None = None


class Reply(msgspec.Struct, gc=False):
    """A message of a chat completion. `context` is what Azure's search found for it."""

    content: Any = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    reasoning_content: str | None = None
    reasoning: Any = None
    context: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of the samples; a stream's chunk has a `delta`, a text completion `text`."""

    index: int = 0
    message: Reply | None = None
    delta: Reply | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class TokenDetails(msgspec.Struct, gc=False):
    """Kinds of the tokens of a response."""

    reasoning_tokens: _Tokens | None = None


class CohereTokens(msgspec.Struct, gc=False):
    """Usage as Cohere nests it."""

    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None


class TokenUsage(msgspec.Struct, gc=False):
    """Usage under the names of every API."""

    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    input_tokens_: _Tokens | None = msgspec.field(name="inputTokens", default=None)
    output_tokens_: _Tokens | None = msgspec.field(name="outputTokens", default=None)
    tokens: CohereTokens | None = None
    completion_tokens_details: TokenDetails | None = None
    output_tokens_details: TokenDetails | None = None

    def usage(self) -> Usage | None:
        """Return the counts that are set."""
        nested = self.tokens or CohereTokens()
        return _usage(
            (self.prompt_tokens, self.input_tokens, self.input_tokens_, nested.input_tokens),
            (self.completion_tokens, self.output_tokens, self.output_tokens_, nested.output_tokens),
        )

    def reasoned(self) -> bool:
        """Return whether the model reasoned: its tokens need not have become a text."""
        details = (self.completion_tokens_details, self.output_tokens_details)
        return any(each is not None and each.reasoning_tokens for each in details)


class GeminiUsage(msgspec.Struct, gc=False):
    """Usage of Gemini."""

    prompt: _Tokens | None = msgspec.field(name="promptTokenCount", default=None)
    candidates: _Tokens | None = msgspec.field(name="candidatesTokenCount", default=None)

    def usage(self) -> Usage | None:
        """Return the counts that are set."""
        return _usage((self.prompt,), (self.candidates,))


class Failure(msgspec.Struct, gc=False):
    """An error's kind; its message may quote the prompt and is not read."""

    type: str | None = None
    code: str | int | None = None
    status: str | int | None = None

    def kind(self) -> str:
        """Return the type, else the status (Gemini's name of it), else the code."""
        named = self.type if self.type != FAILED else None
        return named or str(self.status or self.code or FAILED)


class IncompleteReason(msgspec.Struct, gc=False):
    """The reason that a response is incomplete."""

    reason: str | None = None


class Body(msgspec.Struct, gc=False):
    """A response's body, of any API, or what a stream's pieces were joined to."""

    id: str | None = None
    created: float | str | None = None
    created_at: float | str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    usage: TokenUsage | None = None
    error: str | Failure | None = None
    choices: tuple[Choice, ...] | None = None
    # The Responses API; Converse has an `output` too.
    output: Any = None
    status: str | None = None
    incomplete_details: IncompleteReason | None = None
    # Anthropic
    content: Any = None
    stop_reason: str | None = None
    # Gemini
    candidates: Any = None
    prompt_feedback: Any = msgspec.field(name="promptFeedback", default=None)
    usage_metadata: GeminiUsage | None = msgspec.field(name="usageMetadata", default=None)
    model_version: str | None = msgspec.field(name="modelVersion", default=None)
    response_id: str | None = msgspec.field(name="responseId", default=None)
    # Converse
    stop_reason_: str | None = msgspec.field(name="stopReason", default=None)
    # Cohere, Ollama
    message: Any = None
    finish_reason: str | None = None
    done_reason: str | None = None
    prompt_eval_count: _Tokens | None = None
    eval_count: _Tokens | None = None
    documents: Any = None
    tool_calls: Any = None
    # Texts alone, of many servers
    text: Any = None
    response: Any = None
    completion: Any = None
    generation: Any = None
    generated_text: Any = None
    output_text: Any = msgspec.field(name="outputText", default=None)
    generations: Any = None
    outputs: Any = None
    results: Any = None


def _usage(asked: tuple[int | None, ...], answered: tuple[int | None, ...]) -> Usage | None:
    counts = [next((n for n in side if n is not None), None) for side in (asked, answered)]
    return None if counts == [None, None] else Usage(*counts)
