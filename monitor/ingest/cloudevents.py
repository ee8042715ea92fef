"""CloudEvents 1.0 around a payload, as the Kafka protocol binding carries them.

Structured: the header `content-type` starts with `application/cloudevents`, or (a file has no headers) the
object has `specversion` and no `response`. The payload is `data`, `data_base64`, or JSON in a string as
`data`. Binary: `ce_` headers and the plain payload.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec

from monitor.errors import BadTrace
from monitor.ingest.fields import Parse, unix_seconds
from monitor.trace import Record

KEYS = frozenset({
    "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data",
    "data_base64",
})  # fmt: skip
HINT = b'"specversion"'
"""Key that a structured event without a header holds, however it is written."""
REASON = "invalid_cloudevent"
_REQUIRED = ("specversion", "id", "source", "type")
_JSON = frozenset({"", "application/json", "text/json"})
_BINARY = frozenset({"", "application/x-protobuf", "application/protobuf", "application/octet-stream"})


class _Data(msgspec.Struct, gc=False):
    data: msgspec.Raw


def unwrap(record: Record, value: bytes, parse: Parse, *, protobuf: bool) -> Record:
    """Return the record of an event's payload: its bytes, the event's time, its id in the header `ce_id`.

    A record that is not an event comes back without headers. `parse` reads the envelope. Raises BadTrace:
    invalid_cloudevent, out_of_range for its time, and whatever `parse` raises.
    """
    headers = _headers(record) if record.headers else {}
    content_type = headers.get("content-type", "").lower()
    if content_type.startswith("application/cloudevents"):
        if not content_type.partition(";")[0].strip() == "application/cloudevents+json":
            raise BadTrace(REASON, "header content-type: of the event formats only +json is read")
        return _structured(record, value, parse(value), protobuf=protobuf)
    if "ce_specversion" in headers:
        attributes = {name[3:]: text for name, text in headers.items() if name.startswith("ce_")}
        _check(attributes, "header ce_")
        _check_content_type(content_type, "header content-type", protobuf=protobuf)
        return _event(record, value, attributes)
    if HINT in value and not protobuf:
        payload = parse(value)
        if isinstance(payload, dict) and "specversion" in payload and "response" not in payload:
            return _structured(record, value, payload, protobuf=protobuf)
    return record._replace(headers=())


def _headers(record: Record) -> dict[str, str]:
    """Return the headers that CloudEvents uses, names in lower case."""
    headers = {}
    for name, value in record.headers:
        lower = name.lower()
        if lower == "content-type" or lower.startswith("ce_"):
            try:
                headers[lower] = value.decode()
            except UnicodeDecodeError:
                known = lower if lower.removeprefix("ce_") in KEYS | {"content-type"} else "ce_…"
                raise BadTrace(REASON, f"header {known}: not UTF-8") from None
    return headers


def _event(record: Record, payload: bytes, attributes: Mapping[str, Any]) -> Record:
    if not payload:
        raise BadTrace("empty", "the event's data are empty; send the trace as its data")
    return record._replace(
        value=payload,
        time=unix_seconds(attributes.get("time"), record.time),
        headers=(("ce_id", attributes["id"].encode()),),
    )


def _structured(record: Record, value: bytes, event: object, *, protobuf: bool) -> Record:
    if not isinstance(event, dict):
        raise BadTrace(REASON, "must be a JSON object; batches are not part of the Kafka binding")
    _check(event, "")
    for name in ("time", "datacontenttype"):
        if not isinstance(event.get(name), str | None):
            raise BadTrace(REASON, f"{name}: must be a string")
    if event.get("data") is not None and not protobuf:
        _check_content_type(event.get("datacontenttype") or "", "datacontenttype", protobuf=protobuf)
        data = event["data"]
        # The bytes as they were sent: what is written anew is not what was judged.
        raw = data.encode() if isinstance(data, str) else bytes(msgspec.json.decode(value, type=_Data).data)
        return _event(record, raw, event)
    encoded = event.get("data_base64")
    if not isinstance(encoded, str):
        raise BadTrace(
            REASON,
            "data_base64: missing; Protobuf needs it"
            if protobuf
            else "data: missing; send the trace as data or data_base64",
        )
    try:
        payload = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise BadTrace(REASON, "data_base64: not base64") from None
    return _event(record, payload, event)


def _check(attributes: Mapping[str, Any], prefix: str) -> None:
    for name in _REQUIRED:
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            raise BadTrace(REASON, f"{prefix}{name}: must be a string that is not empty")
    if not attributes["specversion"].startswith("1."):
        raise BadTrace(REASON, f"{prefix}specversion: must be 1.0")


def _check_content_type(content_type: str, where: str, *, protobuf: bool) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if protobuf:
        if media_type not in _BINARY:
            raise BadTrace(REASON, f"{where}: must be application/x-protobuf")
    elif media_type not in _JSON and not media_type.endswith("+json"):
        raise BadTrace(REASON, f"{where}: must be application/json")
