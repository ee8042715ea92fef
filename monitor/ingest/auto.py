"""Recognises the format of a record by the keys of its object."""

import msgspec

from monitor.config import Format
from monitor.ingest.litellm import WRAPPER
from monitor.ingest.lookalikes import holds_generations

_MARKS: tuple[tuple[Format, set[str]], ...] = (
    *(("otlp_json", {key}) for key in ("resourceSpans", "resourceLogs", "resource_spans", "resource_logs")),
    ("litellm", {WRAPPER}),
    ("litellm", {"call_type", "startTime"}),
    ("kong", {"started_at", "latencies"}),
    ("agento11y", {"generations"}),
    ("openai", {"request", "response"}),
    ("openai", {"request", "chunks"}),
    ("openai", {"request", "error"}),
)
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def recognise(value: bytes) -> Format:
    """Name the format of a plain record; without any mark it is `native`, whose error then says why.

    Protobuf is taken for spans; logs look the same.
    """
    if value[:1] == b"\n" and value.lstrip()[:1] not in (b"{", b"["):  # the tag of resource_spans
        return "agento11y_proto" if holds_generations(value) else "otlp_proto"
    try:
        keys = _keys(value).keys()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "litellm" if value.lstrip()[:1] == b"[" else "native"
    return next((name for name, marks in _MARKS if marks <= keys), "native")
