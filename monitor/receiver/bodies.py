"""Bodies: plain bytes of what came, a check that they are what they should be, and parts that decoders take.

Nothing here makes more bytes of a body than a bound, whatever it claims to be. A message of two bytes takes
up to ninety once it is decoded, so protobuf is walked first, and only its parts are decoded, one by one.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from monitor.receiver import generations
from monitor.receiver.dividing import Slice, divide
from monitor.receiver.refusals import BodyRefused, Refusal, too_large
from monitor.receiver.walking import FEW, HOLLOW, LEAST, field, holder, walk

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
_GZIP, _ZLIB = 31, 15  # zlib's window bits for each wrapper
_WINDOW: Final = 32 * 2**20  # bytes; the largest that Go's encoder, a Collector's, asks for at any level
_CHUNK: Final = 2**16
_LEAST_JSON: Final = 64  # bytes of each group, scope or span but the first few, on average
_OBJECT: Final = re.compile(rb'\{\s*["}]')  # where one begins; one inside of a text has its quotes escaped
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


class _Field(NamedTuple):
    """A repeated field of a JSON object: the name it has there, empty where it is absent, and its items."""

    key: str
    items: list[Any]


class _Indivisible(Exception):  # noqa: N818 - no error: such a body stays whole
    """JSON that cannot be divided without losing or changing something."""


_ORIGINALS: Final = {
    "traces": _Names("resource_spans", "scope_spans", "spans"),
    "logs": _Names("resource_logs", "scope_logs", "log_records"),
}
_JSON: Final = {
    "traces": _Names("resourceSpans", "scopeSpans", "spans"),
    "logs": _Names("resourceLogs", "scopeLogs", "logRecords"),
}
_GROUPS, _SCOPES, _ITEMS = 1, 2, 2  # numbers of these fields in protobuf, of traces and of logs
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_values: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)


class Divider:
    """Checks bodies, and divides those of more than `most` spans or log records, or more than `size` bytes.

    The parts hold the same spans in the same order, each under its resource and scope, and are together at
    most twice `limit` bytes. One span may have up to `largest` bytes.
    """

    def __init__(self, most: int, limit: int, size: int, largest: int) -> None:
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self._most = most
        self._limit = limit
        self._size = size
        self._largest = largest
        self._requests: Mapping[str, Any] = {
            "traces": ExportTraceServiceRequest,
            "logs": ExportLogsServiceRequest,
        }

    def parts(self, signal: str, content_type: str, body: bytes) -> Sequence[bytes]:
        """Return a body's parts, mostly itself; none when it holds nothing.

        Raises BodyRefused for what is not of the signal at all, and for what is too large for a record and
        cannot be divided. JSON that is odd in detail stays whole, so that the decoder can say what is wrong.
        """
        if content_type == JSON:
            _refuse_hollow_json(body)
        if signal == generations.SIGNAL:
            made = generations.parts(body, self._most, self._size, as_json=content_type == JSON)
        else:
            made = self._of_json(signal, body) if content_type == JSON else self._of_protobuf(signal, body)
        if max(map(len, made), default=0) > self._largest:
            text = f"a span, or all that cannot be divided, is larger than {self._largest} bytes"
            raise BodyRefused(
                Refusal.TOO_LARGE, f"{text}, see ingest.max_record_bytes: send less in one span"
            )
        return made

    def _of_protobuf(self, signal: str, body: bytes) -> Sequence[bytes]:
        from google.protobuf.message import DecodeError

        kind = self._requests[signal]
        parts: Sequence[bytes] = (body,) if body else ()
        groups = holder(body, 0, len(body), _GROUPS)
        scopes = [holder(body, begin, end, _SCOPES) for _, begin, end in groups.items]
        leaves = [[holder(body, begin, end, _ITEMS) for _, begin, end in scope.items] for scope in scopes]
        sizes = [[[end - begin for begin, _, end in leaf.items] for leaf in of] for of in leaves]
        count = sum(len(leaf) for of in sizes for leaf in of)
        if count > FEW + len(body) // LEAST:
            raise BodyRefused(Refusal.MALFORMED, HOLLOW)

        def encoded(part: Sequence[Slice]) -> bytes:
            made: list[list[bytes]] = []
            last = -1
            for number, scope, begin, end in part:
                leaf = leaves[number][scope]
                own = [leaf.others, *(body[at:to] for at, _, to in leaf.items[begin:end])]
                if number != last:
                    made.append([scopes[number].others])
                    last = number
                made[-1].append(field(_SCOPES, own))
            return b"".join(field(_GROUPS, group) for group in made)

        if count > self._most or len(body) > self._size:
            parts = self._bounded(map(encoded, divide(sizes, self._most, self._size))) or parts
        for part in parts:
            if len(part) > self._size:
                _refuse_hollow(part)
            try:
                kind.FromString(part)
            except DecodeError:
                text = f"the body is not an {kind.__name__}"
                raise BodyRefused(Refusal.MALFORMED, text) from None
        return parts

    def _of_json(self, signal: str, body: bytes) -> Sequence[bytes]:
        try:
            request = _object.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise BodyRefused(Refusal.MALFORMED, "the body is not a JSON object") from None
        if not request:
            return ()
        if body.count(b"{") <= self._most and len(body) <= self._size:  # a span has at least its own
            return (body,)
        try:
            return self._divided(signal, request, body)
        except (_Indivisible, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return (body,)

    def _divided(self, signal: str, request: dict[str, Any], body: bytes) -> Sequence[bytes]:
        names, originals = _JSON[signal], _ORIGINALS[signal]
        most = FEW + len(body) // _LEAST_JSON
        groups = _opened(request, names.groups, originals.groups, most)
        scopes = [_opened(group, names.scopes, originals.scopes, most) for group in groups.items]
        leaves = [
            [_opened(each, names.items, originals.items, most, whole=True) for each in of.items]
            for of in scopes
        ]
        sizes = [[[memoryview(item).nbytes for item in leaf.items] for leaf in of] for of in leaves]
        if sum(len(leaf) for of in sizes for leaf in of) <= self._most and len(body) <= self._size:
            return (body,)
        if generations.repeats_keys(request, body):
            raise _Indivisible

        def encoded(part: Sequence[Slice], others: Mapping[str, Any]) -> bytes:
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

        parts = enumerate(divide(sizes, self._most, self._size))
        return self._bounded(encoded(part, {} if number else request) for number, part in parts) or (body,)

    def _bounded(self, parts: Iterator[bytes]) -> Sequence[bytes]:
        made, size = [], 0
        for part in parts:
            size += len(part)
            if size > _GROWTH * self._limit:
                text = "more than ingest.max_spans spans or ingest.max_record_bytes bytes, and resources too"
                raise BodyRefused(
                    Refusal.TOO_LARGE, f"{text} large to be repeated in each part: send smaller batches"
                )
            made.append(part)
        return made


def _refuse_hollow(part: bytes) -> None:
    """Refuse a part with a single large span if most of the span's own fields hold nothing."""
    levels: Iterable[tuple[int, int]] = [(0, len(part))]
    for number in (_GROUPS, _SCOPES, _ITEMS):
        found = [holder(part, begin, end, number).items for begin, end in levels]
        levels = [(begin, end) for items in found for _, begin, end in items]
    for begin, end in levels:
        for _ in walk(part, begin, end):
            pass


def _refuse_hollow_json(body: bytes) -> None:
    few = FEW + len(body) // LEAST
    if body.count(b"{") > few and sum(1 for _ in islice(_OBJECT.finditer(body), few + 1)) > few:
        raise BodyRefused(Refusal.MALFORMED, HOLLOW)


def _opened(holder: dict[str, Any], name: str, original: str, most: int, *, whole: bool = False) -> _Field:
    """Decode a list that an object holds as raw JSON under one of two names, in its place.

    Its items, `most` of them, are objects with raw values, or `whole`, as raw JSON.
    """
    keys = list({name, original} & holder.keys())
    if not keys:
        return _Field("", [])
    if len(keys) > 1:
        raise _Indivisible
    raw = _values.decode(holder[keys[0]]) or []
    if len(raw) > most:
        raise BodyRefused(Refusal.MALFORMED, HOLLOW)
    made: list[Any] = raw if whole else [_object.decode(item) for item in raw]
    holder[keys[0]] = made
    return _Field(keys[0], made)
