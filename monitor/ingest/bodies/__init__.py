"""Bodies of requests and responses of model APIs, whole and streamed, as clients and gateways pass them on.

Each API is a module: `is_piece` recognises what it streams, `join` makes of that the body that would have
come whole, and `read` reads one into an `Answer`. Requests differ only in where messages stand (`requests`),
and parts of messages are read alike wherever they stand (`parts`).
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from monitor.errors import BadTrace
from monitor.ingest.bodies import (
    anthropic,
    completions,
    converse,
    gemini,
    others,
    parts,
    requests,
    responses,
)
from monitor.ingest.bodies.reading import Answer, Prompt, exchange_fields, lost_label
from monitor.ingest.bodies.shapes import Body, Request, id_of, kind_of
from monitor.ingest.bodies.streams import begun, events_of, items_of
from monitor.ingest.fields import Parse, convert, parse_within
from monitor.ingest.mending import Lost
from monitor.ingest.texts import FAILED
from monitor.trace import Document, Unreadable

__all__ = [
    "Answer", "Body", "Prompt", "Request", "answer_to", "exchange_fields", "failed_answer", "is_exchange",
    "is_stream", "lost_label", "prompt_of", "response_of",
]  # fmt: skip

_STREAMS: Final = (completions, anthropic, responses, gemini, converse, others)
_WHOLE: Final = (responses, converse)
"""Those whose streams hold events of other kinds too."""
_HEARD: Final = (responses, gemini)
"""Those that hold sessions, in which the user spoke."""
_STARTS: Final = ("{", "[", "data:", "event:", "id:", "retry:", ":")
"""Beginnings of JSON, and of server-sent events."""
_FOREIGN: Final = frozenset({"missing_field", "wrong_type", "invalid_json"})
_NO_TEXT: Final = frozenset({"embedding", "embeddings", "totalTokens", "responsesTokenCount", "predictions"})
"""Keys of responses that hold no text by nature: vectors, and counts of tokens."""
_ITEMS: Final = frozenset({
    "embedding", "b64_json", "url", "object", "flagged", "relevance_score", "revised_prompt",
})  # fmt: skip
"""Keys of the items in responses that list vectors, images, models or ranks."""
_FAILED: Final = frozenset({FAILED, FAILED.upper()})
_FLAT: Final = frozenset({"choices", "text"})
_ANSWERS: Final = frozenset({
    "choices", "output", "content", "candidates", "message", "error", "promptFeedback", "text", "response",
    "completion", "generation", "generated_text", "outputText", "generations", "outputs", "results",
})  # fmt: skip


def prompt_of(body: object, where: str, parse: Parse) -> Prompt:
    """Read a request's body: an object, its messages alone, or the JSON of either in a string, maybe cut off.

    A string that is no JSON is the prompt itself; anything else is none, and lost. Raises BadTrace naming
    `where`: what `parse` raises, apart from invalid_json.
    """
    cut = False
    if isinstance(body, str):
        try:
            body, cut = _opened(body, where, parse)
        except BadTrace as error:
            if error.reason != "invalid_json":
                raise
            body = {"prompt": body}
    if isinstance(body, list):
        body = {"messages": body}
    prompt = requests.read(body, where) if isinstance(body, dict) else Prompt(lost=[Lost(where, text=False)])
    if cut:
        prompt.unread = Unreadable.TRUNCATED
    return prompt


def is_exchange(response: object, parse: Parse) -> bool:
    """Return whether a response may be a model's answer rather than vectors, images, ranks or counts."""
    if isinstance(response, str) and response.lstrip()[:1] == "{" and '"choices"' not in response:
        try:
            response = parse(response.encode())
        except BadTrace:  # it is read later, as far as it goes
            return True
    if not isinstance(response, dict) or "choices" in response or "error" in response:
        return True
    if not _NO_TEXT.isdisjoint(response) or response.keys() == {"input_tokens"}:
        return not _ANSWERS.isdisjoint(response)
    for key in ("data", "results"):
        items = response.get(key)
        if isinstance(items, list) and _ANSWERS.isdisjoint(response.keys() - {"results"}):
            return not items or not all(isinstance(i, dict) and not _ITEMS.isdisjoint(i) for i in items)
    return True


def response_of(response: object, where: str, parse: Parse) -> Answer:
    """Read a response: a body, a list of chunks, or a string of one's JSON or of server-sent events.

    A string that is neither is the answer. Raises BadTrace naming `where` and the field; missing_field for a
    body that has no field of an answer.
    """
    cut = False
    if isinstance(response, list) and response and all(isinstance(chunk, str) for chunk in response):
        are_lines = any(chunk.lstrip().startswith(_STARTS) for chunk in response)
        response = ("\n" if are_lines else "").join(response)
    if isinstance(response, str):
        text = response.lstrip("\ufeff \t\r\n")
        if text.startswith(_STARTS[:2]):
            response, cut = _opened(text, where, parse)
        elif text.startswith(_STARTS) or not text:
            events, cut = events_of(text, parse)
            if cut and not events and "{" not in text:  # a text that begins like a stream
                return Answer(text=response)
            response = events
        else:
            return Answer(text=response)
    answer = _of_stream(response, where) if isinstance(response, list) else _of_body(response, where)
    if cut:
        answer.unread = Unreadable.TRUNCATED
    return answer


