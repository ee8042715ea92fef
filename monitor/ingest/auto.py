"""Recognises the format of a record by the keys of its object."""

import msgspec

from monitor.config import Format
from monitor.ingest.litellm import WRAPPER
from monitor.ingest.lookalikes import OTHERS, holds_generations, named_protobuf

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
        if value.lstrip()[:1] != b"[":
            return "native"
        return "otlp_json" if b'"traceId"' in value and named_protobuf(value) else "litellm"
    known = next((name for name, marks in _MARKS if marks <= keys), None)
    if known is None and "response" not in keys and any(marks <= keys for marks in OTHERS):
        return "otlp_json"  # whose error names them
    return known or "native"
