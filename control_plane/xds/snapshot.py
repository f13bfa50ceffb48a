"""What a group of nodes should have: an immutable set of resources whose versions are hashes of their content.

No clock and no counter takes part in a version, so a restarted server or a second replica gives identical resources
identical versions, and a client that reconnects is sent nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_DIGEST_BYTES: Final = 8
_NONE: Final[Mapping[str, Resource]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Resource:
    """One named resource, already serialized.

    Attributes:
        type_url: what ``body`` is (``type.googleapis.com/envoy.config.cluster.v3.Cluster``).
        name: unique within its type.
        body: the message's bytes; serialize deterministically, or equal resources get unequal versions.
        version: hash of the body.
    """

    type_url: str
    name: str
    body: bytes = field(repr=False)
    version: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", _digest([self.body]))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All resources of a group at one moment. Make it with :meth:`of`.

    Attributes:
        types: type URL to name to resource, both sorted.
        version: hash over everything; equal for equal content, in whatever order it was given.
        type_versions: hash over the resources of each type.
    """

    types: Mapping[str, Mapping[str, Resource]]
    version: str
    type_versions: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> Snapshot:
        """A snapshot of some resources, in any order.

        Raises:
            ValueError: two resources of one type have the same name (clients disagree on what that means).
        """
        by_type: dict[str, dict[str, Resource]] = {}
        for resource in sorted(resources, key=lambda r: (r.type_url, r.name)):
            named = by_type.setdefault(resource.type_url, {})
            if resource.name in named:
                raise ValueError(f"two resources of type {resource.type_url} are named {resource.name!r}")
            named[resource.name] = resource
        versions = {type_url: _type_version(named) for type_url, named in by_type.items()}
        whole = _digest(part.encode() for item in versions.items() for part in item)
        types = {type_url: MappingProxyType(named) for type_url, named in by_type.items()}
        return cls(MappingProxyType(types), whole, MappingProxyType(versions))

    def of_type(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of a type by name; empty for a type that the snapshot does not have."""
        return self.types.get(type_url, _NONE)

    def type_version(self, type_url: str) -> str:
        """The version of a type as a whole, also for a type without resources."""
        return self.type_versions.get(type_url) or _type_version(_NONE)


def _type_version(named: Mapping[str, Resource]) -> str:
    return _digest(part.encode() for name, resource in named.items() for part in (name, resource.version))


def version_of(resources: Iterable[Resource]) -> str:
    """The version of a type as a whole that has exactly these resources, in whatever order they are given."""
    return _type_version({resource.name: resource for resource in sorted(resources, key=lambda r: r.name)})


def _digest(parts: Iterable[bytes]) -> str:
    """Hash of a list of byte strings; each is preceded by its length, so that their borders count."""
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.hexdigest()
