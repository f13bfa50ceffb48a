"""A closure as protobuf descriptors."""

from __future__ import annotations

from typing import Final

import betterproto2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from gateway.schema.closure import WELL_KNOWN, Closure, EnumClass, FieldFacts, fields_of, package_of, top_of

_SCALARS: Final = {
    betterproto2.TYPE_BOOL: FieldDescriptorProto.TYPE_BOOL,
    betterproto2.TYPE_INT32: FieldDescriptorProto.TYPE_INT32,
    betterproto2.TYPE_INT64: FieldDescriptorProto.TYPE_INT64,
    betterproto2.TYPE_UINT32: FieldDescriptorProto.TYPE_UINT32,
    betterproto2.TYPE_UINT64: FieldDescriptorProto.TYPE_UINT64,
    betterproto2.TYPE_SINT32: FieldDescriptorProto.TYPE_SINT32,
    betterproto2.TYPE_SINT64: FieldDescriptorProto.TYPE_SINT64,
    betterproto2.TYPE_FLOAT: FieldDescriptorProto.TYPE_FLOAT,
    betterproto2.TYPE_DOUBLE: FieldDescriptorProto.TYPE_DOUBLE,
    betterproto2.TYPE_FIXED32: FieldDescriptorProto.TYPE_FIXED32,
    betterproto2.TYPE_SFIXED32: FieldDescriptorProto.TYPE_SFIXED32,
    betterproto2.TYPE_FIXED64: FieldDescriptorProto.TYPE_FIXED64,
    betterproto2.TYPE_SFIXED64: FieldDescriptorProto.TYPE_SFIXED64,
    betterproto2.TYPE_STRING: FieldDescriptorProto.TYPE_STRING,
    betterproto2.TYPE_BYTES: FieldDescriptorProto.TYPE_BYTES,
}


def descriptor_set(closure: Closure) -> FileDescriptorSet:
    """One file per group of mutually dependent top-level messages, dependencies first."""
    result = FileDescriptorSet()
    home: dict[str, str] = {}
    for group in closure.groups():
        file = FileDescriptorProto(name=f"isg/{min(group)}.proto", package=package_of(group[0]), syntax="proto3")
        for top in sorted(group):
            home[top] = file.name
            if top in closure.messages:
                file.message_type.append(message_descriptor(closure, top))
            else:
                file.enum_type.append(_enum(closure, closure.enum_at(top)))
        needed = {home.get(top_of(name)) or WELL_KNOWN[name] for top in group for name in closure.outside(top)}
        file.dependency.extend(sorted(needed - {file.name}))
        result.file.append(file)
    return result


def message_descriptor(closure: Closure, name: str) -> DescriptorProto:
    """One message with all that is nested in it."""
    result = DescriptorProto(name=name.rsplit(".", 1)[1])
    groups: dict[str, int] = {}
    fields = fields_of(closure.messages[name])
    for facts in fields:
        made = result.field.add(number=facts.meta.number, name=facts.proto_name)
        if facts.meta.map_meta:
            entry = _map_entry(closure, facts)
            result.nested_type.append(entry)
            made.type, made.label = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.LABEL_REPEATED
            made.type_name = f".{name}.{entry.name}"
            continue
        _set_type(closure, made, facts.meta.proto_type, facts.kind)
        repeated = facts.meta.repeated
        made.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
        if facts.meta.group:
            made.oneof_index = groups.setdefault(facts.meta.group, len(groups))
    for group in groups:
        result.oneof_decl.add(name=group)
    for facts, made in zip(fields, result.field, strict=True):
        # proto3 `optional` scalars each own a synthetic oneof, after the real ones
        if facts.meta.optional and not facts.meta.group and made.type != FieldDescriptorProto.TYPE_MESSAGE:
            made.proto3_optional = True
            made.oneof_index = len(result.oneof_decl)
            result.oneof_decl.add(name=f"_{made.name}")
    nested = (inner for inner in sorted(closure.messages) if inner.rpartition(".")[0] == name)
    result.nested_type.extend(message_descriptor(closure, inner) for inner in nested)
    enums = sorted(closure.enums.get(name, ()), key=lambda kind: kind.__name__)
    result.enum_type.extend(_enum(closure, kind) for kind in enums)
    return result


def _map_entry(closure: Closure, facts: FieldFacts) -> DescriptorProto:
    metas = facts.meta.map_meta
    assert metas is not None  # noqa: S101 - the caller has looked; mypy has not
    entry = DescriptorProto(name="".join(part.capitalize() for part in facts.proto_name.split("_")) + "Entry")
    entry.options.map_entry = True
    key, value = entry.field.add(name="key", number=1), entry.field.add(name="value", number=2)
    key.label = value.label = FieldDescriptorProto.LABEL_OPTIONAL
    _set_type(closure, key, metas[0].proto_type, str)
    _set_type(closure, value, metas[1].proto_type, facts.kind)
    return entry


def _set_type(closure: Closure, made: FieldDescriptorProto, proto_type: str, kind: type) -> None:
    if proto_type == betterproto2.TYPE_MESSAGE:
        made.type = FieldDescriptorProto.TYPE_MESSAGE
        made.type_name = f".{closure.name_of(kind)}"
    elif proto_type == betterproto2.TYPE_ENUM:
        made.type = FieldDescriptorProto.TYPE_ENUM
        made.type_name = f".{closure.name_of(kind)}"
    else:
        made.type = _SCALARS[proto_type]


def _enum(closure: Closure, kind: EnumClass) -> EnumDescriptorProto:
    result = EnumDescriptorProto(name=str(closure.name_of(kind)).rsplit(".", 1)[1])
    for member in sorted(kind, key=lambda m: (m.value != 0, m.value)):
        result.value.add(name=member.proto_name or member.name, number=member.value)
    if result.value[0].number != 0:
        raise LookupError(f"{kind.__name__} has no zero value")
    return result
