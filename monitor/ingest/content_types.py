"""Decoders of received records by the sender's content type, which is a header of the record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from monitor.config import Format
from monitor.errors import BadTrace
from monitor.trace import Record

RECEIVED: Final[Mapping[tuple[str, str], Format]] = {
    ("traces", "application/x-protobuf"): "otlp_proto",
    ("traces", "application/json"): "otlp_json",
    ("logs", "application/x-protobuf"): "otlp_proto_logs",
    ("logs", "application/json"): "otlp_json",
    ("generations", "application/x-protobuf"): "agento11y_proto",
    ("generations", "application/json"): "agento11y",
}
"""Signal and content type to the name of a format."""

_Decoded = TypeVar("_Decoded", bound=Sequence[object])


def by_content_type(
    decoders: Mapping[Format, Callable[[Record], _Decoded]], signal: str
) -> Callable[[Record], _Decoded]:
    """Build the decoder of one signal's topic from those by format; BadTrace for any other content type."""
    kinds = {kind.encode(): decoders[name] for (of, kind), name in RECEIVED.items() if of == signal}

    def decode(record: Record) -> _Decoded:
        decoder = kinds.get(dict(record.headers).get("content-type", b""))
        if decoder is None:
            raise BadTrace("content_type", "header content-type")
        return decoder(record)

    return decode
