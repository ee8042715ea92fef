"""Gemini's generateContent. Source: ai.google.dev, "GenerateContentResponse"; Vertex AI's is the same."""

from collections.abc import Sequence
from typing import Any, Final

from monitor.ingest.bodies import parts
from monitor.ingest.bodies.reading import Answer
from monitor.ingest.bodies.shapes import Body
from monitor.ingest.bodies.streams import first_of, items_of
from monitor.ingest.fields import plain
from monitor.trace import Document, ToolCall

_ALONGSIDE: Final = {"finishReason": "finish_reason", "groundingMetadata": "grounding_metadata"}

_LAST: Final = (
    "usageMetadata", "modelVersion", "responseId", "promptFeedback", "usage_metadata", "model_version",
    "response_id",
)  # fmt: skip
_PIECES: Final = frozenset({"candidates", "usageMetadata", "usage_metadata", "serverContent", "toolCall"})


def is_piece(chunk: dict[str, Any]) -> bool:
    """Return whether a chunk is one of a streamed response."""
    return not _PIECES.isdisjoint(chunk)


def read(body: Body, answer: Answer) -> None:
    """Read the candidates: the first is the response, the others are alternatives."""
    usage = body.usage_metadata or body.usage_metadata_
    answer.id = answer.id or body.response_id or body.response_id_ or ""
    answer.model = answer.model or body.model_version or body.model_version_ or ""
    answer.usage = answer.usage or (usage.usage() if usage else None)
    texts: list[str] = []
    calls: list[ToolCall] = []
    documents: list[Document] = []
    for n, candidate in enumerate(items_of(body.candidates)):
        found = parts.read(_parts(candidate))
        texts.append("".join(found.texts))
        answer.left_out += found.left_out
        calls += found.answered_calls()
        documents += parts.grounds_of(_either(candidate, "groundingMetadata"))
        if not n:
            answer.finish_reason = plain(_either(candidate, "finishReason"))
    if not texts and type(body.prompt_feedback) is dict and body.prompt_feedback.get("blockReason"):
        answer.finish_reason = "content_filter"
    answer.tool_calls, answer.documents = calls, documents
    answer.text = texts[0] if texts else ""
    answer.alternatives = [text for text in texts[1:] if text]


def join(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that would have come without streaming."""
    body = {key: first_of(chunk.get(key) for chunk in reversed(chunks)) for key in _LAST}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for n, candidate in enumerate(items_of(chunk.get("candidates")) or _live(chunk)):
            at = candidate.get("index")
            index = at if type(at) is int else n
            whole = candidates.setdefault(index, {"content": {"parts": []}})
            some = _parts(candidate)
            whole["content"]["parts"] += some if type(some) is list else [] if some is None else [some]
            for key in _ALONGSIDE:
                if value := _either(candidate, key):
                    whole[key] = value
    body["candidates"] = [candidates[index] for index in sorted(candidates)]
    return {key: value for key, value in body.items() if value is not None}


def heard(chunks: Sequence[dict[str, Any]]) -> list[Any]:
    """Return what the user said in a live session."""
    said = [text for chunk in chunks if (text := _spoken(chunk.get("serverContent"), "inputTranscription"))]
    return [{"role": "user", "content": "".join(said)}] if said else []


def _live(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a piece of a live session as a candidate: its parts, transcript and calls."""
    content, called = chunk.get("serverContent"), chunk.get("toolCall")
    turn = content.get("modelTurn") if type(content) is dict else None
    spoken = turn.get("parts") if type(turn) is dict else None
    found = list(spoken) if type(spoken) is list else []
    if text := _spoken(content, "outputTranscription"):
        found.append({"text": text})
    calls = items_of(called.get("functionCalls")) if type(called) is dict else []
    found += [{"functionCall": call} for call in calls]
    return [{"content": {"parts": found}}] if found else []


def _spoken(content: Any, key: str) -> str:
    transcript = content.get(key) if type(content) is dict else None
    text = transcript.get("text") if type(transcript) is dict else None
    return text if type(text) is str else ""


def _either(candidate: dict[str, Any], key: str) -> Any:
    """Return a field by its name in the API, or by that in Google's client for Python."""
    return candidate.get(key) or candidate.get(_ALONGSIDE[key])


def _parts(candidate: dict[str, Any]) -> Any:
    content = candidate.get("content")
    if type(content) is dict:
        return content.get("parts") if "parts" in content else content.get("text")
    return candidate.get("output") if content is None else content
