"""Reads a request into a `Prompt`, and a response into an `Answer`.

Of content in parts the text is taken. Parts and items of other kinds (images, audio, files, reasoning, …)
are counted by kind in `left_out`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from monitor.errors import BadTrace
from monitor.ingest.fields import ROLES, Parse, convert, parse_within
from monitor.ingest.identifiers import Names
from monitor.ingest.openai_shapes import (
    FAILED,
    Body,
    Choice,
    ContentPart,
    FileSearchResult,
    Function,
    Reply,
    Request,
    Template,
    Thread,
    Turn,
    WireCall,
)
from monitor.ingest.streams import as_text, events_of, joined
from monitor.trace import Document, Message, ToolCall, Usage

_TEXTS = frozenset({"", "text", "input_text", "output_text"})
_CALLS = frozenset({"function_call", "custom_tool_call", "mcp_call"})
_RESULT = "_output"
"""Suffix of the types of input items that hold a tool's result."""
_LEFT_OUT = frozenset({
    "image_url", "input_image", "image", "input_audio", "audio", "file", "input_file", "document",
    "video_url", "tokens", "reasoning", "thinking", "redacted_thinking", "tool_use", "item_reference",
    "web_search_call", "computer_call", "code_interpreter_call", "image_generation_call", "local_shell_call",
    "shell_call",
})  # fmt: skip
_FINISHES = {"completed": "stop", "max_output_tokens": "length", "failed": FAILED}


class Prompt(msgspec.Struct, gc=False):
    """A request as read. Strings are the sender's, not cleaned."""

    messages: tuple[Message, ...] = ()
    model: str = ""
    name: str = ""
    version: str = ""
    conversation: str = ""
    user: str = ""
    metadata: dict[str, Any] = {}
    left_out: Counter[str] = msgspec.field(default_factory=Counter)


