"""What is known of the connected nodes, for people and for whoever waits for a snapshot to arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from control_plane.xds.subscription import Nack


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeView:
    """One resource type on one stream.

    Attributes:
        sent_version, acked_version: of the type as a whole; None before the first.
        nack: the last refusal that no later acknowledgement has made history.
        pending: whether the node lacks something of it, or has not yet acknowledged it.
    """

    sent_version: str | None
    acked_version: str | None
    nack: Nack | None
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One connected stream.

    Attributes:
        group: the node's ``cluster``, which decides what it gets.
        connected_since: seconds since the epoch.
        types: by type URL.
    """

    id: str
    group: str
    connected_since: float
    types: Mapping[str, TypeView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a snapshot: node ids by outcome; a refusal comes with the node's words."""

    acknowledged: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
