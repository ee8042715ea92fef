"""Decoders: bytes of a record in, traces and spans out. What cannot be decoded raises BadTrace.

`FORMATS.md` lists every format and dialect with the fields that are taken.
"""

import re
from collections.abc import Callable, Sequence

from monitor.config import Format, IngestConfig
from monitor.ingest.native import NativeDecoder, schema
from monitor.trace import Record, Span, Trace

__all__ = ["Decode", "NativeDecoder", "decoder_for", "schema"]

Decode = Callable[[Record], Sequence[Trace | Span]]
_OTLP_JSON = re.compile(rb'\s*\{\s*"resource(?:Spans|Logs|_spans|_logs)"')


def decoder_for(config: IngestConfig, pseudonym: Callable[[str], str]) -> Decode:
    """Build the decoder of all topics; it picks by `record.topic`. It raises BadTrace as `FORMATS` do.

    `pseudonym` is the keyed function that replaces user ids.
    """
    built = {name: FORMATS[name](config, pseudonym) for name in {config.format, *config.formats.values()}}
    default = built[config.format]
    by_topic = {topic: built[name] for topic, name in config.formats.items()}
    return lambda record: by_topic.get(record.topic, default)(record)


def _native(config: IngestConfig, pseudonym: Callable[[str], str]) -> Decode:
    return NativeDecoder(config.max_record_bytes, config.max_depth, pseudonym).decode


def _otlp_json(config: IngestConfig, pseudonym: Callable[[str], str]) -> Decode:
    from monitor.ingest import otlp, otlp_json

    return otlp.OtlpDecoder(otlp_json.read, config, pseudonym).decode


def _otlp_proto(config: IngestConfig, pseudonym: Callable[[str], str]) -> Decode:
    from monitor.ingest import otlp, otlp_proto

    return otlp.OtlpDecoder(otlp_proto.spans, config, pseudonym).decode


def _otlp_proto_logs(config: IngestConfig, pseudonym: Callable[[str], str]) -> Decode:
    from monitor.ingest import otlp, otlp_proto

    return otlp.OtlpDecoder(otlp_proto.logs, config, pseudonym).decode


def _auto(config: IngestConfig, pseudonym: Callable[[str], str]) -> Decode:
    """Tell the formats apart by their first bytes: a convenience for trying out, not for production."""
    native, otlp_json, otlp_proto = (make(config, pseudonym) for make in (_native, _otlp_json, _otlp_proto))

    def decode(record: Record) -> Sequence[Trace | Span]:
        value = record.value or b""
        if value[:1] == b"\n":  # the tag of resource_spans; JSON hardly starts with a blank line
            return (native if value.lstrip()[:1] == b"{" else otlp_proto)(record)
        return (otlp_json if _OTLP_JSON.match(value) else native)(record)

    return decode


FORMATS: dict[Format, Callable[[IngestConfig, Callable[[str], str]], Decode]] = {
    "native": _native,
    "otlp_json": _otlp_json,
    "otlp_proto": _otlp_proto,
    "otlp_proto_logs": _otlp_proto_logs,
    "auto": _auto,
}
"""What makes the decoder of each format, by the name it has in the configuration."""
