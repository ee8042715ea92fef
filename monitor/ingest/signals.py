"""The signal that an OTLP record holds, if its sender names it in the header `otelcol.signal`.

A Collector's `kafka` exporter sets it with `signal_header: true`, so that signals may share a topic. The
bytes alone do not distinguish protobuf of logs from that of traces or metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from monitor.config import Format
from monitor.errors import BadTrace, Skipped
from monitor.ingest.auto import recognise
from monitor.trace import Record

HEADER: Final = "otelcol.signal"
PROTOBUF: Final[Mapping[bytes, Format]] = {b"traces": "otlp_proto", b"logs": "otlp_proto_logs"}
"""Signals that are judged, and the formats of their protobuf."""
FORMATS: Final[frozenset[Format]] = frozenset({"otlp_json", "auto", *PROTOBUF.values()})
"""Formats of topics on which the header counts."""
_UNJUDGED: Final = frozenset({b"metrics", b"profiles"})

_Decoded = TypeVar("_Decoded", bound=Sequence[object])


def by_signal(
    name: Format, decoders: Mapping[Format, Callable[[Record], _Decoded]]
) -> Callable[[Record], _Decoded]:
    """Build the decoder of a topic of format `name` from those of that format and of `PROTOBUF`'s.

    It raises Skipped, with the signal as its reason, for metrics and profiles; and BadTrace, unknown_signal,
    for what no Collector writes. A record without the header is of the topic's format.
    """
    own = decoders[name]

    def decode(record: Record) -> _Decoded:
        signal = dict(record.headers).get(HEADER) if record.headers else None
        if signal is None:
            return own(record)
        if signal in _UNJUDGED:
            raise Skipped(signal.decode())
        if signal not in PROTOBUF:
            raise BadTrace("unknown_signal", f"header {HEADER}: must be traces, logs, metrics or profiles")
        # JSON tells its signal by its keys.
        binary = name != "otlp_json" and (name != "auto" or recognise(record.value or b"") == "otlp_proto")
        return decoders[PROTOBUF[signal]](record) if binary else own(record)

    return decode
