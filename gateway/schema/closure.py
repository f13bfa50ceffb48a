"""The messages and enums that some root messages refer to, with the names they have in proto."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Final

import betterproto2
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf import any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

from gateway.messages import TYPE_URL_PREFIX

#: Messages that protobuf brings itself, and the file each is in.
WELL_KNOWN: Final = {
    f"google.protobuf.{name}": file.DESCRIPTOR.name
    for file in (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
    for name in file.DESCRIPTOR.message_types_by_name
}
_WELL_KNOWN_ENUMS: Final = {"NullValue": "google.protobuf.NullValue"}

MessageClass = type[betterproto2.Message]
EnumClass = type[betterproto2.Enum]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FieldFacts:
    """What betterproto2 knows of one field.

    Attributes:
        kind: the Python class of its values; for a map, of the map's values.
    """

    name: str
    meta: betterproto2.FieldMetadata
    kind: type

    @property
    def proto_name(self) -> str:
        """The name in proto: betterproto2 appends an underscore to Python's keywords."""
        return self.name.removesuffix("_")


class Closure:
    """Everything that some root messages refer to.

    Attributes:
        messages: by full proto name.
        enums: by the full name of the message or package that they stand in.
    """

    def __init__(self, roots: Collection[str]) -> None:
        for package in sorted({package_of(root) for root in roots}):
            importlib.import_module(f"envoy_data_plane.{package}")
        self.messages: dict[str, MessageClass] = {}
        self.enums: dict[str, list[EnumClass]] = {}
        self._places: dict[EnumClass, tuple[str, str]] = {}
        self._references: dict[str, set[str]] = {}
        self._visit(list(roots))

    def groups(self) -> list[list[str]]:
        """Top-level names, those that need each other together, each group after all that it needs."""
        return _strongly_connected(self._top_level())

    def outside(self, top: str) -> set[str]:
        """Names that a top-level message refers to and that are not inside it."""
        found: set[str] = set()
        for name, targets in self._references.items():
            if top_of(name) == top:
                found |= {t for t in targets if t.startswith("google.protobuf.") or top_of(t) != top}
        return {"google.protobuf.Value" if t == "google.protobuf.NullValue" else t for t in found}

    def name_of(self, kind: type) -> str | None:
        """The full proto name of a message or enum class; None for a scalar."""
        if issubclass(kind, betterproto2.Message):
            return str(default_message_pool.type_to_url[kind]).removeprefix(TYPE_URL_PREFIX)
        if issubclass(kind, betterproto2.Enum):
            return _WELL_KNOWN_ENUMS.get(kind.__name__) or ".".join(self._place(kind))
        return None

    def enum_at(self, name: str) -> EnumClass:
        """The enum of a full name."""
        return next(kind for kind, place in self._places.items() if ".".join(place) == name)

    def _visit(self, queue: list[str]) -> None:
        while queue:
            name = queue.pop()
            if name in self.messages or name in WELL_KNOWN:
                continue
            cls = default_message_pool.url_to_type.get(TYPE_URL_PREFIX + name)
            if cls is None:
                raise LookupError(f"envoy-data-plane has no message {name}")
            self.messages[name] = cls
            if name != top_of(name):
                queue.append(top_of(name))
            queue.extend(self._refer(name, cls))
        for found in list(self.messages.values()):  # enums need the whole closure to find their place
            for field in fields_of(found):
                if issubclass(field.kind, betterproto2.Enum) and field.kind.__name__ not in _WELL_KNOWN_ENUMS:
                    self._place(field.kind)

    def _refer(self, name: str, cls: MessageClass) -> Iterable[str]:
        """Note what a message refers to; the messages among it."""
        references = self._references[name] = set()
        for field in fields_of(cls):
            target = self.name_of(field.kind)
            if target:
                references.add(target)
                if issubclass(field.kind, betterproto2.Message):
                    yield target

    def _place(self, kind: EnumClass) -> tuple[str, str]:
        """Owner and name of an enum: betterproto2 flattens ``A.B`` to ``AB``; undo that."""
        if kind not in self._places:
            module = kind.__module__
            owners = [
                (cls.__name__, url.removeprefix(TYPE_URL_PREFIX))
                for url, cls in default_message_pool.url_to_type.items()
                if cls.__module__ == module and kind.__name__.startswith(cls.__name__) and kind.__name__ != cls.__name__
            ]
            package = module.removeprefix("envoy_data_plane.")
            flat, owner = max(owners, default=("", package), key=lambda item: len(item[0]))
            self._places[kind] = (owner, kind.__name__[len(flat) :])
            self.enums.setdefault(owner, []).append(kind)
            if flat and owner not in self.messages:
                self._visit([owner])
        return self._places[kind]

    def _top_level(self) -> dict[str, set[str]]:
        """The graph of top-level types: name to the names it needs, well-known ones left out."""
        graph: dict[str, set[str]] = {}
        for name, targets in self._references.items():
            needed = {top_of(target) for target in targets if not target.startswith("google.protobuf.")}
            graph.setdefault(top_of(name), set()).update(needed)
        for place in self._places.values():
            if ".".join(place) == top_of(".".join(place)):
                graph.setdefault(".".join(place), set())
        return graph


@cache
def fields_of(cls: MessageClass) -> tuple[FieldFacts, ...]:
    """The fields of a message in the order of their numbers."""
    # betterproto2 types neither its messages as the dataclasses that they are, nor `_betterproto` as inherited.
    untyped: Any = cls
    found = []
    for field in dataclasses.fields(untyped):
        meta = field.metadata["betterproto"]
        by_field = untyped._betterproto.cls_by_field  # noqa: SLF001 - the only place that knows the classes
        value = meta.map_meta[1] if meta.map_meta else meta
        key = f"{field.name}.value" if meta.map_meta else field.name
        found.append(FieldFacts(name=field.name, meta=meta, kind=value.unwrap() if value.unwrap else by_field[key]))
    return tuple(sorted(found, key=lambda facts: facts.meta.number))


def package_of(name: str) -> str:
    """The proto package of a full name: the leading lower-case parts (Envoy's naming convention)."""
    parts = name.split(".")
    return ".".join(parts[: next(i for i, part in enumerate(parts) if part[:1].isupper())])


def top_of(name: str) -> str:
    """The top-level message or enum that a full name stands in."""
    package = package_of(name)
    return f"{package}.{name.removeprefix(package + '.').split('.')[0]}"


def _strongly_connected(graph: dict[str, set[str]]) -> list[list[str]]:
    """Tarjan's algorithm: groups of mutually reachable names, each after all that it needs."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            at = stack.index(name)
            result.append(stack[at:])
            del stack[at:]

    sys.setrecursionlimit(10_000)
    for name in sorted(graph):
        if name not in index:
            visit(name)
    return result
