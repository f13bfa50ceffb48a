"""YAML as a tree of nodes that know their place; :mod:`control_plane.config.yaml_reader` makes it.

Scalars keep the text that was written: what `no`, `08:00` or `1.10` means is decided by the field that they are given
to, so the traps of YAML 1.1 do not exist.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,300}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A place in the file; ``weight`` and ``height`` measure the tree below with aliases written out."""

    line: int
    column: int
    weight: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarNode(Node):
    """Text as it was written; ``plain`` when it had no quotes."""

    text: str
    plain: bool

    @property
    def is_null(self) -> bool:
        """Whether nothing was written (or `null`)."""
        return self.plain and self.text in _NULL


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNode(Node):
    """A sequence."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingNode(Node):
    """A mapping with text keys, in the order of the file."""

    keys: Mapping[str, ScalarNode]
    values: Mapping[str, Node]

    def replaced(self, name: str, value: Node, *, by: str | None = None) -> MappingNode:
        """The same mapping with another value under ``name`` (called ``by``, if given)."""
        new = name if by is None else by
        keys = {new if key == name else key: node for key, node in self.keys.items()}
        values = {new if key == name else key: value if key == name else node for key, node in self.values.items()}
        return MappingNode(line=self.line, column=self.column, keys=keys, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyNode(Node):
    """A value that was made from a node, for instance the content of the file that it named."""

    value: Any


def written(node: Node) -> Any:  # noqa: ANN401 (what YAML holds)
    """Plain Python with scalars as the text that was written, and None where nothing was."""
    if isinstance(node, ReadyNode):
        return node.value
    if isinstance(node, MappingNode):
        return {key: written(value) for key, value in node.values.items()}
    if isinstance(node, ListNode):
        return [written(item) for item in node.items]
    assert isinstance(node, ScalarNode)  # noqa: S101 (the last of the kinds)
    return None if node.is_null else node.text


def json_value(node: Node) -> Any:  # noqa: ANN401 (what YAML holds)
    """Plain Python as JSON would have it: YAML 1.2's core types of numbers, booleans and null."""
    if isinstance(node, MappingNode):
        return {key: json_value(value) for key, value in node.values.items()}
    if isinstance(node, ListNode):
        return [json_value(item) for item in node.items]
    if not isinstance(node, ScalarNode):
        return written(node)
    if not node.plain:
        return node.text
    if node.text in _NULL:
        return None
    if node.text in _BOOL:
        return _BOOL[node.text]
    if _INT.match(node.text):
        return int(node.text)
    if _FLOAT.match(node.text) and math.isfinite(number := float(node.text)):
        return number
    return node.text


def find(root: Node, path: tuple[str | int, ...], *, key: bool = False) -> Node:
    """The node at a path, or the nearest one above it; with ``key`` the key of the last member instead of its value."""
    node = root
    for depth, part in enumerate(path):
        if isinstance(node, MappingNode) and part in node.values:
            name = str(part)
            node = node.keys[name] if key and depth == len(path) - 1 else node.values[name]
        elif isinstance(node, ListNode) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            break
    return node