def answer_to(prompt: Prompt, response: object, where: str, parse: Parse) -> Answer:
    """Read a response; one of no known shape costs no more than itself where the prompt has a text.

    Raises BadTrace as `response_of` does for a response that is empty, or one that two readers may take for
    different ones.
    """
    try:
        return response_of(response, where, parse)
    except BadTrace as error:
        if error.reason not in _FOREIGN or not response or not any(m.content for m in prompt.messages):
            raise
    return Answer(unread=Unreadable.FOREIGN)


def failed_answer(response: object, where: str, parse: Parse) -> Answer:
    """Read the response of a call that failed, which may be the error page of whatever answered."""
    if isinstance(response, str) and not response.lstrip().startswith(_STARTS):
        response = None
    try:
        answer = response_of(response, where, parse) if response else Answer()
    except BadTrace:
        answer = Answer()
    answer.failed, answer.finish_reason = answer.failed or FAILED, FAILED
    return answer


def _opened(text: str, where: str, parse: Parse) -> tuple[object, bool]:
    """Return the JSON that a string holds, or its lines do, as far as it goes; and whether it was cut."""
    try:
        return parse_within(where, text, parse), False
    except BadTrace as error:
        if error.reason != "invalid_json":
            raise
        if text.startswith("{") and text.partition("\n")[0].rstrip().endswith("}"):
            lines, damaged = events_of(text, parse)
            if lines:
                return lines, damaged
        read = begun(text)
        if not read:
            raise
        return read, True


def is_stream(chunks: list[dict[str, Any]]) -> bool:
    """Return whether a list holds what an API streamed, piece by piece."""
    return any(any(map(api.is_piece, chunks)) for api in _STREAMS)


def _of_stream(chunks: list[Any], where: str) -> Answer:
    pieces = [chunk for chunk in chunks if isinstance(chunk, dict)]
    failed = next((error for piece in pieces if (error := _error_of(piece))), None)
    for api in _STREAMS:
        if some := [piece for piece in pieces if api.is_piece(piece)]:
            body = api.join(some if api not in _WHOLE else pieces)
            if failed and api is not responses:
                body.setdefault("error", failed)
            answer = _of_body(body, where)
            if api in _HEARD and (turns := api.heard(pieces)):
                answer.heard = Prompt()
                requests.add_turns(turns, answer.heard)
            return answer
    if len(pieces) == 1 and pieces[0].get("type") != FAILED:
        return _of_body(pieces[0], where)
    if failed:
        return _of_body({"error": failed}, where)
    raise BadTrace("missing_field", f"{where}: holds no chunk of a response; send them all")


def _error_of(piece: dict[str, Any]) -> Any:
    """Return the error that a piece of a stream tells: its own field, or the piece itself."""
    return piece.get("error") or ({"code": piece.get("code")} if piece.get("type") == FAILED else None)


def _of_body(value: object, where: str) -> Answer:
    lost: list[Lost] = []
    body = convert(
        _flat(value) if isinstance(value, dict) and "output" in value else value, Body, lost, where
    )
    answer = Answer(
        id=body.id or "",
        model=body.model or "",
        model_version=body.system_fingerprint or "",
        created=body.created if body.created is not None else body.created_at,
        usage=counts.usage() if (counts := body.usage or body.meta) else None,
        lost=lost,
    )
    if (error := body.error or body.kind) and error != "false":
        answer.failed = kind_of(error)
    if body.conversation:
        answer.conversation = id_of(body.conversation)
    if body.choices is not None:
        completions.read(body, answer)
    elif reader := next((read for has, read in _READERS if has(body)), None):
        reader(body, answer)
    elif not answer.failed:
        raise BadTrace(
            "missing_field",
            f"{where}: holds none of choices, output, content, candidates and error; send one",
        )
    if answer.finish_reason in _FAILED:
        answer.failed = answer.failed or FAILED
    if answer.failed:
        answer.finish_reason = FAILED
    if body.search_results or body.citations or body.vertex_ai_grounding_metadata:
        answer.documents = [*answer.documents, *_passages(body)]
    nothing = not (answer.text or answer.tool_calls or answer.left_out)
    if nothing and body.usage and body.usage.reasoned():
        answer.left_out = ["reasoning"]  # it took all tokens
    return answer


def _flat(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body whose answer stands under `output`, as Alibaba's and Replicate's do, with it on top."""
    output = body["output"]
    if isinstance(output, dict) and not output.keys().isdisjoint(_FLAT):
        return body | output
    if isinstance(output, str):
        return body | {"text": output}
    if isinstance(output, list) and output and all(isinstance(piece, str) for piece in output):
        return body | {"text": "".join(output), "output": None}
    return body


def _passages(body: Body) -> Iterator[Document]:
    """Yield what a search for the answer found, where it stands beside it."""
    for found in items_of(body.search_results):  # Perplexity's
        if found.get("snippet"):
            yield parts.document_of(found)
    for cited in items_of(body.citations):  # of Bedrock's knowledge bases
        yield from [parts.document_of(each) for each in items_of(cited.get("retrievedReferences"))]
    for grounds in items_of(body.vertex_ai_grounding_metadata):
        yield from parts.grounds_of(grounds)


_READERS: Final[tuple[tuple[Callable[[Body], bool], Callable[[Body, Answer], None]], ...]] = (
    (lambda body: body.candidates is not None or body.prompt_feedback is not None, gemini.read),
    (lambda body: isinstance(body.output, list), responses.read),
    (lambda body: isinstance(body.output, dict) and "message" in body.output, converse.read),
    (lambda body: body.content is not None, anthropic.read),
    (others.has_text, others.read),
)
