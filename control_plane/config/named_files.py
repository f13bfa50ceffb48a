"""Files that a model names: its schema and its labels. Their content takes the place of their name in the tree."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from control_plane.config.errors import ConfigError
from control_plane.config.files import UnreadableFile, inside, read_text
from control_plane.config.nodes import (
    MappingNode,
    Node,
    ReadyNode,
    ScalarNode,
    find,
    json_value,
)
from control_plane.config.schemas import faults, parse_json


def with_named_files(model: MappingNode, gateway_yaml: Path) -> tuple[MappingNode, list[ConfigError], set[Path]]:
    """A model's tree with ``input.schema`` and ``output.labels`` read, what is wrong with them, and their files."""
    reading = _Reading(gateway_yaml)
    for part, key, read in (("input", "schema", reading.schema), ("output", "labels", reading.labels)):
        parent = model.values.get(part)
        if isinstance(parent, MappingNode) and key in parent.values:
            node = parent.values[key]
            model = model.replaced(part, parent.replaced(key, read(node)))
    return model, reading.errors, reading.files


class _Reading:
    def __init__(self, gateway_yaml: Path) -> None:
        self._yaml = gateway_yaml
        self.errors: list[ConfigError] = []
        self.files: set[Path] = set()

    def schema(self, node: Node) -> Node:
        """The schema as JSON data; None in its place when it has faults."""
        value = json_value(node)
        if isinstance(value, str):
            file, text = self._text(node, value)
            if file is None:
                return _ready(node, None)
            try:
                value = parse_json(text)
            except UnreadableFile as error:
                self.errors.append(ConfigError(file, error.fault.line, error.fault.column, error.fault.message))
                return _ready(node, None)
            found = faults(value)
            for path, reason in found:
                self.errors.append(ConfigError(file, 1, 1, f"{reason}{_at(path)}"))
        else:
            found = faults(value)
            for path, reason in found:
                self._report(find(node, path), reason)
        return _ready(node, None if found else value)

    def labels(self, node: Node) -> Node:
        """The labels as a list: what was written, or the lines of the file that was named."""
        if not isinstance(node, ScalarNode) or node.is_null:
            return node
        file, text = self._text(node, node.text)
        if file is None:
            return _ready(node, [])
        lines = text.splitlines()
        if not lines:
            self.errors.append(ConfigError(file, 1, 1, "the file is empty: expected one label a line"))
        for number, line in enumerate(lines, 1):
            if not line.strip():
                self.errors.append(ConfigError(file, number, 1, "an empty line: expected a label"))
                break
        return _ready(node, [line.strip() for line in lines])

    def _text(self, node: Node, name: str) -> tuple[Path | None, str]:
        try:
            file = inside(self._yaml.parent, name)
        except ValueError as error:
            self._report(node, str(error))
            return None, ""
        self.files.add(file)
        try:
            return file, read_text(file)
        except UnreadableFile as error:
            fault = error.fault
            self.errors.append(ConfigError(file, fault.line, fault.column, fault.message))
            return None, ""

    def _report(self, node: Node, message: str) -> None:
        self.errors.append(ConfigError(self._yaml, node.line, node.column, message))


def _ready(node: Node, value: object) -> ReadyNode:
    return ReadyNode(line=node.line, column=node.column, value=value)


def _at(path: Iterable[str | int]) -> str:
    steps = [str(part).replace("~", "~0").replace("/", "~1") for part in path]
    return f" (at /{'/'.join(steps)})" if steps else ""
