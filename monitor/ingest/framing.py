"""Framing around a payload of any format: a schema registry's prefix, a CloudEvents envelope.

`unframe` takes both off, so a decoder sees a plain record: the payload as its value, the event's time as its
time, and the event's id in the header `ce_id`.

Confluent's wire format (docs.confluent.io, "Formats, Serializers, and Deserializers", wire format) is a zero
byte and a schema id of four bytes, big-endian; Protobuf has the path of its message behind it. A writer that
sends the schema's id in a header leaves the value as it is.

AWS Glue's (github.com/awslabs/aws-glue-schema-registry, `AWSSchemaRegistryConstants`) is the byte 3, one for
the compression (0 none, 5 zlib) and the 16 bytes of the schema version's UUID.
"""

import zlib

from monitor.errors import BadTrace
from monitor.ingest import cloudevents
from monitor.ingest.fields import Parse
from monitor.trace import Record

REASON = "invalid_framing"
_MAGIC = 0
_PREFIX = 5  # bytes: the magic one and the schema's id
_GLUE = 3
_GLUE_PREFIX = 18  # bytes: the version of the header, the compression and the UUID
_PLAIN, _ZLIB = 0, 5
_MAX_PATH = 16  # messages nested in messages; a .proto file has a handful
_JSON_STARTS = frozenset(b' \t\r\n{["')
_JSON_STARTED = frozenset(bytes([start]) for start in _JSON_STARTS)


def unframe(record: Record, parse: Parse, max_bytes: int, *, protobuf: bool = False) -> Record:
    """Return the record as its sender's format defines it. `protobuf` formats are binary, others JSON.

    Raises BadTrace: empty, too_large, invalid_framing, invalid_cloudevent, and what `parse` raises for the
    JSON of an envelope.
    """
    value = record.value
    if not value:
        raise BadTrace("empty", "no value; send the trace as the record's value")
    if len(value) > max_bytes:
        limit = f"ingest.max_record_bytes is {max_bytes}"
        raise BadTrace("too_large", f"{len(value)} bytes; {limit}: raise it or send less context")
    if value[0] == _MAGIC:
        value = _without_schema(value, protobuf=protobuf)
        record = record._replace(value=value)
    elif value[0] == _GLUE:
        value = _without_glue(value, max_bytes, protobuf=protobuf)
        record = record._replace(value=value)
    if record.headers or (not protobuf and cloudevents.HINT in value):
        return cloudevents.unwrap(record, value, parse, protobuf=protobuf)
    return record


def _without_schema(value: bytes, *, protobuf: bool) -> bytes:
    """Remove a schema registry's prefix. No JSON and no Protobuf message begins with a zero byte."""
    start = _PREFIX
    if protobuf:
        start = _behind_path(value)
    if len(value) <= start:
        raise BadTrace(REASON, "the value ends within or behind a schema registry's prefix; send a payload")
    if not protobuf and value[start] not in _JSON_STARTS:
        raise BadTrace(
            REASON,
            "the value is a schema registry's Avro or Protobuf; send it with the JSON Schema serializer, "
            "as JSON without a registry, or set the topic's format to a Protobuf one in ingest.formats",
        )
    return value[start:]


def _without_glue(value: bytes, max_bytes: int, *, protobuf: bool) -> bytes:
    """Remove AWS Glue's prefix, and its compression. Nothing else that is decoded begins with a byte 3."""
    compression = value[1] if len(value) > _GLUE_PREFIX else None
    if compression not in {_PLAIN, _ZLIB}:
        raise BadTrace(REASON, "the value begins like AWS Glue Schema Registry's, without a payload or UUID")
    payload = value[_GLUE_PREFIX:]
    if compression == _ZLIB:
        try:
            stream = zlib.decompressobj()
            payload = stream.decompress(payload, max_bytes + 1)
        except zlib.error:
            raise BadTrace(REASON, "what AWS Glue Schema Registry compressed is damaged") from None
        if len(payload) > max_bytes:
            limit = f"ingest.max_record_bytes is {max_bytes}"
            raise BadTrace("too_large", f"larger decompressed; {limit}: raise it or send less context")
    if protobuf or payload[:1] not in _JSON_STARTED:
        remedy = "send it with Glue's JSON serializer to a topic of a JSON format, or without a registry"
        raise BadTrace(REASON, f"the value is AWS Glue Schema Registry's Avro or Protobuf; {remedy}")
    return payload


def _behind_path(value: bytes) -> int:
    """Return the start of a Protobuf payload, after the path (count, indexes; zigzag varints; 0 is [0])."""
    count, at = _varint(value, _PREFIX)
    if not 0 <= count <= _MAX_PATH:
        raise BadTrace(REASON, "the path behind a schema registry's prefix is not a Protobuf message's")
    for _ in range(count):
        _, at = _varint(value, at)
    return at


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """Decode a zigzag varint of 32 bits; return it and where it ends."""
    number = 0
    for shift, byte in enumerate(value[at : at + 5]):
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return number >> 1 ^ -(number & 1), at + shift + 1
    raise BadTrace(REASON, "the value ends within a schema registry's prefix; send a payload")
