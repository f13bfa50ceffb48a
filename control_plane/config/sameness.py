"""Are two configurations the same? As JSON knows it, which Python's ``==`` does not."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel


def same(one: object, other: object) -> bool:
    """Whether two values say the same: ``1`` is not ``true`` (in Python it is), the order of members means nothing.

    >>> same({"const": 1}, {"const": True}), {"const": 1} == {"const": True}
    (False, True)
    """
    if isinstance(one, BaseModel) and isinstance(other, BaseModel):
        fields = type(one).model_fields
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in fields)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
