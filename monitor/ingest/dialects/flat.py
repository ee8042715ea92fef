"""Lists that a dialect flattens into attributes, such as `llm.input_messages.0.message.role`."""

from typing import Any

from monitor.ingest.wire import Attributes

_MAX_DIGITS = 6  # more elements than a record has bytes for


def unflatten(attributes: Attributes, prefix: str) -> list[Attributes]:
    """Return the elements of the list under `prefix`, which ends in a dot, each by the rest of its keys."""
    by_index: dict[int, Attributes] = {}
    start = len(prefix)
    for key, value in attributes.items():
        if key.startswith(prefix):
            index, _, rest = key[start:].partition(".")
            if index.isdecimal() and index.isascii() and len(index) <= _MAX_DIGITS:
                by_index.setdefault(int(index), {})[rest] = value
    return [by_index[index] for index in sorted(by_index)]


def tool_calls(message: Attributes, prefix: str, inner: str = "", function: str = "") -> list[dict[str, Any]]:
    """Return the tool calls flattened under `prefix`, in OpenAI's shape.

    `inner` is the prefix of each key of a call; name and arguments also have `function` after it.
    """
    return [
        {
            "id": call.get(f"{inner}id"),
            "name": call.get(f"{inner}{function}name"),
            "arguments": call.get(f"{inner}{function}arguments"),
        }
        for call in unflatten(message, prefix)
    ]
