"""Attributes that an OpenTelemetry Collector masked or removed before it sent a span.

Source: `processor/redactionprocessor` 0.165: with `summary: debug` a span names them in
`redaction.masked.keys` and `redaction.redacted.keys`, separated by commas. A value masked whole is asterisks
or the digest of a hash function.
"""

import re
from typing import Any, Final

from msgspec.structs import replace

from monitor.ingest.spans import Reading
from monitor.ingest.texts import NOTHING_ANSWERED, NOTHING_ASKED
from monitor.trace import Document, StepKind, Unreadable

MASKED: Final = "redaction.masked.keys"
REMOVED: Final = "redaction.redacted.keys"
_OPAQUE = re.compile(r"\*+|[0-9a-f]{32,128}")
_PROMPT = ("input", "prompt", "instructions", "messages", "llm_request")
_RESPONSE = ("output", "completion", "response", "choice", "result")
_RETURNED = (*_RESPONSE, "documents", "records")
_MARKER = "****"  # what the processor leaves, by `ingest.redaction_markers`


def unmasked(attributes: dict[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the attributes that were not masked whole, and the names of the others and of removed ones."""
    names = set(_names(attributes.get(REMOVED)))
    for name in _names(attributes.get(MASKED)):
        value = attributes.get(name)
        if type(value) is str and _OPAQUE.fullmatch(value.strip('"')):
            names.add(name)
    if not names:
        return attributes, frozenset()
    return {key: value for key, value in attributes.items() if key not in names}, frozenset(names)


def note_masked(reading: Reading, names: frozenset[str]) -> None:
    """Say of each side without text whose attributes were masked that it was redacted.

    What a tool or a retrieval returned has the Collector's marker in its place.
    """
    if reading.kind is StepKind.TOOL:
        if not reading.output and _among(names, _RETURNED):
            reading.output = _MARKER
        return
    if reading.kind is StepKind.RETRIEVAL:
        if not reading.documents and _among(names, _RETURNED):
            reading.documents = (Document("", _MARKER),)
        return
    if not reading.asked.has_text() and _among(names, _PROMPT):
        reading.asked = replace(NOTHING_ASKED, unread=Unreadable.REDACTED)
    answered = reading.answered
    if not (answered.response or answered.tool_calls) and _among(names, _RESPONSE):
        reading.answered = replace(NOTHING_ANSWERED, finish=answered.finish, unread=Unreadable.REDACTED)


def _among(names: frozenset[str], parts: tuple[str, ...]) -> bool:
    return any(part in name.lower() for name in names for part in parts)


def _names(value: Any) -> list[str]:
    return [name.strip() for name in value.split(",")] if type(value) is str else []
