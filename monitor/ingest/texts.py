"""The texts of one exchange between any format and a trace: what was read of each side, and what was not.

A side on which a text must have been and was not read is named in `Trace.unread`; nothing is guessed to be
clean. By nature without text are: an answer of tool calls, parts without text (images, audio, a model's
reasoning), the answer of a failed or filtered call, and zero output tokens.
"""

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from monitor.trace import Document, Message, Side, ToolCall, Unread, Unreadable, Usage

FAILED = "error"
"""Finish reason of an exchange that ended with an error."""
LEFT_OUT = frozenset({
    "image_url", "input_image", "image", "input_audio", "output_audio", "audio", "file", "input_file",
    "document", "video_url", "video", "tokens", "reasoning", "thinking", "redacted_thinking", "tool_use",
    "item_reference", "web_search_call", "computer_call", "code_interpreter_call",
    "image_generation_call", "local_shell_call", "shell_call", "blob", "uri", "compaction",
})  # fmt: skip
"""Kinds of parts without text that the labels `left_out.<kind>` name; all others are `other`."""
_FILTERED = frozenset({
    "content_filter", "content_filtered", "safety", "refusal", "guardrail_intervened", "prohibited_content",
    "blocklist", "recitation", "spii", "image_safety",
})  # fmt: skip
_FINISHES = {
    "stop": ("end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed", "finish", "finished"),
    "tool_calls": (
        "tool_call", "tool_use", "function_call", "function_calls", "tool-call", "tool-calls",
    ),
    "length": (
        "max_tokens", "max_output_tokens", "max_length", "model_length", "model_context_window_exceeded",
    ),
    "content_filter": (
        "content-filter", "content_filtered", "safety", "image_safety", "recitation", "blocklist",
        "prohibited_content", "spii", "refusal", "guardrail_intervened", "guardrails", "error_toxic",
    ),
}  # fmt: skip
"""Other words for OpenAI's finish reasons: of Anthropic, Bedrock, Cohere, Gemini, frameworks, older ones."""
_FINISHED = {word: word for word in _FINISHES} | {
    other: word for word, others in _FINISHES.items() for other in others
}
_ENUMERATION = "finishreason."  # an enumeration's name that was printed
_LONGEST_MARKER = 256  # characters, over all lines


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A prompt as read: its messages, kinds of its parts without text, and why a text of it was not read.

    `documents` are those that came within its messages.
    """

    messages: tuple[Message, ...] = ()
    left_out: tuple[str, ...] = ()
    unread: Unreadable | None = None
    documents: tuple[Document, ...] = ()

    def has_text(self) -> bool:
        """Return whether any message holds text."""
        return any(message.content for message in self.messages)


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A model's output: the first sample with text and the others; the rest as in `Asked`."""

    response: str = ""
    alternatives: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    finish: object = None
    left_out: tuple[str, ...] = ()
    unread: Unreadable | None = None


NOTHING_ASKED, NOTHING_ANSWERED = Asked(), Answered()


def fuller_prompt(own: Asked, other: Asked) -> Asked:
    """Return the fuller one of two readings of one prompt; `own` where they are alike."""
    if not other.has_text():
        return other if own is NOTHING_ASKED else own
    return other if not own.has_text() or (own.unread and not other.unread) else own


def fuller_answer(own: Answered, other: Answered) -> Answered:
    """Return the fuller one of two readings of one output; `own` where they are alike."""
    if not (other.response or other.alternatives or other.tool_calls):
        return other if own is NOTHING_ANSWERED else own
    held = own.response or own.alternatives or own.tool_calls
    if not held or (own.unread and not other.unread):
        return other
    # Calls that were flattened have lost their ids, by which results find them.
    anonymous = own.tool_calls and other.tool_calls and not own.tool_calls[0].id
    if anonymous and other.tool_calls[0].id and own.response == other.response:
        return other
    return own


