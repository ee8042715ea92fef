"""Protobuf messages from a table of their fields, for formats whose makers' package is no dependency.

Fields have presence, unknown ones are skipped, and texts are bytes: one that is no UTF-8 costs nothing but
itself.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_SCALARS: Final = {
    "text": FieldDescriptorProto.TYPE_BYTES,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int": FieldDescriptorProto.TYPE_INT64,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
}


class MessageField(NamedTuple):
    """A field: its number, and `text`, `bytes`, `int` (enumerations too), `bool`, `double` or a message."""

    number: int
    kind: str
    repeated: bool = False


Tables = Mapping[str, Mapping[str, MessageField]]
"""Fields by name, of each message by its name. A map is a repeated message of `key` 1 and `value` 2."""


def message_types(tables: Tables) -> Mapping[str, Any]:
    """Return the classes of the messages, by name; they are in no registry that others see."""
    file = FileDescriptorProto(name="table.proto", package="table", syntax="proto2")
    for name, fields in tables.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            made = message.field.add(name=field, number=number)
            made.label = made.LABEL_REPEATED if repeated else made.LABEL_OPTIONAL
            made.type = _SCALARS.get(kind, made.TYPE_MESSAGE)
            if kind not in _SCALARS:
                made.type_name = f".table.{kind}"
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"table.{name}")) for name in tables}


def as_dict(message: Any, name: str, tables: Tables) -> dict[str, Any]:
    """Return what a message has, by field: texts as str, messages as dicts, repeated fields as lists."""
    made: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        field = tables[name][descriptor.name]
        if field.repeated:
            made[descriptor.name] = [_value(each, field.kind, tables) for each in value]
        else:
            made[descriptor.name] = _value(value, field.kind, tables)
    return made


def _value(value: Any, kind: str, tables: Tables) -> Any:
    if kind == "text":
        return value.decode("utf-8", "replace")
    return value if kind in _SCALARS else as_dict(value, kind, tables)