class Answer(msgspec.Struct, gc=False):
    """A response as read. Strings are the sender's, not cleaned. `failed` is the error's kind, else empty."""

    id: str = ""
    model: str = ""
    model_version: str = ""
    created: float | None = None
    text: str = ""
    alternatives: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    documents: tuple[Document, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: str = ""
    usage: Usage | None = None
    refused: bool = False
    failed: str = ""
    left_out: Counter[str] = msgspec.field(default_factory=Counter)


def prompt_of(body: object, where: str, parse: Parse) -> Prompt:
    """Read a request's body: an object, or its JSON in a string.

    Raises BadTrace naming `where` and the field.
    """
    if isinstance(body, str):
        body = parse_within(where, body, parse)
    request = convert(body, Request, [], where)
    prompt = Prompt(
        model=request.model or "",
        user=request.safety_identifier or request.user or "",
        metadata=request.metadata or {},
    )
    messages: list[Message] = []
    if request.system:
        messages.append(Message("system", text_of(request.system, prompt.left_out)))
    for name, turns in (
        ("instructions", request.instructions),
        ("messages", request.messages),
        ("input", request.input),
    ):
        role = "system" if name == "instructions" else "user"
        messages += messages_of(turns, role, f"{where}.{name}".lstrip("."), prompt.left_out)
    match request.prompt:
        case str(text):
            messages.append(Message("user", text))
        case list(texts):  # a batch of prompts; a prompt of token numbers has no text
            messages += [Message("user", text) for text in texts if isinstance(text, str)]
            prompt.left_out["tokens"] += sum(not isinstance(text, str) for text in texts)
        case Template() as stored:
            prompt.name, prompt.version = stored.id or "", stored.version or ""
        case None:
            pass
    thread = request.conversation
    prompt.conversation = (thread.id if isinstance(thread, Thread) else thread) or ""
    prompt.messages = tuple(messages)
    return prompt


def messages_of(
    turns: str | Sequence[Turn | str] | None, role: str, where: str, left_out: Counter[str]
) -> Iterator[Message]:
    """Return the messages of the prompt; `role` is the one for a bare text.

    Raises BadTrace: out_of_range for other roles.
    """
    for n, turn in enumerate([turns] if isinstance(turns, str) else turns or ()):
        if isinstance(turn, str):
            yield Message(role, turn)
        elif turn.type is not None and turn.type != "message" and turn.role is None:
            if turn.type.endswith(_RESULT):
                yield Message("tool", _result_of(turn.output, f"{where}[{n}].output", left_out))
            elif turn.type not in _CALLS:  # the exchange that made a call was judged with it
                _leave_out(turn.type, left_out)
        else:
            if isinstance(turn.content, tuple):  # Anthropic sends results of tools as the user's
                results = [
                    part
                    for part in turn.content
                    if isinstance(part, ContentPart) and part.type == "tool_result"
                ]
                for part in results:
                    yield Message("tool", text_of(part.content, left_out))
                if results and len(results) == len(turn.content):
                    continue
            known = ROLES.get(turn.role or role)
            if known is None:
                raise BadTrace("out_of_range", f"{where}[{n}].role: must be system, user, assistant or tool")
            yield Message(known, text_of(turn.content, left_out) or turn.refusal or "")


def text_of(
    content: str | Iterable[ContentPart | str] | None, left_out: Counter[str], joint: str = "\n"
) -> str:
    """Return the text of a message's content; count its other parts by kind."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif part.text is not None and part.type in _TEXTS:
            texts.append(part.text)
        elif part.refusal is not None:
            texts.append(part.refusal)
        elif part.type != "tool_result":
            _leave_out(part.type, left_out)
    return joint.join(texts)


def left_out_of(prompt: Prompt, answer: Answer) -> Iterator[tuple[str, object]]:
    """Return labels that count the parts without text, by kind."""
    for kind, count in (prompt.left_out + answer.left_out).items():
        yield f"left_out.{kind}", count


def common(prompt: Prompt, answer: Answer, clean: Names) -> dict[str, Any]:
    """Return the trace fields that every format takes from request and response."""
    return {
        "model": clean.optional(answer.model or prompt.model, "unknown"),
        "model_version": clean.optional(answer.model_version),
        "prompt_name": clean.optional(prompt.name),
        "prompt_version": clean.optional(prompt.version),
        "conversation": clean.optional(prompt.conversation),
        "finish_reason": clean.optional(answer.finish_reason),
        "messages": prompt.messages,
        "response": answer.text,
        "context": answer.documents,
        "tool_calls": answer.tool_calls,
        "alternatives": answer.alternatives,
        "logprobs": answer.logprobs,
        "usage": answer.usage,
    }


def documents_of(results: Iterable[FileSearchResult] | None, left_out: Counter[str]) -> tuple[Document, ...]:
    """Return the documents of search results."""
    return tuple(
        [
            Document(
                item.file_id or item.filename or "",
                item.text if item.text is not None else text_of(item.content, left_out),
                item.score,
            )
            for item in results or ()
        ]
    )


def answer_of(response: object, where: str, parse: Parse) -> Answer:
    """Read a response: a body, a list of chunks, or a string of one's JSON or of server-sent events.

    Raises BadTrace naming `where` and the field; missing_field for a body that has none of choices, output,
    content and error.
    """
    if isinstance(response, str):
        text = response.lstrip("\ufeff \t\r\n")
        if text.startswith(("{", "[")):
            response = parse_within(where, text, parse)
        else:
            response = list(events_of(text, where, parse))
    if isinstance(response, list):
        return _answer(joined(response, where), where)
    return _answer(convert(response, Body, [], where), where)


def _answer(body: Body, where: str) -> Answer:
    answer = Answer(
        id=body.id or "",
        model=body.model or "",
        model_version=body.system_fingerprint or "",
        created=body.created if body.created is not None else body.created_at,
        usage=body.usage.usage() if body.usage else None,
    )
    if body.error:
        answer.failed = body.error if isinstance(body.error, str) else body.error.kind()
    if body.choices is not None:
        _from_choices(body.choices, answer)
    elif body.output is not None:
        _from_output(body, answer)
    elif body.content is not None:
        _from_content(body.content, answer)
        answer.finish_reason = body.stop_reason or ""
    elif not answer.failed:
        raise BadTrace(
            "missing_field", f"{where}: holds none of choices, output, content and error; send one"
        )
    if answer.failed:
        answer.finish_reason = FAILED
    return answer


def _from_choices(choices: Sequence[Choice], answer: Answer) -> None:
    texts = []
    for n, choice in enumerate(sorted(choices, key=lambda choice: choice.index)):
        reply = choice.message or choice.delta or Reply(content=choice.text)
        text = text_of(reply.content, answer.left_out, "")
        texts.append(text or reply.refusal or "")
        if n:
            continue
        answer.refused = bool(reply.refusal)
        answer.finish_reason = choice.finish_reason or ""
        answer.tool_calls = tuple([_tool_call(call) for call in reply.tool_calls or ()])
        if reply.function_call:
            answer.tool_calls += (_tool_call(WireCall(function=reply.function_call)),)
        if choice.logprobs:
            logs = choice.logprobs
            answer.logprobs = tuple([token.logprob for token in logs.content or ()]) or tuple(
                [log for log in logs.token_logprobs or () if log is not None]
            )
    answer.text = texts[0] if texts else ""
    answer.alternatives = tuple(text for text in texts[1:] if text)


def _from_output(body: Body, answer: Answer) -> None:
    texts: list[str] = []
    calls: list[ToolCall] = []
    documents: list[Document] = []
    logprobs: list[float] = []
    for item in body.output or ():
        if item.type == "message":
            texts.append(text_of(item.content, answer.left_out, ""))
            parts = [part for part in item.content or () if isinstance(part, ContentPart)]
            answer.refused |= any(part.refusal for part in parts)
            logprobs += [token.logprob for part in parts for token in part.logprobs or ()]
        elif item.type in _CALLS:
            arguments = item.arguments if item.arguments is not None else item.input
            call_id = item.call_id or item.id or ""
            calls.append(
                ToolCall(item.name or "", arguments or "", as_text(item.output), call_id, bool(item.error))
            )
        elif item.type == "file_search_call":
            documents += documents_of(item.results, answer.left_out)
        else:
            _leave_out(item.type, answer.left_out)
    answer.text, answer.tool_calls = "".join(texts), tuple(calls)
    answer.documents, answer.logprobs = tuple(documents), tuple(logprobs)
    reason = body.incomplete_details.reason if body.incomplete_details else None
    reason = reason or body.status or ""
    answer.finish_reason = "tool_calls" if calls and not answer.text else _FINISHES.get(reason, reason)


def _from_content(content: Sequence[ContentPart], answer: Answer) -> None:
    used = [part for part in content if part.type == "tool_use"]
    answer.text = text_of([part for part in content if part.type != "tool_use"], answer.left_out, "")
    answer.tool_calls = tuple(
        [ToolCall(part.name or "", as_text(part.input), "", part.id or "") for part in used]
    )


def _tool_call(call: WireCall) -> ToolCall:
    what = call.function or call.custom or Function()
    arguments = what.arguments if what.arguments is not None else what.input
    return ToolCall(what.name or "", as_text(arguments), "", call.id or "")


def _result_of(output: object, where: str, left_out: Counter[str]) -> str:
    """Return a tool's result as text: that of its parts where it has some."""
    if isinstance(output, list) and any(isinstance(part, dict) and "text" in part for part in output):
        return text_of(convert(output, tuple[ContentPart | str, ...], [], where), left_out)
    return as_text(output)


def _leave_out(kind: str, left_out: Counter[str]) -> None:
    left_out[kind if kind in _LEFT_OUT else "other"] += 1
