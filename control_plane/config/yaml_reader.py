"""From YAML text to a tree of :mod:`control_plane.config.nodes`.

Only the plain part of YAML 1.2 is read: mappings with unique text keys, lists, scalars, and aliases in measure. Tags,
merge keys and further documents are refused. libyaml's event stream is read one event at a time: a hostile file is
given up as soon as it exceeds a bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

from control_plane.config.errors import Fault, shown
from control_plane.config.nodes import ListNode, MappingNode, Node, ScalarNode

#: Largest tree, with aliases written out; about 2,000 models with their schemas.
MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 64
_MAX_FAULTS: Final = 100

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INDENTING_TAB = re.compile(r"^ *\t", re.MULTILINE)


class UnreadableYaml(Exception):  # noqa: N818 (it says what happened)
    """The text cannot be used as YAML. ``faults`` holds at least one."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults[0].message)
        self.faults = faults


def parse(text: str) -> Node | None:
    """The root of the only document, or None for a file without content.

    Raises:
        UnreadableYaml: with all faults that can be told apart; a syntax error ends the reading.
    """
    if found := _CONTROL.search(text):
        raise UnreadableYaml([_fault_at(text, found.start(), f"control character U+{ord(found.group()):04X}")])
    if found := _INDENTING_TAB.search(text):
        raise UnreadableYaml([_fault_at(text, found.end() - 1, "a tab cannot indent YAML: use spaces")])
    reader = _Reader()
    try:
        root = reader.read(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reader.faults.append(Fault(line=line, column=column, message=f"not YAML: {error.problem}"))
    except (yaml.YAMLError, ValueError) as error:
        reader.faults.append(Fault(line=1, column=1, message=f"not YAML: {shown(str(error))}"))
    if reader.faults:
        raise UnreadableYaml(reader.faults)
    return root


def _fault_at(text: str, offset: int, message: str) -> Fault:
    line = text.count("\n", 0, offset) + 1
    return Fault(line=line, column=offset - text.rfind("\n", 0, offset), message=message)


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    line: int
    column: int
    anchor: str | None
    mapping: bool
    items: list[Node] = field(default_factory=list)
    keys: dict[str, ScalarNode] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)
    awaited: str | None = None
    has_key: bool = False

    def closed(self) -> Node:
        children = self.values.values() if self.mapping else self.items
        weight = 1 + sum(child.weight for child in children)
        height = 1 + max((child.height for child in children), default=0)
        if self.mapping:
            return MappingNode(
                line=self.line, column=self.column, weight=weight, height=height, keys=self.keys, values=self.values
            )
        return ListNode(line=self.line, column=self.column, weight=weight, height=height, items=tuple(self.items))


class _Reader:
    """Builds the tree without recursion."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._anchors: dict[str, Node | None] = {}
        self._stack: list[_Open] = []
        self._root: Node | None = None
        self._nodes = 0

    def read(self, events: Iterator[yaml.Event]) -> Node | None:
        documents = 0
        for event in events:
            mark = event.start_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._stop(line, column, "a second YAML document: one file holds one")
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event.anchor or "", line, column)
            elif isinstance(event, yaml.ScalarEvent):
                self._check_tag(event.tag, line, column)
                scalar = ScalarNode(line=line, column=column, text=event.value, plain=not event.style)
                self._add(scalar, event.anchor, fresh=True)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._check_tag(event.tag, line, column)
                if event.anchor is not None:
                    self._anchors[event.anchor] = None
                mapping = isinstance(event, yaml.MappingStartEvent)
                self._stack.append(_Open(line=line, column=column, anchor=event.anchor, mapping=mapping))
                if len(self._stack) > MAX_DEPTH:
                    raise self._stop(line, column, f"nested deeper than {MAX_DEPTH} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                done = self._stack.pop()
                self._add(done.closed(), done.anchor, fresh=True)
        return self._root

    def _add(self, node: Node, anchor: str | None, *, fresh: bool) -> None:
        self._nodes += 1 if fresh else node.weight
        if self._nodes > MAX_NODES:
            raise self._stop(node.line, node.column, f"more than {MAX_NODES:,} values, aliases written out")
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        if not parent.mapping:
            parent.items.append(node)
        elif not parent.has_key:
            parent.has_key = True
            parent.awaited = self._key(node, parent)
        else:
            if parent.awaited is not None:
                parent.values[parent.awaited] = node
            parent.has_key = False

    def _key(self, node: Node, parent: _Open) -> str | None:
        """The key that the next value belongs to, or None for one that was reported."""
        if not isinstance(node, ScalarNode):
            self._report(node.line, node.column, "a key must be text, not a list or a mapping")
        elif node.plain and node.text in ("", "~"):
            self._report(node.line, node.column, "a key is missing before `:`")
        elif node.plain and node.text == "<<":
            self._report(node.line, node.column, "merge keys (`<<`) are not supported: write the keys out")
        elif node.text in parent.keys:
            first = parent.keys[node.text].line
            self._report(node.line, node.column, f"duplicate key {shown(node.text)}: it is already on line {first}")
        else:
            parent.keys[node.text] = node
            return node.text
        return None

    def _alias(self, name: str, line: int, column: int) -> None:
        if name not in self._anchors:
            raise self._stop(line, column, f"alias {shown(name)} has no anchor before it")
        target = self._anchors[name]
        if target is None:
            raise self._stop(line, column, f"alias {shown(name)} contains itself")
        if len(self._stack) + target.height > MAX_DEPTH:
            raise self._stop(line, column, f"nested deeper than {MAX_DEPTH} levels")
        if self._nodes + target.weight > MAX_NODES:
            raise self._stop(line, column, f"more than {MAX_NODES:,} values, aliases written out")
        self._add(target, None, fresh=False)

    def _check_tag(self, tag: str | None, line: int, column: int) -> None:
        if tag is not None:
            self._report(line, column, f"tag {shown(tag)}: tags are not supported")

    def _report(self, line: int, column: int, message: str) -> None:
        self.faults.append(Fault(line=line, column=column, message=message))
        if len(self.faults) >= _MAX_FAULTS:
            raise UnreadableYaml(self.faults)

    def _stop(self, line: int, column: int, message: str) -> UnreadableYaml:
        self.faults.append(Fault(line=line, column=column, message=message))
        return UnreadableYaml(self.faults)
