"""Decoders: bytes of a record in, traces out. What cannot be decoded raises BadTrace."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from monitor.config import IngestConfig
from monitor.ingest.native import NativeDecoder, schema
from monitor.ingest.received import by_content_type
from monitor.trace import Record, Trace

__all__ = ["NativeDecoder", "decoder_for", "schema"]


def decoder_for(
    config: IngestConfig,
    pseudonym: Callable[[str], str],
    received: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Record], tuple[Trace, ...]]:
    """Build the decoder of all topics; it picks by `record.topic`. See `NativeDecoder.decode` for its errors.

    `pseudonym` is the keyed function that replaces user ids; `received` maps signals to topics of the spool.
    """
    decoders: dict[str, Callable[[Record], tuple[Trace, ...]]] = {
        "native": NativeDecoder(config.max_record_bytes, config.max_depth, pseudonym).decode,
    }
    default = decoders[config.format]
    by_topic = {topic: decoders[name] for topic, name in config.formats.items()}
    by_topic |= {topic: by_content_type(decoders, signal) for signal, topic in received.items()}
    return lambda record: by_topic.get(record.topic, default)(record)
