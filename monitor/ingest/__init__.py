"""Decoders: a record in, traces and spans out. A record that cannot be decoded raises BadTrace.

Around the payload of every format may be a schema registry's prefix or a CloudEvents envelope (`framing`).
docs/formats.md lists what each format and dialect takes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from monitor.config import Format, IngestConfig
from monitor.ingest import agento11y, kong, litellm, openai, signals, strict_json
from monitor.ingest.auto import recognise
from monitor.ingest.content_types import RECEIVED, by_content_type
from monitor.ingest.fields import Parse
from monitor.ingest.framing import unframe
from monitor.ingest.identifiers import KeptNames, Names
from monitor.ingest.native import KNOWN, NativeDecoder, NativeTrace, schema
from monitor.ingest.texts import Markers
from monitor.ingest.unused import Shapes, names_of, unused_names
from monitor.trace import Record, Span, Trace

__all__ = [
    "FORMATS",
    "PROTOBUF",
    "Decode",
    "KeptNames",
    "content_on",
    "decoder",
    "decoder_for",
    "schema",
    "unused",
]

Decode: TypeAlias = Callable[[Record], Sequence[Trace | Span]]

PROTOBUF: frozenset[str] = frozenset({"agento11y_proto", *signals.PROTOBUF.values()})
"""Formats that are binary."""
SHAPES: Mapping[str, Shapes] = {
    "native": {"": NativeTrace},
    "openai": openai.SHAPES,
    "litellm": litellm.SHAPES,
    "kong": kong.SHAPES,
    "agento11y": agento11y.SHAPES,
}
"""The keys that are read, for formats of typed JSON."""
_KNOWN = {name: KNOWN | names_of(shapes) for name, shapes in SHAPES.items()}


def decoder_for(
    config: IngestConfig,
    pseudonym: Callable[[str], str],
    received: Mapping[str, str] = MappingProxyType({}),
    kept: KeptNames | None = None,
) -> Decode:
    """Build the decoder of all topics; it picks by `record.topic`. See `decoder` for its errors.

    `received` maps signals to topics of the spool, whose records carry their content type. `kept` are the
    names that the configuration mentions.
    """
    names = {config.format, *config.formats.values()}
    if received:
        names |= set(RECEIVED.values())
    by_format = {name: decoder(name, config, pseudonym, kept) for name in names}
    default = by_format[config.format]
    by_topic = {topic: by_format[name] for topic, name in config.formats.items()}
    by_topic |= {topic: by_content_type(by_format, signal) for signal, topic in received.items()}
    if not by_topic:
        return default
    return lambda record: by_topic.get(record.topic, default)(record)


def decoder(
    name: Format, config: IngestConfig, pseudonym: Callable[[str], str], kept: KeptNames | None = None
) -> Decode:
    """Build the decoder of one format. `pseudonym` is the keyed function that replaces user ids.

    It raises BadTrace with a reason of a bounded set: those of `unframe` and of `strict_json.parse`,
    wrong_type, missing_field, out_of_range, and for OTLP those of `OtlpDecoder`; the detail names the field
    and never holds a value. For OTLP, a record's signal header overrides `name`; see `signals.by_signal`.
    """
    if name not in signals.FORMATS:
        return _unframed(name, config, pseudonym, kept)
    names = {name, *signals.PROTOBUF.values()}
    return signals.by_signal(name, {each: _unframed(each, config, pseudonym, kept) for each in names})


def _unframed(
    name: Format, config: IngestConfig, pseudonym: Callable[[str], str], kept: KeptNames | None
) -> Decode:
    plain = FORMATS[name](config, Names(pseudonym, kept))
    parse, max_bytes = _parse(config, _KNOWN.get(name, KNOWN)), config.max_record_bytes
    protobuf = name in PROTOBUF

    return lambda record: plain(unframe(record, parse, max_bytes, protobuf=protobuf))


def content_on(emitter: str) -> str:
    """Return how to switch on that an emitter, as in `Trace.emitter`, sends its texts."""
    from monitor.ingest import dialects

    return dialects.content_on(emitter)


def unused(name: str, config: IngestConfig, record: Record) -> Counter[str]:
    """Count what the format's decoder does not read of a record it decodes, by name; see `unused_names`.

    Of spans it counts the attributes of those that look like a model's call and are of no dialect.
    """
    parse = _parse(config, KNOWN)
    plain = unframe(record, parse, config.max_record_bytes, protobuf=name in PROTOBUF)
    value = plain.value or b""
    form = recognise(value) if name == "auto" else name
    if shapes := SHAPES.get(form):
        return unused_names(parse(value), shapes, parse)
    if form not in {"otlp_json", "otlp_proto"}:
        return Counter()
    from monitor.ingest import otlp, otlp_json, otlp_proto

    read = otlp_json.read if form == "otlp_json" else otlp_proto.spans
    return otlp.OtlpDecoder(read, config, Names(str)).foreign(plain)


def _native(config: IngestConfig, names: Names) -> Decode:
    return NativeDecoder(_parse(config, _KNOWN["native"]), names, Markers(config.redaction_markers)).decode


def _of_bodies(
    decode: Callable[..., tuple[Trace, ...]], name: str, config: IngestConfig, names: Names
) -> Decode:
    parse, markers = _parse(config, _KNOWN[name]), Markers(config.redaction_markers)
    return partial(decode, parse=parse, clean=names, markers=markers)


def _openai(config: IngestConfig, names: Names) -> Decode:
    return _of_bodies(openai.decode, "openai", config, names)


def _litellm(config: IngestConfig, names: Names) -> Decode:
    return _of_bodies(litellm.decode, "litellm", config, names)


def _kong(config: IngestConfig, names: Names) -> Decode:
    return _of_bodies(kong.decode, "kong", config, names)


def _agento11y(config: IngestConfig, names: Names) -> Decode:
    return _of_bodies(agento11y.decode, "agento11y", config, names)


def _agento11y_proto(config: IngestConfig, names: Names) -> Decode:
    from monitor.ingest import agento11y_proto

    return partial(agento11y_proto.decode, clean=names, markers=Markers(config.redaction_markers))


def _otlp_json(config: IngestConfig, names: Names) -> Decode:
    from monitor.ingest import otlp, otlp_json

    return otlp.OtlpDecoder(otlp_json.read, config, names).decode


def _otlp_proto(config: IngestConfig, names: Names) -> Decode:
    from monitor.ingest import otlp, otlp_proto

    return otlp.OtlpDecoder(otlp_proto.spans, config, names).decode


def _otlp_proto_logs(config: IngestConfig, names: Names) -> Decode:
    from monitor.ingest import otlp, otlp_proto

    return otlp.OtlpDecoder(otlp_proto.logs, config, names).decode


def _auto(config: IngestConfig, names: Names) -> Decode:
    """Recognise the format of each record by its keys: handy for trying out, not for production."""
    plain: dict[Format, Decode] = {
        name: make(config, names) for name, make in FORMATS.items() if name != "auto"
    }
    return lambda record: plain[recognise(record.value or b"")](record)


FORMATS: Mapping[Format, Callable[[IngestConfig, Names], Decode]] = {
    "native": _native,
    "otlp_json": _otlp_json,
    "otlp_proto": _otlp_proto,
    "otlp_proto_logs": _otlp_proto_logs,
    "openai": _openai,
    "litellm": _litellm,
    "kong": _kong,
    "agento11y": _agento11y,
    "agento11y_proto": _agento11y_proto,
    "auto": _auto,
}
"""Builders of decoders, by the format's name in the configuration."""


def _parse(config: IngestConfig, known: Collection[str]) -> Parse:
    return lambda raw: strict_json.parse(raw, config.max_depth, known)
