"""Decoders: bytes of a record in, traces out. What cannot be decoded raises BadTrace."""

from collections.abc import Callable

from monitor.config import IngestConfig
from monitor.ingest.native import NativeDecoder, schema
from monitor.trace import Record, Trace

__all__ = ["NativeDecoder", "decoder_for", "schema"]


def decoder_for(
    config: IngestConfig, pseudonym: Callable[[str], str]
) -> Callable[[Record], tuple[Trace, ...]]:
    """Build the decoder of all topics; it picks by `record.topic`. See `NativeDecoder.decode` for its errors.

    `pseudonym` is the keyed function that replaces user ids.
    """
    decoders = {
        "native": NativeDecoder(config.max_record_bytes, config.max_depth, pseudonym).decode,
    }
    default = decoders[config.format]
    by_topic = {topic: decoders[name] for topic, name in config.formats.items()}
    return lambda record: by_topic.get(record.topic, default)(record)
