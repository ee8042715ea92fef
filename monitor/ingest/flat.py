"""Lists that a dialect flattens into attributes, such as `llm.input_messages.0.message.role`."""

from typing import Any

from monitor.ingest.spans import Attributes

_MAX_DIGITS = 6  # more elements than a record has bytes for


def unflatten(attributes: Attributes, prefix: str) -> list[Attributes]:
    """Return the elements of the list under `prefix`, which ends in a dot, each by the rest of its keys."""
    found: dict[int, Attributes] = {}
    start = len(prefix)
    for key, value in attributes.items():
        if key.startswith(prefix):
            index, _, rest = key[start:].partition(".")
            if index.isdecimal() and index.isascii() and len(index) <= _MAX_DIGITS:
                found.setdefault(int(index), {})[rest] = value
    return [found[index] for index in sorted(found)]


def tool_calls(message: Attributes, prefix: str, inner: str = "", function: str = "") -> list[dict[str, Any]]:
    """Return the tool calls flattened under `prefix`, in OpenAI's shape.

    `inner` stands before each key of a call, `function` after it before the name and the arguments.
    """
    return [
        {
            "id": call.get(f"{inner}id"),
            "name": call.get(f"{inner}{function}name"),
            "arguments": call.get(f"{inner}{function}arguments"),
        }
        for call in unflatten(message, prefix)
    ]
