"""Chat completions, and the older text completions: OpenAI's, and most gateways' whatever is behind them.

Source: PyPI `openai` 3.57, `types/chat` and `types/completion.py`; learn.microsoft.com, "Azure OpenAI On Your
Data API reference" for `context`; `reasoning_content` is DeepSeek's and vLLM's.
"""

from collections.abc import Sequence
from typing import Any, Final

from monitor.ingest.bodies import parts
from monitor.ingest.bodies.reading import Answer
from monitor.ingest.bodies.shapes import Body, Choice, Reply, kind_of
from monitor.ingest.bodies.streams import first_of, items_of
from monitor.ingest.fields import plain, text_of
from monitor.trace import ToolCall, Unreadable

_IDENTITY: Final = ("id", "created", "model", "system_fingerprint")
_STRINGS: Final = ("refusal", "reasoning_content", "reasoning")
_LISTS: Final = ("images", "executed_tools")


def is_piece(chunk: dict[str, Any]) -> bool:
    """Return whether a stream's chunk is one of a completion."""
    return "choices" in chunk


def read(body: Body, answer: Answer) -> None:
    """Read the samples of a completion: the first is the response, the others are alternatives."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    choices = body.choices or ()
    for n, choice in enumerate(choices if len(choices) == 1 else sorted(choices, key=_index)):
        reply = choice.message or choice.delta or Reply(content=choice.text)
        text, own = _take(reply, answer)
        texts.append(text)
        # Calls of the other samples are judged too: nobody knows which one was acted upon.
        calls += own
        if n:
            continue
        answer.refused = answer.refused or bool(reply.refusal)
        answer.finish_reason = choice.finish_reason or ""
        if choice.error:
            answer.failed = answer.failed or kind_of(choice.error)
        if type(reply.context) is dict:
            found = reply.context.get("all_retrieved_documents") or reply.context.get("citations")
            answer.documents = [parts.document_of(each) for each in items_of(found)]
        if choice.logprobs:
            logs = [token.logprob for token in choice.logprobs.content or ()]
            logs = logs or list(choice.logprobs.token_logprobs or ())
            answer.logprobs = [log for log in logs if log is not None]
    answer.tool_calls = calls
    answer.text = texts[0] if texts else ""
    if len(texts) > 1:
        answer.alternatives = [text for text in texts[1:] if text]
    if texts and not (any(texts) or answer.tool_calls) and all(map(_says_nothing, choices)):
        answer.unread = Unreadable.FOREIGN


def _says_nothing(choice: Choice) -> bool:
    """Return whether a sample has nothing that a sample has: it is of a shape that nobody knows."""
    return choice == Choice(index=choice.index)


def _index(choice: Choice) -> int:
    return choice.index


def _take(reply: Reply, answer: Answer) -> tuple[str, list[ToolCall]]:
    """Return the text and the calls of a sample; tell the answer what else is in it."""
    calls: list[ToolCall] = []
    if type(reply.content) is str:
        text = reply.content
    else:
        content = parts.read(reply.content)
        text, calls = "".join(content.texts), content.calls
        answer.refused |= content.refused
        answer.left_out += content.left_out
    if reply.tool_calls:
        calls += [parts.call_of(call) for call in items_of(reply.tool_calls)]
    if type(reply.function_call) is dict:
        calls.append(parts.call_of({"function": reply.function_call}))
    if reply.executed_tools:
        run = [
            {**each, "name": each.get("type"), "type": "tool_call"} for each in items_of(reply.executed_tools)
        ]
        calls += parts.read(run).calls
    if reply.images:
        answer.left_out += parts.read(items_of(reply.images)).left_out
    if not text and type(reply.audio) is dict:
        spoken = parts.read({"type": "audio", **reply.audio})
        text = "".join(spoken.texts)
        answer.left_out += spoken.left_out
    text = text or reply.refusal or ""
    if not (text or calls):
        # Servers put answers there by mistake, so where there is nothing else it is one.
        text = reply.reasoning_content or (reply.reasoning if type(reply.reasoning) is str else "")
    return text, calls


def join(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the body that would have come without streaming."""
    body: dict[str, Any] = {key: first_of(chunk.get(key) for chunk in chunks) for key in _IDENTITY}
    body["usage"] = first_of(chunk.get("usage") for chunk in reversed(chunks))
    by_index: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        for choice in items_of(chunk.get("choices")):
            index = choice.get("index")
            by_index.setdefault(index if type(index) is int else 0, []).append(choice)
    body["choices"] = [_joined(index, pieces) for index, pieces in sorted(by_index.items())]
    return {key: value for key, value in body.items() if value is not None}


