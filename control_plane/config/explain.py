"""pydantic's findings in the operator's words."""

from __future__ import annotations

import types
import typing
from typing import Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from control_plane.config import later
from control_plane.config.errors import hint, listed, shown
from control_plane.config.nodes import ListNode, MappingNode, Node, ReadyNode, ScalarNode

Path = tuple[str | int, ...]

_EXPECTED: Final = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of reasonable size",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_BOUNDS: Final = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def explain(error: ErrorDetails, root: type[BaseModel], node: Node) -> str:
    """One sentence for one finding.

    Args:
        root: the class that was validated.
        node: what was written at the finding's location, or the nearest above it.
    """
    kind, path, context = error["type"], error["loc"], error.get("ctx", {})
    # items of a list are described by the field that holds the list
    names = [part for part in path if isinstance(part, str)]
    key = names[-1] if names else ""
    part = part_at(root, tuple(names[:-1]))
    if kind == "extra_forbidden":
        return unknown_key(part, key)
    if kind == "missing":
        return f"missing key `{key}`"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind == "literal_error":
        return _one_of(part, key, node)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"expected {words} {context[name]:g}, found {found(node)}"
    return f"expected {_EXPECTED.get(kind) or error['msg'].lower()}, found {found(node)}"


def unknown_key(part: type[BaseModel] | None, key: str) -> str:
    """What to say of a key that a part of the configuration does not have."""
    if part is None:
        return f"unknown key {shown(key)}"
    if key in later.KEYS.get(part, ()):
        return f"`{key}` is not in this version"
    expected = keys_of(part)
    return f"unknown key {shown(key)}{hint(key, expected) or ','} expected {listed(expected)}"


def keys_of(part: type[BaseModel]) -> list[str]:
    """The keys that may be written in a part of the configuration."""
    keys = [field.alias or name for name, field in part.model_fields.items()]
    return [*keys, "backend"] if "targets" in keys else keys


def part_at(root: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The class of the configuration's part at a path."""
    part: type[BaseModel] | None = root
    for name in path:
        if isinstance(name, str) and part is not None:
            part = _class_in(_annotations(part).get(name))
    return part


def found(node: Node) -> str:
    """What was written, for the end of a sentence."""
    if isinstance(node, ScalarNode):
        return "nothing" if node.is_null else shown(node.text)
    if isinstance(node, ReadyNode):
        return "the content of a file"
    return (
        "a list" if isinstance(node, ListNode) else "a mapping" if isinstance(node, MappingNode) else "something else"
    )


def _one_of(part: type[BaseModel] | None, key: str, node: Node) -> str:
    """For a value outside a closed set; names in a list stand in the field's annotation as well."""
    allowed = [] if part is None else [str(value) for value in _literals(_annotations(part).get(key))]
    if not allowed:
        return f"unexpected value {found(node)}"
    if part is not None and isinstance(node, ScalarNode) and later.is_later_value(part, key, node.text):
        return f"`{key}: {node.text}` is not in this version, expected {listed(allowed)}"
    near = hint(node.text, allowed) if isinstance(node, ScalarNode) and not node.is_null else ""
    return f"expected {listed(allowed)}, found {found(node)}{near}"


def _annotations(part: type[BaseModel]) -> dict[str, object]:
    """What may stand under each key."""
    return {field.alias or name: field.annotation for name, field in part.model_fields.items()}


def _class_in(annotation: object) -> type[BaseModel] | None:
    """The model class inside ``tuple[X, ...]``, ``X | None`` or ``Annotated[X, ...]``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next(filter(None, map(_class_in, typing.get_args(annotation))), None)


def _literals(annotation: object) -> tuple[object, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return next(filter(None, map(_literals, typing.get_args(annotation))), ())
