"""What is read of a request and of a response, whichever API they are of; the trace's fields from both."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from monitor.ingest.fields import LEFT_OUT_VALUES
from monitor.ingest.identifiers import Names
from monitor.ingest.mending import Lost
from monitor.ingest.texts import Answered, Asked, Markers, finish_of, labels_of_texts, unread_sides
from monitor.trace import Document, Message, Missing, Side, ToolCall, Unread, Unreadable, Usage


class Prompt(msgspec.Struct, gc=False):
    """A request as read. Strings are the sender's, not cleaned."""

    messages: list[Message] = []
    documents: list[Document] = []
    model: str = ""
    name: str = ""
    version: str = ""
    conversation: str = ""
    user: str = ""
    metadata: dict[str, Any] = {}
    left_out: list[str] = []
    unread: Unreadable | None = None
    lost: list[Lost] = []


class Answer(msgspec.Struct, gc=False):
    """A response as read. Strings are the sender's, not cleaned. `failed` is the error's kind, else empty.

    `heard` is what of the prompt came with the response, as that of a spoken conversation does.
    """

    id: str = ""
    model: str = ""
    model_version: str = ""
    created: float | str | None = None
    text: str = ""
    alternatives: Sequence[str] = ()
    tool_calls: Sequence[ToolCall] = ()
    documents: Sequence[Document] = ()
    heard: Prompt | None = None
    logprobs: Sequence[float] = ()
    finish_reason: str = ""
    usage: Usage | None = None
    conversation: str = ""
    refused: bool = False
    failed: str = ""
    left_out: list[str] = []
    unread: Unreadable | None = None
    lost: list[Lost] = []


_PROMPTS: Final = frozenset({
    "messages", "input", "instructions", "system", "prompt", "contents", "systemInstruction", "chat_history",
    "message", "preamble", "inputs", "inputText", "documents", "content",
})  # fmt: skip
_ANSWERS: Final = frozenset({"choices", "output", "content", "candidates", "message", "text"})


def exchange_fields(
    prompt: Prompt,
    answer: Answer,
    clean: Names,
    markers: Markers,
    *,
    usage: Usage | None = None,
    documents: Sequence[Document] = (),
    tool_calls: Sequence[ToolCall] = (),
    captured: bool = True,
) -> tuple[dict[str, Any], Iterable[tuple[str, object]]]:
    """Return the trace's fields that a request and its response give, and the labels that go with them.

    `usage` replaces what the response counts; `documents` and `tool_calls` are more of them. `captured`: both
    bodies are there, so a text that is not was empty, unless tokens say otherwise.
    """
    usage = usage or answer.usage
    name = clean.name
    fields: dict[str, Any] = {
        "model": name(answer.model or prompt.model or "unknown"),
        "messages": tuple(prompt.messages),
        "response": answer.text,
        "usage": usage,
    }
    for field, value in (
        ("model_version", answer.model_version),
        ("prompt_name", prompt.name),
        ("prompt_version", prompt.version),
        ("conversation", prompt.conversation or answer.conversation),
        ("finish_reason", finish_of(answer.finish_reason)),
        ("error", answer.failed),
    ):
        if value:
            fields[field] = name(value)
    if answer.logprobs:
        fields["logprobs"] = tuple(answer.logprobs)
    if not (documents or tool_calls) and _is_usual(prompt, answer, markers):
        return fields, ()
    asked = markers.of_asked(_asked(prompt, answer.heard))
    answered = markers.of_answered(
        Answered(
            answer.text,
            tuple(answer.alternatives),
            (*answer.tool_calls, *tool_calls),
            answer.finish_reason,
            tuple(answer.left_out),
            answer.unread,
        )
    )
    context, of_documents = markers.of_documents((*prompt.documents, *answer.documents, *documents))
    finish = fields.get("finish_reason", "")
    sides = unread_sides(asked, answered, usage, finish, failed=bool(answer.failed), captured=captured)
    unread = _with_lost((*sides, *of_documents), prompt, answer)
    blind = any(each.reason is not Unreadable.TRUNCATED for each in unread)
    fields |= {
        "messages": asked.messages,
        "response": answered.response,
        "context": context,
        "tool_calls": answered.tool_calls,
        "alternatives": answered.alternatives,
        "unread": unread,
        "missing": (Missing.CONTENT,) if blind else (),
    }
    return fields, labels_of_texts(asked, answered)


def _is_usual(prompt: Prompt, answer: Answer, markers: Markers) -> bool:
    """Return whether there is a prompt and a response and nothing else to tell of, as nearly always."""
    if not (prompt.messages and answer.text) or prompt.unread or answer.unread:
        return False
    more = (
        prompt.documents, prompt.left_out, prompt.lost, answer.alternatives, answer.tool_calls,
        answer.documents, answer.heard, answer.left_out, answer.lost,
    )  # fmt: skip
    if any(more):
        return False
    begins = markers.begins
    return answer.text[0] not in begins and begins.isdisjoint([m.content[:1] for m in prompt.messages])


def _asked(prompt: Prompt, heard: Prompt | None) -> Asked:
    """Join a prompt and what came of it with the response; gateways may have taken the one from the other."""
    messages, left_out = tuple(prompt.messages), tuple(prompt.left_out)
    if heard:
        known = set(messages)
        messages += tuple([message for message in heard.messages if message not in known])
        left_out += tuple(heard.left_out)
    return Asked(messages, left_out, prompt.unread)


def lost_label(*lost: list[Lost]) -> tuple[str, object]:
    """Return the label that counts the values left out, which has no value where there were none."""
    return LEFT_OUT_VALUES, sum(map(len, lost)) or None


def _with_lost(unread: tuple[Unread, ...], prompt: Prompt, answer: Answer) -> tuple[Unread, ...]:
    """Add the sides on which a text was among the values that could not be used."""
    for side, lost, names in (
        (Side.PROMPT, prompt.lost, _PROMPTS),
        (Side.RESPONSE, answer.lost, _ANSWERS),
    ):
        if (
            lost
            and any(one.text and one.path.rpartition(".")[2] in names for one in lost)
            and side not in {each.side for each in unread}
        ):
            unread += (Unread(side, Unreadable.FOREIGN),)
    return unread
