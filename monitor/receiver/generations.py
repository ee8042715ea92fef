"""Exports of generations by Grafana's Agent Observability SDKs: divided like OTLP, and answered in their way.

The answer has a result for each generation: where it lacks some, the SDK for Go sends the export again, and
those for Java and JavaScript take it for failed. Source: `generation_ingest.proto` of `grafana/agento11y`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from monitor.protobuf import MessageField, message_types
from monitor.receiver.dividing import divide
from monitor.receiver.refusals import BodyRefused, Refusal
from monitor.receiver.walking import holder

SIGNAL: Final = "generations"
"""The signal, which is no OTLP, and the field of its bodies that is divided."""
_FEW: Final = 1000  # generations, whatever they hold
_LEAST: Final = 64  # bytes of each further one, which ids and times take alone
_MESSAGES: Final = message_types(
    {
        "Export": {SIGNAL: MessageField(1, "bytes", repeated=True)},
        "Generation": {"id": MessageField(1, "bytes")},
        "Answer": {"results": MessageField(1, "Result", repeated=True)},
        "Result": {"generation_id": MessageField(1, "bytes"), "accepted": MessageField(2, "bool")},
    }
)
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_values: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)


class _Named(msgspec.Struct):
    id: Any = None


_named: Final = msgspec.json.Decoder(_Named)


def parts(body: bytes, most: int, most_bytes: int, *, as_json: bool) -> Sequence[bytes]:
    """Return an export, in JSON or protobuf, as parts of at most `most` generations; none if it is empty.

    A body of more than `most_bytes` is divided too, see `divide`.

    Raises BodyRefused for what is no export at all, or holds mostly hollow generations.
    """
    if as_json:
        export = _opened(body)
        if not export:
            return ()
        if repeats_keys(export, body):
            return (body,)
        items = _listed(export)
    else:
        items = _of_protobuf(body)
        if not body:
            return ()
    if len(items) > _FEW + len(body) // _LEAST:
        raise BodyRefused(Refusal.MALFORMED, "most of the body are generations that hold nothing")
    if len(items) <= most and len(body) <= most_bytes:
        return (body,)
    sizes = [memoryview(item).nbytes for item in items]
    slices = [items[part.begin : part.end] for (part,) in divide([[sizes]], most, most_bytes)] or [items]
    if as_json:
        return [msgspec.json.encode({SIGNAL: each}) for each in slices]
    return [_MESSAGES["Export"](generations=each).SerializeToString() for each in slices]


def answer(body: bytes, *, as_json: bool) -> bytes:
    """Return the response to an export that was taken, in the same encoding: all are accepted."""
    if as_json:
        results = [{"generation_id": _id_of(item), "accepted": True} for item in _listed(_opened(body))]
        return msgspec.json.encode({"results": results})
    made = _MESSAGES["Answer"]()
    for item in _of_protobuf(body):
        made.results.add(generation_id=_MESSAGES["Generation"].FromString(item).id, accepted=True)
    encoded: bytes = made.SerializeToString()
    return encoded


def repeats_keys(request: Mapping[str, Any], body: bytes) -> bool:
    """Return whether the parser dropped one of two equal keys; the decoder must see both, to refuse them."""
    return msgspec.json.encode(request).count(b'"') != body.count(b'"')


def _opened(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _object.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BodyRefused(Refusal.MALFORMED, "the body is not a JSON object") from None


def _listed(export: Mapping[str, Any]) -> Sequence[Any]:
    """Return the generations, each as raw JSON; none where they are no list, which the decoder says."""
    try:
        return _values.decode(export.get(SIGNAL, b"null")) or ()
    except msgspec.DecodeError:
        return ()


def _id_of(item: msgspec.Raw) -> str:
    try:
        own = _named.decode(item).id
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return own if isinstance(own, str) else ""


def _of_protobuf(body: bytes) -> Sequence[bytes]:
    items = [body[begin:end] for _, begin, end in holder(body, 0, len(body), 1).items]
    try:
        for item in items:
            _MESSAGES["Generation"].FromString(item)
    except DecodeError:
        raise BodyRefused(Refusal.MALFORMED, "the body is not an ExportGenerationsRequest") from None
    return items
