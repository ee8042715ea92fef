"""Requests and answers that a framework keeps whole: bodies of APIs, lists of messages, values of its own.

Everything here takes plain values of any shape, maybe as JSON text, and raises nothing. What is not known is
kept as text, so that it is judged.
"""

from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from monitor.errors import BadTrace
from monitor.ingest import strict_json
from monitor.ingest.bodies import is_stream, response_of
from monitor.ingest.bodies.shapes import Failure
from monitor.ingest.dialects import langchain, messages
from monitor.ingest.dialects.values import MAX_DEPTH, is_digest, opened
from monitor.ingest.fields import plain
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED, Answered, Asked, cut_answer, cut_prompt
from monitor.trace import Document, Unreadable

_SYSTEM = ("system", "instructions", "system_instruction", "systemInstruction", "system_prompt")
_REQUEST = ("messages", "contents", "input_messages", "prompts")  # only an API's request has these
_PROMPT = (*_REQUEST, "prompt", "input", "question", "query")
_HISTORY = ("chat_history", "history")
_ANSWER = ("output", "answer", "result", "response", "completion", "text", "content", "outputs")
_BODY = ("messages", "contents", "choices", "candidates")  # of a request or an answer, whichever API's
_SETTINGS = frozenset({
    "metadata", "usage", "usage_metadata", "id", "model", "config", "tools", "parameters", "stream",
    "temperature", "success", "errors", "custom_inputs", "custom_outputs",
})  # fmt: skip
_BESIDE_PROMPT = _SETTINGS | {*_SYSTEM, *_HISTORY}
_BESIDE_ANSWER = _SETTINGS | {
    *_HISTORY, "context", "documents", "source_documents", "sources", "input", "question", "query",
    "messages", "intermediate_steps",
}  # fmt: skip
"""Names of what an object holds beside a prompt or an answer; with others it is text as a whole."""
DOCUMENT_KEYS: Final = ("page_content", "pageContent", "content", "text", "document", "chunk", "value")
"""Names of a document's text, before those of `ingest.document_keys`."""
_INPUT_TOKENS = (
    "input_tokens", "prompt_tokens", "inputTokens", "promptTokens", "input", "prompt_token_count",
    "promptTokenCount", "inputTokenCount",
)  # fmt: skip
_OUTPUT_TOKENS = (
    "output_tokens", "completion_tokens", "outputTokens", "completionTokens", "output",
    "candidates_token_count", "candidatesTokenCount", "outputTokenCount",
)  # fmt: skip
_USAGE = ("usage", "usage_metadata", "usageMetadata", "token_usage", "tokenUsage")


class TokenCounts(NamedTuple):
    """Token counts as sent."""

    input: object = None
    output: object = None


_EVENTS: Final = ("data:", "event:")  # of a stream
_EMPTY: Final[tuple[Any, ...]] = (None, "", "null", [], {})  # what is left of a payload that was hidden


def asked_of(value: Any) -> Asked:
    """Read the prompt of a request: an API's body, messages, a text, or an application's own object."""
    read, cut = opened(value)
    if read in _EMPTY:
        return cut_prompt(NOTHING_ASKED) if cut else NOTHING_ASKED
    if is_digest(read):
        return Asked(unread=Unreadable.REDACTED)
    asked = _asked(langchain.plain(read))
    # Not the constant: that this prompt is empty was read, and no other dialect has to guess.
    return cut_prompt(asked) if cut else replace(asked)


def _asked(value: Any) -> Asked:
    if type(value) is list:
        return messages.asked(_turns(value, "user"))
    if type(value) is not dict:
        return messages.asked([{"role": "user", "content": value}])
    config = value.get("config")  # of Gemini's client, which has the instructions in there
    system = _first(value, _SYSTEM) or (_first(config, _SYSTEM) if type(config) is dict else None)
    said = _first(value, _PROMPT)
    if said is None and not messages.KEYS.isdisjoint(value):
        return messages.asked([value])
    if len(value) == 1:
        (said,) = value.values()
        if type(said) is dict:
            return _asked(said)
    elif said is None or not (
        _first(value, (*_REQUEST, "model", "modelId"))
        or _holds_beside(value, _PROMPT, _BESIDE_PROMPT)
        or _talks(said)
    ):
        said = messages.text_of(value)
    turns = _turns(said if type(said) is list else [said], "user")
    history = _first(value, _HISTORY)
    if type(history) is list:
        turns = [*_turns(history, "user"), *turns]
    return messages.asked(turns, system)


def _talks(said: Any) -> bool:
    """Return whether a value is a list of messages, which only a request for an answer holds."""
    return type(said) is list and all(type(item) is dict and ("role" in item or _kind(item)) for item in said)


