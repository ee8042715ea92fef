"""Generations as Grafana's Agent Observability SDKs export them over gRPC: in protobuf.

Source: `generation_ingest.proto` of `grafana/agento11y`, as in PyPI `agento11y` 0.21, of which the table has
the fields that are read. Its numbers are those of `sigil.v1`, the earlier name, too.
"""

from typing import Any, Final

from google.protobuf.message import DecodeError

from monitor.errors import BadTrace
from monitor.ingest.agento11y import check_number, traces_of
from monitor.ingest.identifiers import Names
from monitor.ingest.lookalikes import named_protobuf
from monitor.ingest.texts import Markers
from monitor.protobuf import MessageField, Tables, as_dict, message_types
from monitor.trace import Record, Trace

_NANO: Final = 10**9
_TELLING: Final = frozenset({"model", "usage", "started_at", "completed_at"})
"""Fields of which every generation has one, and neither OTLP nor Zipkin has any in the same place."""
_TABLES: Final[Tables] = {
    "Export": {"generations": MessageField(1, "Generation", repeated=True)},
    "Generation": {
        "id": MessageField(1, "text"),
        "conversation_id": MessageField(2, "text"),
        "operation_name": MessageField(3, "text"),
        "trace_id": MessageField(5, "text"),
        "span_id": MessageField(6, "text"),
        "model": MessageField(7, "Model"),
        "response_id": MessageField(8, "text"),
        "response_model": MessageField(9, "text"),
        "system_prompt": MessageField(10, "text"),
        "input": MessageField(11, "Message", repeated=True),
        "output": MessageField(12, "Message", repeated=True),
        "usage": MessageField(14, "Usage"),
        "stop_reason": MessageField(15, "text"),
        "started_at": MessageField(16, "Time"),
        "completed_at": MessageField(17, "Time"),
        "tags": MessageField(18, "Tag", repeated=True),
        "metadata": MessageField(19, "Metadata"),
        "call_error": MessageField(21, "text"),
        "agent_name": MessageField(22, "text"),
        "agent_version": MessageField(23, "text"),
    },
    "Model": {"provider": MessageField(1, "text"), "name": MessageField(2, "text")},
    "Message": {"role": MessageField(1, "int"), "parts": MessageField(3, "Part", repeated=True)},
    "Part": {
        "text": MessageField(2, "text"),
        "thinking": MessageField(3, "text"),
        "tool_call": MessageField(4, "Call"),
        "tool_result": MessageField(5, "Result"),
        "media": MessageField(6, "Media"),
    },
    "Call": {
        "id": MessageField(1, "text"),
        "name": MessageField(2, "text"),
        "input_json": MessageField(3, "bytes"),
    },
    "Result": {
        "tool_call_id": MessageField(1, "text"),
        "name": MessageField(2, "text"),
        "content": MessageField(3, "text"),
        "content_json": MessageField(4, "bytes"),
        "is_error": MessageField(5, "bool"),
    },
    "Media": {"kind": MessageField(1, "text")},
    "Usage": {"input_tokens": MessageField(1, "int"), "output_tokens": MessageField(2, "int")},
    # google.protobuf.Timestamp and Struct; of the values of the latter only scalars are read.
    "Time": {"seconds": MessageField(1, "int"), "nanos": MessageField(2, "int")},
    "Tag": {"key": MessageField(1, "text"), "value": MessageField(2, "text")},
    "Metadata": {"fields": MessageField(1, "Entry", repeated=True)},
    "Entry": {"key": MessageField(1, "text"), "value": MessageField(2, "Scalar")},
    "Scalar": {
        "number": MessageField(2, "double"),
        "text": MessageField(3, "text"),
        "truth": MessageField(4, "bool"),
    },
}
_EXPORT: Final = message_types(_TABLES)["Export"]


def decode(record: Record, clean: Names, markers: Markers) -> tuple[Trace, ...]:
    """Return a trace per generation, as of the same export in JSON.

    Raises BadTrace: invalid_protobuf, missing_field, too_large, out_of_range.
    """
    value = record.value or b""
    try:
        export = _EXPORT.FromString(value)
    except DecodeError:
        why = named_protobuf(value) or "is the topic of another format?"
        raise BadTrace("invalid_protobuf", f"not an export of generations, or cut off; {why}") from None
    check_number(len(export.generations))
    sent = [_generation(each) for each in export.generations]
    if all(_TELLING.isdisjoint(made) for made in sent):
        why = named_protobuf(value) or "is the topic of another format?"
        raise BadTrace("missing_field", f"generations: none with a model, usage or times; {why}")
    return traces_of(sent, record, clean, markers)


def _generation(message: Any) -> dict[str, Any]:
    """Return a generation with the names and values that it has in JSON."""
    made = as_dict(message, "Generation", _TABLES)
    for name in ("started_at", "completed_at"):
        if name in made:
            made[name] = (made[name].get("seconds", 0) * _NANO + made[name].get("nanos", 0)) / _NANO
    if "tags" in made:
        made["tags"] = {tag.get("key", ""): tag.get("value", "") for tag in made["tags"]}
    if "metadata" in made:
        entries = made["metadata"].get("fields", ())
        made["metadata"] = {entry.get("key", ""): _scalar(entry.get("value", {})) for entry in entries}
    return made


def _scalar(value: dict[str, Any]) -> Any:
    """Return a scalar of metadata, a whole number as one; None for anything else."""
    made = next(iter(value.values()), None)
    return int(made) if isinstance(made, float) and made.is_integer() else made
