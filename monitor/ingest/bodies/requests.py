"""Reads a request's body into a `Prompt`, whichever API it is of: they differ in where messages stand."""

from typing import Any, Final

from monitor.ingest.bodies import parts
from monitor.ingest.bodies.reading import Prompt
from monitor.ingest.bodies.shapes import Request, Template, id_of
from monitor.ingest.fields import CONVERSATION, OWNERS, USER, convert, plain, role_of, text_of
from monitor.ingest.mending import Lost
from monitor.trace import Message, Unreadable

_SYSTEM: Final = ("system", "preamble", "systemInstruction", "system_instruction", "instructions")
_TURNS: Final = ("messages", "chat_history", "contents", "input", "message", "inputs", "inputText")
_INNER: Final = ("messages", "prompt")
_CONTENTS: Final = ("content", "parts", "message", "text")
_ELSEWHERE: Final = ("refusal", "tool_plan")
"""Where else an assistant's turn may have a text."""


def read(body: Any, where: str) -> Prompt:
    """Read a request's body, an object. Raises BadTrace naming `where` for anything else."""
    if "input" in body or "config" in body:
        body = _flat(body)
    lost: list[Lost] = []
    request = convert(body, Request, lost, where)
    prompt = Prompt(
        model=request.model or request.model_id or "",
        user=request.safety_identifier or request.user or "",
        metadata=request.metadata or {},
        lost=lost,
    )
    for name in _SYSTEM:
        if name in body:
            _add_system(body[name], prompt)
    for name in _TURNS:
        if name in body:
            add_turns(body[name], prompt)
    if request.prompt is not None:
        _add_prompt(request.prompt, prompt)
        _add_prompt(request.suffix or [], prompt)
    if type(request.documents) is list:
        prompt.documents += [parts.document_of(item) for item in request.documents if item]
    prompt.conversation = id_of(request.conversation)
    if prompt.metadata:
        _take_owners(prompt)
    return prompt


def _flat(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body whose prompt stands under `input` (as Alibaba's does) or `config`, with it on top."""
    for name in ("input", "config"):
        inner = body.get(name)
        if type(inner) is dict and (name == "config" or any(map(inner.get, _INNER))):
            body = {key: value for key, value in body.items() if key != name} | inner
    return body


def _take_owners(prompt: Prompt) -> None:
    """Take user and conversation out of the metadata, where applications and Anthropic's API have them."""
    held = prompt.metadata
    prompt.user = prompt.user or next(filter(None, [plain(held.get(name)) for name in USER]), "")
    prompt.conversation = prompt.conversation or next(
        filter(None, [plain(held.get(name)) for name in CONVERSATION]), ""
    )
    prompt.metadata = {key: value for key, value in held.items() if key not in OWNERS}


def _add_prompt(sent: str | list[Any] | Template, prompt: Prompt) -> None:
    """Add the prompt of a text completion, or what was filled into a stored one."""
    match sent:
        case str(text):
            prompt.messages.append(Message("user", text))
        case list(texts):  # a batch of prompts; a prompt of token numbers has no text
            prompt.messages += [Message("user", text) for text in texts if isinstance(text, str)]
            prompt.left_out += ["tokens" for text in texts if not isinstance(text, str)]
        case Template() as stored:
            prompt.name, prompt.version = stored.id or "", stored.version or ""
            filled = parts.read([v for v in (stored.variables or {}).values() if isinstance(v, str | dict)])
            prompt.messages += [Message("user", text) for text in filled.texts]
            prompt.left_out += filled.left_out


def add_turns(turns: Any, prompt: Prompt, role: str = "user") -> None:
    """Add messages of any shape, and items of the Responses API; `role` is the one where none is named."""
    for turn in turns if type(turns) is list else [turns]:
        if (
            type(turn) is dict
            and type(turn.get("content")) is str
            and type(turn.get("role")) is str
            and "images" not in turn
        ):
            prompt.messages.append(Message(role_of(turn["role"]), turn["content"]))  # the usual case
        elif type(turn) is not dict:
            if turn is not None:
                prompt.messages.append(Message(role, text_of(turn)))
        elif _is_item(turn):
            _add_item(turn, prompt, role)
        else:
            _add_turn(turn, prompt, role)


def _is_item(turn: dict[str, Any]) -> bool:
    """Return whether this is an item or a part rather than a message."""
    if turn.get("role") is not None or turn.get("type") == "message":
        return False
    return type(turn.get("type")) is str or not any(key in turn for key in _CONTENTS[:3])


def _add_item(item: dict[str, Any], prompt: Prompt, role: str) -> None:
    content = parts.read(item)
    prompt.left_out += content.left_out
    prompt.documents += content.documents
    # The exchange that made a call was judged with it; results that came apart are read here.
    prompt.messages += [Message("tool", result.text) for result in content.results]
    prompt.messages += [Message(role, text) for text in content.texts]


def _add_turn(turn: dict[str, Any], prompt: Prompt, role: str) -> None:
    role = role_of(turn["role"]) if turn.get("role") else role
    value = next((turn[key] for key in _CONTENTS if turn.get(key) is not None), None)
    content = parts.read(value)
    prompt.left_out += content.left_out
    prompt.documents += content.documents
    prompt.messages += [Message("tool", result.text) for result in content.results]
    if content.results and not content.texts:
        return
    others = (turn[key] for key in _ELSEWHERE if type(turn.get(key)) is str)
    text = "\n".join(content.texts) or next(others, "")
    if role == "tool" and not text:  # Cohere's results are documents
        text = "\n".join([document.content for document in content.documents])
    pictures = turn.get("images")  # Ollama's stand beside the text
    if pictures:
        prompt.left_out += ["image"] * (len(pictures) if type(pictures) is list else 1)
    if role in {"user", "system"} and not (type(value) is str or text or pictures or content.held()):
        prompt.unread = Unreadable.NO_CONTENT  # its place is there, and nothing in it
    prompt.messages.append(Message(role, text))


def _add_system(value: Any, prompt: Prompt) -> None:
    """Add instructions: a text, its parts, an object with parts, or whole messages."""
    if type(value) is str:
        prompt.messages.append(Message("system", value))
        return
    if type(value) is list and any(type(turn) is dict and "role" in turn for turn in value):
        add_turns(value, prompt, "system")
        return
    if type(value) is dict:
        value = next((value[key] for key in ("parts", "content") if key in value), value)
    content = parts.read(value)
    prompt.left_out += content.left_out
    prompt.documents += content.documents
    if content.texts:
        prompt.messages.append(Message("system", "\n".join(content.texts)))