def error_of(value: Any) -> str:
    """Return the type of the error that a body of an API reports, else an empty string."""
    read = opened(value)[0]
    error = read.get("error") if type(read) is dict else None
    if type(error) is not dict or "message" not in error:
        return ""
    said = {key: error[key] for key in Failure.__struct_fields__ if type(error.get(key)) in {str, int}}
    return Failure(**said).kind()


def is_body(value: Any) -> bool:
    """Return whether a value is an object, maybe as JSON, as APIs take and return them."""
    if type(value) is str and value[:1] != "{":
        return False
    read = opened(value)[0]
    return type(read) is dict and any(type(read.get(key)) is list for key in _BODY)


def question_of(value: Any) -> str:
    """Return the query of a search: the last text of what it was asked."""
    return next((m.content for m in reversed(asked_of(value).messages) if m.content), "")


def answered_of(value: Any) -> Answered:
    """Read the output of a model: an API's body, messages, a text, or an application's own object."""
    read, cut = opened(value)
    if streamed := _streamed(read):
        return replace(streamed, finish=_finish(streamed.finish))
    if read in _EMPTY:
        return cut_answer(NOTHING_ANSWERED) if cut else NOTHING_ANSWERED
    if is_digest(read):
        return Answered(unread=Unreadable.REDACTED)
    answered = _answered(langchain.plain(read))
    answered = replace(answered, finish=_finish(answered.finish))
    return cut_answer(answered) if cut else answered


def _streamed(value: Any) -> Answered | None:
    """Read what an API streamed: a list of chunks, or the stream as it came; None for anything else."""
    if type(value) is list:
        chunks = len(value) > 1 and all(type(item) is dict and "role" not in item for item in value)
        if not chunks or not is_stream(value):
            return None
    elif type(value) is not str or not value.startswith(_EVENTS):
        return None
    try:
        answer = response_of(value, "", lambda raw: strict_json.parse(raw, MAX_DEPTH, ()))
    except BadTrace:
        return None
    return Answered(
        answer.text,
        tuple(answer.alternatives),
        tuple(answer.tool_calls),
        answer.finish_reason or None,
        tuple(answer.left_out),
        answer.unread,
    )


def _answered(value: Any) -> Answered:
    if type(value) is dict and type(error := value.get("error")) is dict and "message" in error:
        return NOTHING_ANSWERED  # its message may quote the prompt
    while type(value) is dict:
        samples = _samples(value)
        if samples is not None:
            return messages.answered(samples)
        value = _inside(value)
    if type(value) is not list:
        return messages.answered([{"role": "assistant", "content": value}])
    if value and all(type(item) is dict and _kind(item) for item in value):
        return messages.answered(_joined(value))
    turns = _turns(value, "assistant")
    answers = [turn for turn in turns if type(turn) is not dict or plain(turn.get("role")) in _ANSWERS]
    # Of a conversation with its end, the last turn answers.
    return messages.answered(answers if len(answers) == len(turns) else answers[-1:])


_ANSWERS = frozenset({"", "assistant", "ai", "model", "bot", "chatbot"})


def _samples(body: dict[str, Any]) -> list[Any] | None:
    """Return the samples of an API's answer as messages; None for another object."""
    for key in ("generations", "choices", "candidates"):
        if type(samples := body.get(key)) is list:
            return [_sample(sample) for sample in _flat(samples)]
    inner = body.get("output")
    if type(inner) is list and inner and all(type(item) is dict and _kind(item) for item in inner):
        return _of_responses(body, inner)
    if type(inner) is dict and "message" in inner:  # Bedrock's Converse
        return [_sample(inner | {"finish_reason": body.get("stopReason")})]
    if not messages.KEYS.isdisjoint(body):
        return [_sample(body)]
    return None


def _of_responses(body: dict[str, Any], items: list[Any]) -> list[Any]:
    """Return the output of the Responses API as a message."""
    details = body.get("incomplete_details")
    reason = details.get("reason") if type(details) is dict else None
    calls = any(item["type"].endswith("_call") for item in items)
    return [{**_joined(items)[0], "finish_reason": reason or (None if calls else body.get("status"))}]


def _inside(value: dict[str, Any]) -> Any:
    """Return what an object that is no answer of an API holds as one, else its JSON."""
    if type(said := value.get("messages")) is list and said:
        return said
    if len(value) <= 1:
        return next((said for said in value.values() if said is not None), "")
    said = _first(value, _ANSWER)
    return (
        said
        if said is not None and _holds_beside(value, _ANSWER, _BESIDE_ANSWER)
        else messages.text_of(value)
    )


