"""Random messages of any type, made from its descriptor."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_MAX_DEPTH = 4
_MAX_FIELDS = 4
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
}
# betterproto2 makes Python's dates and durations of these, which are narrower and have no nanoseconds.
_MICROSECONDS = st.integers(0, 999_999).map(lambda micros: micros * 1000)
_TIMES = {
    "google.protobuf.Duration": st.integers(0, 10**9),
    "google.protobuf.Timestamp": st.integers(0, 4 * 10**9),
}


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message of a type, with some of its fields set."""
    message: Any = GetMessageClass(descriptor)()
    if descriptor.full_name in _TIMES:
        message.seconds, message.nanos = draw(_TIMES[descriptor.full_name]), draw(_MICROSECONDS)
        return message  # type: ignore[no-any-return]  # an upb message
    usable = [field for field in descriptor.fields if depth < _MAX_DEPTH or field.message_type is None]
    if not usable:
        return message  # type: ignore[no-any-return]
    chosen = draw(st.lists(st.sampled_from(usable), max_size=_MAX_FIELDS, unique_by=lambda field: field.number))
    for field in chosen:
        _fill(draw, message, field, depth)
    return message  # type: ignore[no-any-return]


def _fill(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    target = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        for chosen in draw(st.lists(_scalar(key), max_size=2, unique=True)):
            if value.message_type is None:
                target[chosen] = draw(_scalar(value))
            else:
                target[chosen].CopyFrom(draw(messages(value.message_type, depth + 1)))
    elif field.message_type is None:
        if field.is_repeated:
            target.extend(draw(st.lists(_scalar(field), max_size=3)))
        else:
            setattr(message, field.name, draw(_scalar(field)))
    elif field.is_repeated:
        target.extend(draw(st.lists(messages(field.message_type, depth + 1), max_size=2)))
    else:
        target.CopyFrom(draw(messages(field.message_type, depth + 1)))
        target.SetInParent()


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=6)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _TEXT
    return _SCALARS[field.cpp_type].filter(lambda value: not (isinstance(value, float) and math.isnan(value)))