def cut_prompt(asked: Asked) -> Asked:
    """Return a prompt that its sender cut off: truncated, or not read where nothing of a text is left."""
    kept = len(asked.messages)
    # Of the last one too little is left.
    while kept and not (last := asked.messages[kept - 1]).content and last.role != "assistant":
        kept -= 1
    unread = Unreadable.TRUNCATED if asked.has_text() else Unreadable.NO_CONTENT
    return replace(asked, messages=asked.messages[:kept], unread=unread)


def cut_answer(answered: Answered) -> Answered:
    """Return an output that its sender cut off, likewise."""
    held = answered.response or answered.alternatives or answered.tool_calls
    return replace(answered, unread=Unreadable.TRUNCATED if held else Unreadable.NO_CONTENT)


def joined_prompts(parts: Iterable[Asked]) -> Asked:
    """Join the parts of one prompt, in order."""
    held = [part for part in parts if part is not NOTHING_ASKED]
    if len(held) <= 1:
        return held[0] if held else NOTHING_ASKED
    return Asked(
        tuple([message for part in held for message in part.messages]),
        tuple([kind for part in held for kind in part.left_out]),
        next((part.unread for part in held if part.unread), None),
        tuple([document for part in held for document in part.documents]),
    )


def joined_answers(parts: Iterable[Answered]) -> Answered:
    """Join the parts of one output: samples of one prompt, each with its calls."""
    held = [part for part in parts if part is not NOTHING_ANSWERED]
    if len(held) <= 1:
        return held[0] if held else NOTHING_ANSWERED
    texts = [text for part in held for text in (part.response, *part.alternatives) if text] or [""]
    return Answered(
        texts[0],
        tuple(texts[1:]),
        tuple([call for part in held for call in part.tool_calls]),
        next((part.finish for part in held if part.finish), None),
        tuple([kind for part in held for kind in part.left_out]),
        next((part.unread for part in held if part.unread), None),
    )


def finish_of(reason: str) -> str:
    """Return a finish reason in OpenAI's words (stop, tool_calls, length, content_filter); others as sent."""
    return _FINISHED.get(reason) or _FINISHED.get(reason.lower().removeprefix(_ENUMERATION), reason)


class Markers:
    """Recognises texts that stand in the place of others (`ingest.redaction_markers`): they are no text.

    `...` in a marker stands for any text. `begins` are what a marker or an empty text may begin with: a quick
    test that nearly all texts fail.
    """

    def __init__(self, markers: Iterable[str]) -> None:
        self._markers = frozenset(marker.strip() for marker in markers) - {"", "..."}
        self._open = [
            (begin, end) for each in self._markers for begin, dots, end in [each.partition("...")] if dots
        ]
        self.begins = frozenset(marker[0] for marker in self._markers) | {"", *string.whitespace}

    def without(self, text: str) -> str:
        """Return the text, or an empty string where each of its lines is a marker."""
        if text[:1] not in self.begins or len(text) > _LONGEST_MARKER:
            return text
        lines = [line for line in map(str.strip, text.split("\n")) if line]
        return "" if lines and all(line in self._markers or self._is_masked(line) for line in lines) else text

    def _is_masked(self, line: str) -> bool:
        """Return whether a line is asterisks alone, of any number, or of a marker with `...`."""
        if any(line.startswith(begin) and line.endswith(end) for begin, end in self._open):
            return True
        return "*" in self.begins and len(line) > 2 and not line.strip("*")  # noqa: PLR2004 - `**` is markup

    def of_asked(self, asked: Asked) -> Asked:
        """Return a prompt without markers; one that had any has a text that was not read."""
        begins = self.begins
        for message in asked.messages:
            if message.content[:1] in begins:
                break
        else:
            return asked
        texts = [self.without(message.content) for message in asked.messages]
        if all(map(_is, texts, (message.content for message in asked.messages))):
            return asked
        messages = [Message(m.role, text) for m, text in zip(asked.messages, texts, strict=True)]
        # Messages that were nothing but a marker say no more than that they were there.
        kept = tuple(
            m for m, old in zip(messages, asked.messages, strict=True) if m.content or not old.content
        )
        return Asked(kept, asked.left_out, Unreadable.REDACTED, asked.documents)

    def of_answered(self, answered: Answered) -> Answered:
        """Return an output without markers, likewise."""
        if not (answered.alternatives or answered.tool_calls) and answered.response[:1] not in self.begins:
            return answered
        response = self.without(answered.response)
        others = [self.without(text) for text in answered.alternatives]
        calls = [self._call(call) for call in answered.tool_calls]
        if (
            response is answered.response
            and all(map(_is, others, answered.alternatives))
            and all(map(_is, calls, answered.tool_calls))
        ):
            return answered
        first, *rest = [text for text in (response, *others) if text] or [""]
        return Answered(
            first, tuple(rest), tuple(calls), answered.finish, answered.left_out, Unreadable.REDACTED
        )

    def of_documents(self, documents: Sequence[Document]) -> tuple[tuple[Document, ...], tuple[Unread, ...]]:
        """Return documents without markers, and that they were not read if none has any text."""
        plain = tuple([self._document(document) for document in documents])
        if not plain or any(document.content for document in plain):
            return plain, ()
        redacted = any(document.content for document in documents)
        reason = Unreadable.REDACTED if redacted else Unreadable.NO_CONTENT
        return plain, (Unread(Side.DOCUMENTS, reason),)

    def _call(self, call: ToolCall) -> ToolCall:
        arguments, result = self.without(call.arguments), self.without(call.result)
        if arguments is call.arguments and result is call.result:
            return call
        return ToolCall(call.name, arguments, result, call.id, call.error)

    def _document(self, document: Document) -> Document:
        content = self.without(document.content)
        return document if content is document.content else Document(document.id, content, document.score)