def _holds_beside(value: dict[str, Any], names: tuple[str, ...], others: frozenset[str]) -> bool:
    """Return whether an object has one of these names, and beside it nothing but `others`."""
    own = next((name for name in names if value.get(name) is not None), None)
    return value.keys() - {own} <= others


def documents_of(value: Any, keys: tuple[str, ...]) -> tuple[Document, ...]:
    """Read what a retrieval found: a list, an object with one, pairs of document and score, or texts."""
    read = langchain.plain(opened(value)[0])
    if type(read) is dict and "documents" not in read:
        lists = [item for item in read.values() if type(item) is list]
        read = lists[0] if len(lists) == 1 else read
    if type(read) is list:
        if len(read) == 1 and type(read[0]) is list and _scored(read[0]) is read[0]:
            read = read[0]
        read = [_scored(item) for item in read]
    return messages.documents(read, (*DOCUMENT_KEYS, *keys))


def _scored(item: Any) -> Any:
    """Return a pair of document and score as one object."""
    if type(item) is list and len(item) == 2:  # noqa: PLR2004 - a pair
        held, score = item
        if type(held) is dict:
            return {"score": score, **held}
        if type(held) is str and type(score) is float:
            return {"score": score, "text": held}
    return item


def tokens_of(value: Any) -> TokenCounts:
    """Read token counts of a usage, or of the usage that an answer's body holds, under any API's names."""
    read = opened(value)[0]
    if type(read) is not dict:
        return TokenCounts()
    usage = _first(read, _USAGE)
    usage = usage if type(usage) is dict else read
    return TokenCounts(_first(usage, _INPUT_TOKENS), _first(usage, _OUTPUT_TOKENS))


def returned_of(value: Any) -> tuple[str, object]:
    """Return the text of what a tool returned, and the id of its call where it is LangChain's message."""
    result = langchain.plain(opened(value)[0])
    if type(result) is dict and result.keys() == {"output"}:
        value = result = result["output"]
    if type(result) is not dict or result.get("role") != "tool":
        return messages.text_of(value), None
    asked = messages.asked([result])
    return next((m.content for m in asked.messages), ""), result.get("tool_call_id")


def model_of(value: Any) -> str:
    """Return the model that a body names, else an empty string."""
    read = opened(value)[0]
    return plain(_first(read, ("model", "model_name", "modelId"))) if type(read) is dict else ""


def _turns(items: list[Any], role: str) -> list[Any]:
    """Return messages in one list; parts that stand alone have this role unless they tell their own."""
    return [_turn(item, role) for item in _flat(items)]


def _flat(items: list[Any]) -> list[Any]:
    """Return a list with the items of lists in it: LangChain asks for several prompts at once."""
    return [inner for item in items for inner in (item if type(item) is list else [item])]


def _turn(item: Any, role: str) -> Any:
    kind = _kind(item) if type(item) is dict and "role" not in item else ""
    if not kind or kind == "message" or "message" in item:
        return item
    if kind.endswith(("_output", "_result", "tool-result")):  # as in the Responses API
        role = "tool"
    elif kind.endswith(("_call", "tool-call", "tool_use", "reasoning", "thinking")):
        role = "assistant"
    return {"role": role, "content": [item]}


def _kind(item: dict[str, Any]) -> str:
    """Return the type of a part of content, or an item of the Responses API; empty for other objects."""
    kind = item.get("type")
    return kind if type(kind) is str and ("role" not in item or kind == "message") else ""


def _joined(items: list[Any]) -> list[Any]:
    """Return the items of one output of the Responses API, or the parts of a content, as one message."""
    parts: list[Any] = []
    for item in items:
        content = item.get("content") if item["type"] == "message" else [item]
        parts += content if type(content) is list else [content]
    return [{"role": "assistant", "content": parts}]


def _sample(sample: Any) -> Any:
    """Return one sample of an answer as a message with the reason why it ended."""
    if type(sample) is not dict:
        return sample
    finish = _first(sample, ("finish_reason", "finishReason", "stop_reason", "done_reason"))
    made = dict(sample)
    content = sample.get("content")
    if type(content) is dict and "parts" in content:  # Gemini
        made = {**content}
    message = sample.get("message")
    if type(message) is dict:
        made = {**message}
        finish = finish or message.get("finish_reason")
        if not message.get("content") and sample.get("text"):
            made["content"] = sample["text"]
    elif content is None and (said := _first(sample, ("text", "response"))) is not None:
        made |= {"role": "assistant", "content": said}
    made["finish_reason"] = finish or langchain.finish_of(sample)
    return made


def _finish(reason: object) -> object:
    """Return a finish reason in the spelling of GenAI's conventions."""
    return reason.lower().replace("-", "_") if type(reason) is str else reason


def _first(value: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)
