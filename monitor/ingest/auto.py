"""Which format a record is in, told by the keys of its object."""

import msgspec

from monitor.ingest.litellm import WRAPPER

_MARKS = (
    ("litellm", {WRAPPER}),
    ("litellm", {"call_type", "startTime"}),
    ("kong", {"started_at", "latencies"}),
    ("openai", {"request", "response"}),
    ("openai", {"request", "chunks"}),
    ("openai", {"request", "error"}),
)
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def recognise(value: bytes) -> str:
    """Name the format of a plain record: `native` for what shows no mark, so that its error says why."""
    try:
        keys = _keys(value).keys()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "litellm" if value.lstrip()[:1] == b"[" else "native"
    return next((name for name, marks in _MARKS if marks <= keys), "native")
