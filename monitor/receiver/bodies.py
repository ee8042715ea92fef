"""Bodies: plain bytes of what came, a check that they are what they should be, and parts that decoders take.

Nothing here makes more bytes of a body than a bound, whatever it claims to be.
"""

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from monitor.receiver import generations
from monitor.receiver.refusals import BodyRefused, Refusal, too_large

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
_GZIP, _ZLIB = 31, 15  # zlib's window bits for each wrapper
_WINDOW: Final = 32 * 2**20  # bytes; the largest that Go's encoder, a Collector's, asks for at any level
_CHUNK: Final = 2**16
_FEW: Final = 1000  # groups or scopes, whatever they hold
_LEAST: Final = 16  # bytes of each further one that holds anything; looking at hollow ones takes long
_GROWTH: Final = 2  # bodies of the largest size that one body may become when it is divided


def plain(body: bytes, encoding: str, limit: int) -> bytes:
    """Return the body of an encoding in ENCODINGS, never making more than a chunk over `limit` bytes of it.

    Raises BodyRefused for a body that is larger, is not of that encoding, or does not end with it.
    """
    return ENCODINGS[encoding](body, limit)


def _inflate(name: str, bits: int, body: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(bits)
    try:
        made = stream.decompress(body, limit + 1)
    except zlib.error:
        raise BodyRefused(Refusal.MALFORMED, f"the body is not {name}") from None
    if len(made) > limit:
        raise BodyRefused(Refusal.TOO_LARGE, too_large(limit))
    if not stream.eof or stream.unused_data:
        raise BodyRefused(Refusal.MALFORMED, f"the body is not one {name} stream, to its end")
    return made


def _zstd(body: bytes, limit: int) -> bytes:
    """Decompress one frame, twice: only a reader can be stopped, and only the other one tells of the end."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    try:
        size = 0
        with decompressor.stream_reader(io.BytesIO(body), read_across_frames=False) as reader:
            while chunk := reader.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise BodyRefused(Refusal.TOO_LARGE, too_large(limit))
        stream = decompressor.decompressobj()
        made: bytes = stream.decompress(body)
    except zstandard.ZstdError:
        raise BodyRefused(
            Refusal.MALFORMED, f"the body is not zstd with a window of at most {_WINDOW} bytes"
        ) from None
    if not stream.eof or stream.unused_data:
        raise BodyRefused(Refusal.MALFORMED, "the body is not one zstd frame, to its end")
    return made


def _identity(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise BodyRefused(Refusal.TOO_LARGE, too_large(limit))
    return body


ENCODINGS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    "identity": _identity,
    "gzip": partial(_inflate, "gzip", _GZIP),
    "deflate": partial(_inflate, "zlib", _ZLIB),
    "zlib": partial(_inflate, "zlib", _ZLIB),  # what a Collector calls it too
    "zstd": _zstd,
}
"""Content encodings, by HTTP's names; each function takes a body and the largest size."""


class _Names(NamedTuple):
    """Fields of a request that hold its groups by resource, their scopes, and the items of those."""

    groups: str
    scopes: str
    items: str


class _Slice(NamedTuple):
    """Items `begin` to before `end` of one scope."""

    group: int
    scope: int
    begin: int
    end: int


class _Field(NamedTuple):
    """A repeated field of a JSON object: the name it has there, empty where it is absent, and its items."""

    key: str
    items: list[Any]


class _Indivisible(Exception):  # noqa: N818 - no error: such a body stays whole
    """JSON that cannot be divided without losing or changing something."""


_PROTOBUF: Final = {
    "traces": _Names("resource_spans", "scope_spans", "spans"),
    "logs": _Names("resource_logs", "scope_logs", "log_records"),
}
_JSON: Final = {
    "traces": _Names("resourceSpans", "scopeSpans", "spans"),
    "logs": _Names("resourceLogs", "scopeLogs", "logRecords"),
}
_Items: TypeAlias = msgspec.json.Decoder[list[Any] | None]
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_objects: Final[_Items] = msgspec.json.Decoder(list[dict[str, msgspec.Raw]] | None)
_values: Final[_Items] = msgspec.json.Decoder(list[msgspec.Raw] | None)


class Divider:
    """Checks bodies and divides those with more than `most` spans or log records, which no decoder takes.

    The parts hold the same spans in the same order, each under its resource and scope, and are together at
    most twice `limit` bytes.
    """

    def __init__(self, most: int, limit: int) -> None:
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self._most = most
        self._limit = limit
        self._requests: Mapping[str, Any] = {
            "traces": ExportTraceServiceRequest,
            "logs": ExportLogsServiceRequest,
        }

    def parts(self, signal: str, content_type: str, body: bytes) -> Sequence[bytes]:
        """Return a body's parts, mostly itself; none when it holds nothing.

        Raises BodyRefused for what is not of the signal at all. JSON that is odd in detail stays whole, so
        that the decoder can say what is wrong with it.
        """
        if signal == generations.SIGNAL:
            return generations.parts(body, self._most, as_json=content_type == JSON)
        return self._of_json(signal, body) if content_type == JSON else self._of_protobuf(signal, body)

    def _of_protobuf(self, signal: str, body: bytes) -> Sequence[bytes]:
        from google.protobuf.message import DecodeError

        kind, names = self._requests[signal], _PROTOBUF[signal]
        try:
            request = kind.FromString(body)
        except DecodeError:
            raise BodyRefused(Refusal.MALFORMED, f"the body is not an {kind.__name__}") from None
        if not request.ByteSize():
            return ()
        groups = getattr(request, names.groups)
        most = _FEW + len(body) // _LEAST
        if len(groups) > most or sum(len(getattr(group, names.scopes)) for group in groups) > most:
            raise BodyRefused(Refusal.MALFORMED, "most of the body are groups or scopes that hold nothing")
        counts = [[len(getattr(scope, names.items)) for scope in getattr(g, names.scopes)] for g in groups]
        if sum(map(sum, counts)) <= self._most:
            return (body,)

        def encoded(part: Sequence[_Slice]) -> bytes:
            made, last = kind(), -1
            for number, scope, begin, end in part:
                whole = groups[number]
                if number != last:
                    group = getattr(made, names.groups).add(schema_url=whole.schema_url)
                    group.resource.CopyFrom(whole.resource)
                    last = number
                of = getattr(whole, names.scopes)[scope]
                own = getattr(group, names.scopes).add(schema_url=of.schema_url)
                own.scope.CopyFrom(of.scope)
                getattr(own, names.items).extend(getattr(of, names.items)[begin:end])
            part_body: bytes = made.SerializeToString()
            return part_body

        return self._bounded(map(encoded, divide(counts, self._most)))

    def _of_json(self, signal: str, body: bytes) -> Sequence[bytes]:
        try:
            request = _object.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise BodyRefused(Refusal.MALFORMED, "the body is not a JSON object") from None
        if not request:
            return ()
        if body.count(b"{") <= self._most:  # a span has at least its own
            return (body,)
        try:
            return self._divided(signal, request, body)
        except (_Indivisible, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return (body,)

    def _divided(self, signal: str, request: dict[str, Any], body: bytes) -> Sequence[bytes]:
        names, originals = _JSON[signal], _PROTOBUF[signal]
        groups = _opened(request, names.groups, originals.groups, _objects)
        most = _FEW + len(body) // _LEAST
        if len(groups.items) > most:
            raise _Indivisible
        scopes = [_opened(group, names.scopes, originals.scopes, _objects) for group in groups.items]
        if sum(len(scope.items) for scope in scopes) > most:
            raise _Indivisible
        leaves = [
            [_opened(each, names.items, originals.items, _values) for each in of.items] for of in scopes
        ]
        counts = [[len(leaf.items) for leaf in of] for of in leaves]
        if sum(map(sum, counts)) <= self._most:
            return (body,)
        if generations.repeats_keys(request, body):
            raise _Indivisible

        def encoded(part: Sequence[_Slice], others: Mapping[str, Any]) -> bytes:
            made: list[dict[str, Any]] = []
            last = -1
            for number, scope, begin, end in part:
                of = scopes[number]
                if number != last:
                    made.append({**groups.items[number], of.key: []})
                    last = number
                leaf = leaves[number][scope]
                made[-1][of.key].append({**of.items[scope], leaf.key: leaf.items[begin:end]})
            return msgspec.json.encode({**others, groups.key: made})

        parts = enumerate(divide(counts, self._most))
        return self._bounded(encoded(part, {} if number else request) for number, part in parts)

    def _bounded(self, parts: Iterator[bytes]) -> Sequence[bytes]:
        made, size = [], 0
        for part in parts:
            size += len(part)
            if size > _GROWTH * self._limit:
                text = "more than ingest.max_spans spans, and resources too large to be repeated in each part"
                raise BodyRefused(Refusal.TOO_LARGE, f"{text}: send smaller batches")
            made.append(part)
        return made


def divide(counts: Sequence[Sequence[int]], most: int) -> Iterator[Sequence[_Slice]]:
    """Divide the items of scopes in groups, `counts` of them, in their order into parts of at most `most`."""
    part: list[_Slice] = []
    room = most
    for group, scopes in enumerate(counts):
        for scope, count in enumerate(scopes):
            begin = 0
            while begin < count:
                end = min(count, begin + room)
                part.append(_Slice(group, scope, begin, end))
                room -= end - begin
                begin = end
                if not room:
                    yield part
                    part, room = [], most
    if part:
        yield part


def _opened(holder: dict[str, Any], name: str, original: str, items: _Items) -> _Field:
    """Decode a list that an object holds as raw JSON under one of two names, in its place."""
    keys = list({name, original} & holder.keys())
    if not keys:
        return _Field("", [])
    if len(keys) > 1:
        raise _Indivisible
    holder[keys[0]] = made = items.decode(holder[keys[0]]) or []
    return _Field(keys[0], made)
