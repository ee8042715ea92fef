"""What an application ties to its traces, under a prefix of its dialect: whose they are, and labels."""

from typing import Any

from monitor.ingest.dialects.values import opened
from monitor.ingest.fields import CONVERSATION, OWNERS, USER, plain
from monitor.ingest.spans import Reading
from monitor.ingest.wire import Attributes


def under(attributes: Attributes, prefix: str) -> Attributes:
    """Return the attributes under a prefix, by the rest of their names; texts in JSON are unquoted."""
    start = len(prefix)
    return {key[start:]: unquoted(value) for key, value in attributes.items() if key.startswith(prefix)}


def read_metadata(reading: Reading, found: Attributes) -> None:
    """Take user and conversation from metadata where the reading has none, and the rest as labels."""
    for field, names in (("user", USER), ("conversation", CONVERSATION)):
        name = next((name for name in names if plain(found.get(name))), None)
        if name is not None and not getattr(reading, field):
            setattr(reading, field, found[name])
    rest = {key: label for key, value in found.items() if key not in OWNERS and (label := _label(value))}
    if rest:
        reading.labels = rest | reading.labels


def unquoted(value: Any) -> Any:
    """Return the text that is a string in JSON, maybe cut off; any other value as it is."""
    if type(value) is str and len(value) > 1 and value[0] == '"':
        read, _ = opened(f"[{value}]" if value[-1] == '"' else f"[{value}")
        if type(read) is list and len(read) == 1 and type(read[0]) is str:
            return read[0]
    return value


def _label(value: Any) -> str:
    if type(value) is bool:
        return "true" if value else "false"
    return str(value) if type(value) is float else plain(value)