def unread_sides(
    asked: Asked,
    answered: Answered,
    usage: Usage | None,
    finish: str,
    *,
    failed: bool,
    captured: bool = False,
) -> tuple[Unread, ...]:
    """Return the sides of an exchange with a text that was not read.

    `captured`: the sender's format always has the texts, so one that is missing was empty, unless tokens say
    that there was one. An emitter that sends an answer captures texts, so a prompt without tokens was none.
    """
    sides = []
    spent = usage.input_tokens if usage else None
    if asked.unread:
        sides.append(Unread(Side.PROMPT, asked.unread))
    elif not (asked.messages or asked.left_out):
        if _must_have(spent, captured=captured or failed or bool(answered.response)):
            sides.append(Unread(Side.PROMPT, Unreadable.NO_CONTENT))
    elif spent and not (asked.has_text() or asked.left_out) and any(map(_is_given, asked.messages)):
        sides.append(Unread(Side.PROMPT, Unreadable.NO_CONTENT))
    made = usage.output_tokens if usage else None
    if answered.unread:
        sides.append(Unread(Side.RESPONSE, answered.unread))
    elif (
        not (answered.response or answered.alternatives or answered.tool_calls or answered.left_out)
        and not failed
        and finish.lower() not in _FILTERED
        and _must_have(made, captured=captured)
    ):
        sides.append(Unread(Side.RESPONSE, Unreadable.NO_CONTENT))
    return tuple(sides)


def labels_of_texts(asked: Asked, answered: Answered) -> Iterator[tuple[str, object]]:
    """Yield labels that count the parts without text by kind, and one that says that a text was cut off."""
    if asked.left_out or answered.left_out:
        kinds = [kind if kind in LEFT_OUT else "other" for kind in (*asked.left_out, *answered.left_out)]
        for kind, count in Counter(kinds).items():
            yield f"left_out.{kind}", count
    if Unreadable.TRUNCATED in (asked.unread, answered.unread):
        yield "truncated", True


def _must_have(tokens: int | None, *, captured: bool) -> bool:
    """Return whether a text was there: tokens were counted, or nobody can say that it was not."""
    return not captured if tokens is None else tokens > 0


def _is_given(message: Message) -> bool:
    """Return whether a message is one that must have a text, unlike an assistant's turn of calls."""
    return message.role in {"user", "system"}


def _is(one: object, other: object) -> bool:
    return one is other