def _joined(index: int, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    deltas = [
        next(
            (d for key in ("delta", "message") if type(d := piece.get(key)) is dict),
            {"content": piece.get("text")},
        )
        for piece in pieces
    ]
    content: list[Any] = []
    for delta in deltas:
        some = delta.get("content")
        content += some if type(some) is list else [] if some is None else [some]
    logs = [log for piece in pieces if type(log := piece.get("logprobs")) is dict]
    return {
        "index": index,
        "message": {"content": content, **_joined_rest(deltas)},
        "finish_reason": first_of(piece.get("finish_reason") for piece in reversed(pieces)),
        "error": first_of(piece["error"] for piece in pieces if "error" in piece),
        "logprobs": {
            name: [item for log in logs if type(some := log.get(name)) is list for item in some]
            for name in ("content", "token_logprobs")
        },
    }


def _joined_rest(deltas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the deltas of a message hold beside its content."""
    held = frozenset[str]().union(*deltas)
    rest: dict[str, Any] = {key: _concatenated(deltas, key) for key in _STRINGS if key in held}
    rest |= {key: [item for d in deltas for item in items_of(d.get(key))] for key in _LISTS if key in held}
    if "reasoning" in rest:
        rest["reasoning_content"] = rest.get("reasoning_content") or rest["reasoning"]
    if "tool_calls" in held:
        rest["tool_calls"] = list(map(_joined_call, _calls(deltas)))
    if "function_call" in held:
        functions = [{"function": f} for delta in deltas if type(f := delta.get("function_call")) is dict]
        rest["function_call"] = _joined_call(functions)["function"] if functions else None
    if "audio" in held:
        spoken = [audio for delta in deltas if type(audio := delta.get("audio")) is dict]
        rest["audio"] = {"transcript": _concatenated(spoken, "transcript")} if spoken else None
    if "context" in held:
        rest["context"] = first_of(delta.get("context") for delta in deltas)
    return rest


def _calls(deltas: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the pieces of each call of a message: those of one index, unless one begins another call.

    Not every server counts the calls: what has a new id and a name is a new call.
    """
    calls: dict[int, list[list[dict[str, Any]]]] = {}
    ids: dict[int, str] = {}  # of the last call of an index
    for delta in deltas:
        for n, piece in enumerate(items_of(delta.get("tool_calls"))):
            at = index if type(index := piece.get("index")) is int else n
            own = plain(piece.get("id"))
            begins = own and type(f := piece.get("function")) is dict and f.get("name")
            if at not in calls or (begins and ids[at] not in {"", own}):
                calls.setdefault(at, []).append([])
                ids[at] = ""
            ids[at] = ids[at] or own
            calls[at][-1].append(piece)
    return [pieces for at in sorted(calls) for pieces in calls[at]]


def _joined_call(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    functions = [
        next((f for key in ("function", "custom") if type(f := piece.get(key)) is dict), piece)
        for piece in pieces
    ]
    arguments = [text_of(f.get("arguments", f.get("input"))) for f in functions]
    function = {"name": first_of(f.get("name") for f in functions), "arguments": "".join(arguments)}
    return {"id": first_of(piece.get("id") for piece in pieces), "function": function}


def _concatenated(deltas: Sequence[dict[str, Any]], key: str) -> str:
    return "".join([text for delta in deltas if type(text := delta.get(key)) is str])
