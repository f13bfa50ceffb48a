"""What clients say of responses, and refused ones: names that are held back until one of their response changes.

A refused response is held back whole, because the client may have applied its good parts or none of it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from control_plane.xds.snapshot import Resource


class Verdict(enum.Enum):
    """What a request's nonce said about an earlier response."""

    NONE = "no nonce: the client spoke of its own accord"
    ACK = "applied"
    NACK = "refused"
    STALE = "a nonce that is not waited for"


class Mark(enum.Enum):
    """What the client has of a name, where that is not a version."""

    ABSENT = "it was told that there is no such resource"
    UNKNOWN = "it refused a response with this name, and may or may not have applied this part of it"


#: What a client has of a name.
Held = str | Mark


@dataclass(slots=True, kw_only=True)
class _Refusal:
    """Names of one refused response that are not sent again until one of them changes."""

    names: Mapping[str, Held]
    since: float


@dataclass(slots=True)
class Refusals:
    """What one client refused of one type and was not sent since. False when there is nothing."""

    _all: list[_Refusal] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def since(self) -> float | None:
        """When the newest of them came."""
        return self._all[-1].since if self._all else None

    def add(self, names: Mapping[str, Held], since: float) -> None:
        """A refused response."""
        if names:
            self._all.append(_Refusal(names=names, since=since))

    def blocked(self) -> set[str]:
        """Names that are not sent of the server's own accord."""
        return {name for refusal in self._all for name in refusal.names}

    def forget(self, names: Iterable[str]) -> None:
        """Names that were sent again, or that the client no longer wants.

        They may be what was wrong with their response, so the rest of it is held back no longer.
        """
        if self._all:
            forgotten = set(names)
            self._all = [refusal for refusal in self._all if forgotten.isdisjoint(refusal.names)]

    def lift(self, resources: Mapping[str, Resource]) -> None:
        """Drop refusals that a change made obsolete: then all of that response is sent again."""

        def unchanged(name: str, refused: Held) -> bool:
            wanted = resources.get(name)
            return refused == (Mark.ABSENT if wanted is None else wanted.version)

        self._all = [r for r in self._all if all(unchanged(*item) for item in r.names.items())]
