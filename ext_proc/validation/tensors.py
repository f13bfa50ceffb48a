"""Tensors in JSON: shape, datatype and range (KServe Open Inference Protocol v2, "Tensor Data").

One rule for nesting: a value may leave out leading dimensions that are 1 or open (-1), and they become 1; beyond that
its nesting is the shape. So a scalar is a tensor of one element, and 64 numbers are ``[1, 64]`` of ``[-1, 64]``.
An empty tensor is refused: no model can answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Final

from gateway.policy import Datatype

DATATYPES: Final = frozenset(Datatype.__args__)  # type: ignore[attr-defined]  # Literal keeps its values there

_INTEGERS: Final = {
    f"{sign}INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if not sign else (0, 2**bits - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
#: Largest magnitude that still rounds to a finite value of the type.
_FLOATS: Final = {"FP16": 65519.0, "FP32": 3.4028235677973362e38, "FP64": 1.7976931348623157e308}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor: its elements in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]

    @property
    def numeric(self) -> bool:
        """Whether its elements are scores, counts or the like: neither truth values nor strings."""
        return self.datatype in _INTEGERS or self.datatype in _FLOATS


class TensorError(ValueError):
    """The value is no such tensor. `path` leads from the value to what offends."""

    def __init__(self, code: str, reason: str, path: tuple[int, ...] = ()) -> None:
        self.code, self.path = code, path
        super().__init__(reason)


def read(value: object, *, name: str, datatype: str, shape: Sequence[int]) -> Tensor:
    """Read a (nested) JSON value as a tensor of a declared shape; -1 stands for any length.

    Raises:
        TensorError: wrong nesting, count, type of an element, or an element out of the datatype's range.
    """
    dims, data = _flatten(value, len(shape))
    missing = len(shape) - len(dims)
    if missing < 0 or any(dim not in (1, -1) for dim in shape[:missing]):
        raise TensorError("wrong_shape", f"expected {_words(shape)}, found {_nesting(dims)}")
    actual = (1,) * missing + dims
    if any(want not in (-1, have) for want, have in zip(shape, actual, strict=True)):
        raise TensorError("wrong_shape", f"expected {_words(shape)}, found {_nesting(dims)}")
    if not data:
        raise TensorError("empty_tensor", "a tensor must have at least one element")
    check_elements(data, datatype, dims)
    return Tensor(name=name, datatype=datatype, shape=actual, data=data)


def read_flat(value: object, *, name: str, datatype: str, shape: Sequence[int]) -> Tensor:
    """Read Open Inference ``data``: flat, or nested exactly by the shape.

    Raises:
        TensorError: see :func:`read`.
    """
    dims, data = _flatten(value, max(len(shape), 1))
    count = prod(shape)
    if len(data) != count or (len(dims) > 1 and dims != tuple(shape)) or not dims:
        raise TensorError("wrong_shape", f"shape {list(shape)} takes a list of {count} elements")
    if not data:
        raise TensorError("empty_tensor", "a tensor must have at least one element")
    check_elements(data, datatype, dims)
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), data=data)


def read_nested(value: object, *, name: str, datatype: str, most_dims: int) -> Tensor:
    """Read a nested JSON value as a tensor of whatever shape it has.

    Raises:
        TensorError: it is ragged, too deep, empty, or an element does not fit the datatype.
    """
    dims, data = _flatten(value, most_dims)
    if not data:
        raise TensorError("empty_tensor", "a tensor must have at least one element")
    check_elements(data, datatype, dims)
    return Tensor(name=name, datatype=datatype, shape=dims, data=data)


def check_elements(data: Sequence[Any], datatype: str, dims: tuple[int, ...]) -> None:
    """Check the type and range of every element; `dims` is how they were nested, for the path of the offender.

    Raises:
        TensorError: with the first offending element's path.
    """
    kinds = set(map(type, data))
    if datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        if kinds != {int}:
            raise _first(data, dims, "wrong_type", f"{datatype} takes integers", lambda x: type(x) is not int)
        if min(data) < low or max(data) > high:
            reason = f"{datatype} takes integers from {low} to {high}"
            raise _first(data, dims, "out_of_range", reason, lambda x: not low <= x <= high)
    elif datatype in _FLOATS:
        most = _FLOATS[datatype]
        if not kinds <= {int, float}:
            raise _first(data, dims, "wrong_type", f"{datatype} takes numbers", lambda x: type(x) not in (int, float))
        if min(data) < -most or max(data) > most:
            raise _first(data, dims, "out_of_range", f"too large for {datatype}", lambda x: not -most <= x <= most)
    else:
        kind, words = (bool, "true and false") if datatype == "BOOL" else (str, "strings")
        if kinds != {kind}:
            raise _first(data, dims, "wrong_type", f"{datatype} takes {words}", lambda x: type(x) is not kind)


def nest(data: Sequence[Any], shape: Sequence[int]) -> object:
    """The elements as nested lists of a shape; a scalar for the empty shape."""
    if not shape:
        return data[0]
    rows: list[Any] = list(data)
    for length in reversed(shape[1:]):
        rows = [rows[start : start + length] for start in range(0, len(rows), length)]
    return rows


def _flatten(value: object, most_dims: int) -> tuple[tuple[int, ...], list[Any]]:
    """Dimensions and elements, level by level: no recursion, and no deeper than the shape allows."""
    dims: list[int] = []
    level: list[Any] = [value]
    while level and type(level[0]) is list:
        if len(dims) == most_dims:
            raise TensorError("wrong_shape", f"lists are nested more than {most_dims} deep")
        length = len(level[0])
        for index, row in enumerate(level):
            if type(row) is not list or len(row) != length:
                reason = f"rows differ: the first has {length} elements"
                raise TensorError("wrong_shape", reason, _path(index, dims))
        dims.append(length)
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    return tuple(dims), level


def _first(
    data: Sequence[Any], dims: tuple[int, ...], code: str, reason: str, offends: Callable[[Any], bool]
) -> TensorError:
    index = next(index for index, element in enumerate(data) if offends(element))
    return TensorError(code, reason, _path(index, dims))


def _path(index: int, dims: Sequence[int]) -> tuple[int, ...]:
    path: list[int] = []
    for length in reversed(dims):
        index, place = divmod(index, length)
        path.append(place)
    return tuple(reversed(path))


def _words(shape: Sequence[int]) -> str:
    return f"shape [{', '.join('any' if dim == -1 else str(dim) for dim in shape)}]"


def _nesting(dims: Sequence[int]) -> str:
    return f"lists of {list(dims)}" if dims else "a single value"
