"""LangChain's and LlamaIndex's objects as they serialise themselves, to plain messages and documents.

Source: `langchain-core` 1.8 `load.dumpd` (constructors with `kwargs`), `model_dump` (fields with a `type`)
and `messages_to_dict` (`type` and `data`), as LangSmith, MLflow and OpenLLMetry keep them;
`llama-index-core` 0.14 `ChatMessage.model_dump` (`role` and `blocks`).
"""

from typing import Any

_ROLES = {
    "human": "user", "humanmessage": "user", "ai": "assistant", "aimessage": "assistant", "system": "system",
    "systemmessage": "system", "tool": "tool", "toolmessage": "tool", "function": "tool",
    "functionmessage": "tool", "chatmessage": "user",
}  # fmt: skip
_CARRIED = ("tool_call_id", "usage_metadata", "response_metadata")


def plain(value: Any) -> Any:
    """Return a value with each serialised object in it made plain; what is none stays as it is. Linear."""
    if type(value) is list:
        return [plain(item) for item in value]
    if type(value) is not dict:
        return value
    if value.get("type") == "constructor" and type(kwargs := value.get("kwargs")) is dict:
        path = value.get("id")
        name = path[-1] if type(path) is list and path and type(path[-1]) is str else ""
        return _message(name, kwargs) or plain(kwargs)
    if type(kind := value.get("type")) is str and "role" not in value:
        fields = value.get("data") if "data" in value else value
        if type(fields) is dict and "content" in fields and (made := _message(kind, fields)):
            return made
    if type(value.get("blocks")) is list and "role" in value:
        return _of_blocks(value)
    return {key: plain(item) for key, item in value.items()}


def _message(name: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return a message of the class or type that is named, in OpenAI's shape; None for other objects."""
    role = _ROLES.get(name.lower().removesuffix("chunk"))
    if role is None:
        return None
    named = fields.get("role")  # of a ChatMessage
    made = {"role": named if type(named) is str else role, "content": plain(fields.get("content"))}
    more = fields.get("additional_kwargs")
    if type(more) is not dict:
        more = {}
    calls = [
        call
        for key in ("tool_calls", "invalid_tool_calls")
        if type(listed := fields.get(key)) is list
        for call in listed
    ]
    if calls or type(more.get("tool_calls")) is list:
        made["tool_calls"] = calls or more["tool_calls"]
    elif "function_call" in more:
        made["function_call"] = more["function_call"]
    made |= {key: fields[key] for key in _CARRIED if key in fields}
    if reason := finish_of(fields):
        made["finish_reason"] = reason
    return made


def finish_of(fields: dict[str, Any]) -> Any:
    """Return why a message or a generation ended, as it says in its metadata; else None."""
    for key in ("response_metadata", "generation_info"):
        if type(said := fields.get(key)) is dict and (
            reason := said.get("finish_reason") or said.get("stop_reason") or said.get("stopReason")
        ):
            return reason
    return None


def _of_blocks(message: dict[str, Any]) -> dict[str, Any]:
    """Return LlamaIndex's message: its blocks as parts, and its calls."""
    parts = []
    for block in message["blocks"]:
        if type(block) is not dict:
            parts.append(block)
            continue
        kind = block.get("block_type")
        if kind == "tool_call":
            own, name, arguments = block.get("tool_call_id"), block.get("tool_name"), block.get("tool_kwargs")
            parts.append({"type": kind, "id": own, "name": name, "arguments": arguments})
        elif kind == "thinking":
            parts.append({"type": kind})
        else:
            parts.append({"type": kind, "text": block.get("text")})
    made = {"role": message["role"], "content": parts}
    more = message.get("additional_kwargs")
    if type(more) is dict:
        made |= {key: more[key] for key in ("tool_calls", "tool_call_id") if key in more}
    return made
