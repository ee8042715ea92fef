"""Lists that a dialect flattens into attributes, such as `llm.input_messages.0.message.role`.

A Collector flattens any attribute (`flatten` of its transform processor): lists and objects of every depth.
"""

from typing import Any

from monitor.ingest.wire import Attributes

_MAX_DIGITS = 6  # more elements than a record has bytes for
_MAX_DEPTH = 64


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


def nested(attributes: Attributes, names: tuple[str, ...]) -> Attributes:
    """Return the attributes of these names that were flattened, as lists and objects; empty if none was."""
    begins = tuple([f"{name}." for name in names])
    made: Attributes = {}
    for key, value in attributes.items():
        if key.startswith(begins):
            name = next(name for name in names if key.startswith(f"{name}."))
            *path, last = key[len(name) + 1 :].split(".", _MAX_DEPTH)
            at = made.setdefault(name, {})
            for part in path:
                inner = at.get(part)
                if type(inner) is not dict:
                    inner = at[part] = {} if inner is None else {"": inner}
                at = inner
            at[last] = value
    return {name: _listed(value) for name, value in made.items()}


def _listed(value: Any) -> Any:
    """Return an object whose keys are places as a list, in their order; inner ones too."""
    if type(value) is not dict:
        return value
    if all(key.isdecimal() and key.isascii() and len(key) <= _MAX_DIGITS for key in value):
        return [_listed(value[key]) for key in sorted(value, key=int)]
    return {key: _listed(inner) for key, inner in value.items()}
