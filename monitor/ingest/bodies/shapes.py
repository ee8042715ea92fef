"""Fields read from bodies of requests and responses, of every API: a body is recognised by those it has.

Parts of messages are read by `parts`, whatever their shape, so they are `Any` here. Unknown keys are ignored.
"""

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from monitor.ingest.texts import FAILED
from monitor.trace import Usage

_Tokens = Annotated[int, Meta(ge=0, le=2**53)]
_KIND: Final = re.compile(  # of an error, before its message; before it, the namespace of AWS's errors
    r"(?:[A-Za-z0-9_.]{1,128}#)?([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})(?=[:(]|\Z)"
)


class Failure(msgspec.Struct, gc=False):
    """An error's kind; its message may quote the prompt and is not read."""

    type: str | None = None
    name: str | None = None
    code: str | int | None = None
    status: str | int | None = None

    def kind(self) -> str:
        """Return the type, name, status (Gemini's name of it) or code that is a word, else a number."""
        named = [each for each in (self.type, self.name, self.status, self.code) if each and each != FAILED]
        words = [each for each in named if isinstance(each, str) and not each.isdecimal()]
        return str(next(iter((*words, *named)), FAILED))


def kind_of(error: str | Failure) -> str:
    """Return an error's kind; of a text the word before its message, if it begins with one."""
    if isinstance(error, Failure):
        return error.kind()
    found = _KIND.match(error)
    return found[1] if found and found[1] != "true" else FAILED


class Template(msgspec.Struct, gc=False):
    """A stored prompt that the Responses API filled in."""

    id: str | None = None
    version: str | None = None
    variables: dict[str, Any] | None = None


class Thread(msgspec.Struct, gc=False):
    """A stored conversation."""

    id: str | None = None


def id_of(thread: str | Thread | None) -> str:
    """Return the id of a conversation, which may stand alone; empty for none."""
    return (thread.id if isinstance(thread, Thread) else thread) or ""


class Request(msgspec.Struct, gc=False):
    """A request: chat and text completions, Responses, Anthropic, Gemini, Converse, Cohere, Ollama."""

    model: str | None = None
    messages: Any = None
    input: Any = None
    instructions: Any = None
    system: Any = None
    prompt: str | list[Any] | Template | None = None
    suffix: str | None = None
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
    """A message of a chat completion.

    `context` is what Azure's search found for it, `images` are OpenRouter's, `executed_tools` Groq's.
    """

    content: Any = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    reasoning_content: str | None = None
    reasoning: Any = None
    context: Any = None
    images: Any = None
    executed_tools: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of the samples; a stream's chunk has a `delta`, a text completion `text`."""

    index: int = 0
    message: Reply | None = None
    delta: Reply | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    error: str | Failure | None = None


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
    total_input_tokens: _Tokens | None = None
    total_output_tokens: _Tokens | None = None
    tokens: CohereTokens | None = None
    billed_units: CohereTokens | None = None
    completion_tokens_details: TokenDetails | None = None
    output_tokens_details: TokenDetails | None = None

    def usage(self) -> Usage | None:
        """Return the counts that are set."""
        nested = self.tokens or self.billed_units or CohereTokens()
        return _usage(
            (
                self.prompt_tokens, self.input_tokens, self.input_tokens_, self.total_input_tokens,
                nested.input_tokens,
            ),
            (
                self.completion_tokens, self.output_tokens, self.output_tokens_, self.total_output_tokens,
                nested.output_tokens,
            ),
        )  # fmt: skip

    def reasoned(self) -> bool:
        """Return whether the model reasoned: its tokens need not have become a text."""
        details = (self.completion_tokens_details, self.output_tokens_details)
        return any(each is not None and each.reasoning_tokens for each in details)


class GeminiUsage(msgspec.Struct, gc=False):
    """Usage of Gemini."""

    prompt: _Tokens | None = msgspec.field(name="promptTokenCount", default=None)
    candidates: _Tokens | None = msgspec.field(name="candidatesTokenCount", default=None)
    prompt_token_count: _Tokens | None = None
    candidates_token_count: _Tokens | None = None
    response: _Tokens | None = msgspec.field(name="responseTokenCount", default=None)  # of a live session

    def usage(self) -> Usage | None:
        """Return the counts that are set."""
        return _usage(
            (self.prompt, self.prompt_token_count),
            (self.candidates, self.candidates_token_count, self.response),
        )


class IncompleteReason(msgspec.Struct, gc=False):
    """The reason that a response is incomplete."""

    reason: str | None = None


class StatusDetails(msgspec.Struct, gc=False):
    """How a response of a realtime session ended."""

    error: Failure | None = None


class Body(msgspec.Struct, gc=False):
    """A response's body, of any API, or what a stream's pieces were joined to."""

    id: str | None = None
    created: float | str | None = None
    created_at: float | str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    usage: TokenUsage | None = None
    error: str | Failure | None = None
    kind: str | None = msgspec.field(name="__type", default=None)  # of AWS's errors
    choices: tuple[Choice, ...] | None = None
    # The Responses API; Converse has an `output` too.
    output: Any = None
    status: str | None = None
    incomplete_details: IncompleteReason | None = None
    status_details: StatusDetails | None = None
    conversation: str | Thread | None = None
    # Anthropic
    content: Any = None
    stop_reason: str | None = None
    # Gemini
    candidates: Any = None
    prompt_feedback: Any = msgspec.field(name="promptFeedback", default=None)
    usage_metadata: GeminiUsage | None = msgspec.field(name="usageMetadata", default=None)
    model_version: str | None = msgspec.field(name="modelVersion", default=None)
    response_id: str | None = msgspec.field(name="responseId", default=None)
    usage_metadata_: GeminiUsage | None = msgspec.field(name="usage_metadata", default=None)
    model_version_: str | None = msgspec.field(name="model_version", default=None)
    response_id_: str | None = msgspec.field(name="response_id", default=None)
    vertex_ai_grounding_metadata: Any = None  # LiteLLM's
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
    meta: TokenUsage | None = None
    # Perplexity, and what Bedrock's knowledge bases found
    search_results: Any = None
    citations: Any = None
    # Texts alone, of many servers
    text: Any = None
    response: Any = None
    completion: Any = None
    generation: Any = None
    generated_text: Any = None
    output_text: Any = None
    output_text_: Any = msgspec.field(name="outputText", default=None)
    generations: Any = None
    outputs: Any = None
    results: Any = None
    prompt_token_count: _Tokens | None = None
    generation_token_count: _Tokens | None = None
    input_text_token_count: _Tokens | None = msgspec.field(name="inputTextTokenCount", default=None)


def _usage(asked: tuple[int | None, ...], answered: tuple[int | None, ...]) -> Usage | None:
    counts = [next((n for n in side if n is not None), None) for side in (asked, answered)]
    return None if counts == [None, None] else Usage(*counts)
