"""What the server knows of the nodes that are connected: for people, and for whoever waits for an acknowledgement."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from control_plane.xds.snapshot import Snapshot
from control_plane.xds.subscription import Nack, Subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeView:
    """One type on one node.

    Attributes:
        sent_version, acked_version: versions of the type as a whole; None before the first.
        nack: the last refusal, None once it is overcome.
        pending: the node has not acknowledged all that it subscribes to.
    """

    sent_version: str | None
    acked_version: str | None
    nack: Nack | None
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A connected node, by its newest stream.

    Attributes:
        group: its ``node.cluster``.
        connected_since: wall-clock time, seconds since the epoch.
        types: by type URL.
    """

    id: str
    group: str
    connected_since: float
    types: Mapping[str, TypeView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How the nodes of a group took a snapshot.

    Attributes:
        acknowledged: ids of nodes that have all of it that they subscribe to.
        refused: ids of nodes that refused something of it, with their words.
        waiting: ids of nodes that said nothing yet.
    """

    acknowledged: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()


class Standing(enum.IntEnum):
    """How far a stream is with a snapshot; of several streams of one node the greatest counts."""

    ACKNOWLEDGED = 0
    WAITING = 1
    REFUSED = 2


def standing(subscriptions: Mapping[str, Subscription], snapshot: Snapshot) -> tuple[Standing, str]:
    """How far a stream is, with the client's words where it refused."""
    result, words = Standing.ACKNOWLEDGED, ""
    for type_url, subscription in subscriptions.items():
        pending = subscription.pending(snapshot.of_type(type_url))
        if subscription.refused_since is not None:
            return Standing.REFUSED, subscription.nack.text if subscription.nack else ""
        if pending or subscription.in_flight_since is not None:
            result = Standing.WAITING
    return result, words


def sum_up(standings: Iterable[tuple[str, tuple[Standing, str]]]) -> Settled:
    """The standings of a group's streams, by node id."""
    worst: dict[str, tuple[Standing, str]] = {}
    for node, found in standings:
        worst[node] = max(found, worst.get(node, found))
    return Settled(
        acknowledged=tuple(sorted(n for n, (level, _) in worst.items() if level is Standing.ACKNOWLEDGED)),
        refused={n: words for n, (level, words) in sorted(worst.items()) if level is Standing.REFUSED},
        waiting=tuple(sorted(n for n, (level, _) in worst.items() if level is Standing.WAITING)),
    )


def view_types(subscriptions: Mapping[str, Subscription], snapshot: Snapshot | None) -> Mapping[str, TypeView]:
    """One stream's subscriptions for people."""
    return {
        type_url: TypeView(
            sent_version=subscription.sent_version,
            acked_version=subscription.acked_version,
            nack=subscription.nack,
            pending=snapshot is None
            or bool(subscription.pending(snapshot.of_type(type_url)))
            or subscription.in_flight_since is not None
            or subscription.refused_since is not None,
        )
        for type_url, subscription in subscriptions.items()
    }
