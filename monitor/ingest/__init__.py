"""Decoders: a record in, traces out. What cannot be decoded raises BadTrace.

Around the payload of every format may be a schema registry's prefix or a CloudEvents envelope (`framing`).
What each format takes is in FORMATS.md.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeAlias

from monitor.config import IngestConfig
from monitor.ingest import kong, litellm, openai, strict_json
from monitor.ingest.auto import recognise
from monitor.ingest.fields import Identifiers, Parse
from monitor.ingest.framing import unframe
from monitor.ingest.native import KNOWN, NativeDecoder, NativeTrace, schema
from monitor.ingest.unused import Shapes, names_of, unused_names
from monitor.trace import Record, Trace

__all__ = ["PROTOBUF", "decoder_for", "decoders", "schema", "unused"]

Decode: TypeAlias = Callable[[Record], tuple[Trace, ...]]

PROTOBUF: frozenset[str] = frozenset()
"""Formats that are binary."""
SHAPES: Mapping[str, Shapes] = {
    "native": {"": NativeTrace},
    "openai": openai.SHAPES,
    "litellm": litellm.SHAPES,
    "kong": kong.SHAPES,
}
"""Of formats of typed JSON, what is read."""
_KNOWN = {name: KNOWN | names_of(shapes) for name, shapes in SHAPES.items()}


def decoders(config: IngestConfig, pseudonym: Callable[[str], str]) -> dict[str, Decode]:
    """Build the decoder of each format, by its name in the configuration.

    `pseudonym` is the keyed function that replaces user ids. All raise BadTrace with a reason of a bounded
    set: those of `unframe`, of `strict_json.parse`, and wrong_type, missing_field, out_of_range; the detail
    names the field and never holds a value.
    """
    clean = Identifiers(pseudonym)
    plain: dict[str, Decode] = {
        "native": NativeDecoder(_parse(config, _KNOWN["native"]), clean).decode,
        "openai": partial(openai.decode, parse=_parse(config, _KNOWN["openai"]), clean=clean),
        "litellm": partial(litellm.decode, parse=_parse(config, _KNOWN["litellm"]), clean=clean),
        "kong": partial(kong.decode, parse=_parse(config, _KNOWN["kong"]), clean=clean),
    }
    plain["auto"] = lambda record: plain[recognise(record.value or b"")](record)
    return {name: _framed(config, name, decode) for name, decode in plain.items()}


def decoder_for(config: IngestConfig, pseudonym: Callable[[str], str]) -> Decode:
    """Build the decoder of all topics; it picks by `record.topic`. See `decoders` for its errors."""
    by_format = decoders(config, pseudonym)
    default = by_format[config.format]
    by_topic = {topic: by_format[name] for topic, name in config.formats.items()}
    return lambda record: by_topic.get(record.topic, default)(record)


def unused(name: str, config: IngestConfig, record: Record) -> Counter[str]:
    """Count what the format's decoder does not read of a record it decodes, by name; see `unused_names`.

    Empty for formats that are not typed JSON.
    """
    parse = _parse(config, KNOWN)
    if name in PROTOBUF:
        return Counter()
    value = unframe(record, parse, config.max_record_bytes).value or b""
    shapes = SHAPES.get(recognise(value) if name == "auto" else name)
    return unused_names(parse(value), shapes, parse) if shapes else Counter()


def _parse(config: IngestConfig, known: Collection[str]) -> Parse:
    return lambda raw: strict_json.parse(raw, config.max_depth, known)


def _framed(config: IngestConfig, name: str, decode: Decode) -> Decode:
    parse, max_bytes, protobuf = (
        _parse(config, _KNOWN.get(name, KNOWN)),
        config.max_record_bytes,
        name in PROTOBUF,
    )
    return lambda record: decode(unframe(record, parse, max_bytes, protobuf=protobuf))
