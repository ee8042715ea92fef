"""CloudEvents 1.0 around a trace, as the Kafka protocol binding carries them.

Structured: the header `content-type` starts with `application/cloudevents`, or (a file has no headers) the
object has `specversion` and `data`. Binary: `ce_` headers beside the plain payload.
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from monitor.errors import BadTrace
from monitor.trace import Record

KEYS = frozenset({
    "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data",
    "data_base64",
})  # fmt: skip
REASON = "invalid_cloudevent"
_REQUIRED = ("specversion", "id", "source", "type")
_Parse = Callable[[bytes], object]


class Unwrapped(msgspec.Struct, frozen=True, gc=False):
    """The payload, and the event's id and time, which stand in where the payload has none."""

    payload: object
    id: str = ""
    time: str = ""


def unwrap(record: Record, value: bytes, parse: _Parse) -> Unwrapped:
    """Parse `value`, the record's, and take a CloudEvents envelope off if there is one.

    Raises BadTrace: invalid_cloudevent, and whatever `parse` raises.
    """
    headers = _headers(record) if record.headers else {}
    content_type = headers.get("content-type", "").lower()
    if content_type.startswith("application/cloudevents"):
        if not content_type.partition(";")[0].strip() == "application/cloudevents+json":
            raise BadTrace(REASON, "header content-type: of the event formats only +json is read")
        return _structured(parse(value), parse)
    if "ce_specversion" in headers:
        attributes = {name[3:]: text for name, text in headers.items() if name.startswith("ce_")}
        _check(attributes, "header ce_")
        _check_content_type(content_type, "header content-type")
        return Unwrapped(parse(value), attributes["id"], attributes.get("time", ""))
    payload = parse(value)
    if isinstance(payload, dict) and "specversion" in payload and "response" not in payload:
        return _structured(payload, parse)
    return Unwrapped(payload)


def _headers(record: Record) -> dict[str, str]:
    """The headers that CloudEvents uses, names in lower case."""
    found = {}
    for name, value in record.headers:
        lower = name.lower()
        if lower == "content-type" or lower.startswith("ce_"):
            try:
                found[lower] = value.decode()
            except UnicodeDecodeError:
                known = lower if lower.removeprefix("ce_") in KEYS | {"content-type"} else "ce_…"
                raise BadTrace(REASON, f"header {known}: not UTF-8") from None
    return found


def _structured(event: object, parse: _Parse) -> Unwrapped:
    if not isinstance(event, dict):
        raise BadTrace(REASON, "must be a JSON object; batches are not part of the Kafka binding")
    _check(event, "")
    event_time = event.get("time") or ""
    if not isinstance(event_time, str):
        raise BadTrace(REASON, "time: must be a string")
    if event.get("data") is not None:
        content_type = event.get("datacontenttype") or ""
        if not isinstance(content_type, str):
            raise BadTrace(REASON, "datacontenttype: must be a string")
        _check_content_type(content_type, "datacontenttype")
        return Unwrapped(event["data"], event["id"], event_time)
    encoded = event.get("data_base64")
    if not isinstance(encoded, str):
        raise BadTrace(REASON, "data: missing; send the trace as data or data_base64")
    try:
        return Unwrapped(parse(b64decode(encoded, validate=True)), event["id"], event_time)
    except (binascii.Error, ValueError):
        raise BadTrace(REASON, "data_base64: not base64") from None


def _check(attributes: Mapping[str, Any], prefix: str) -> None:
    for name in _REQUIRED:
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            raise BadTrace(REASON, f"{prefix}{name}: must be a string that is not empty")
    if not attributes["specversion"].startswith("1."):
        raise BadTrace(REASON, f"{prefix}specversion: must be 1.0")


def _check_content_type(content_type: str, where: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in {"", "application/json", "text/json"} and not media_type.endswith("+json"):
        raise BadTrace(REASON, f"{where}: must be application/json")
