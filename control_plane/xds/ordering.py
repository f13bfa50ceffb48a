"""What may be sent next on a stream: make before break ("Eventual consistency considerations" of the xDS protocol).

- Clusters go first, then endpoints, then listeners and routes, which wait for the clusters' acknowledgement: Envoy
  withholds it until they are warm.
- Endpoints follow every new or changed cluster, changed or not, and never wait for that acknowledgement: Envoy
  warms a changed cluster only when endpoints *arrive*, or after 15 s, and in the incremental variant does not ask.
- Clusters and endpoints are removed when the listeners and routes that used them are gone.

Which type plays which part is data, at the top. A type that is not named there is sent as soon as it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from control_plane.xds.snapshot import Resource, Snapshot, version_of
from control_plane.xds.subscription import Subscription
from gateway.envoy_api import cluster_v3

CLUSTER: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS: Final = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
EXTENSION: Final = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
LISTENER: Final = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SCOPED_ROUTE: Final = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
VIRTUAL_HOST: Final = "type.googleapis.com/envoy.config.route.v3.VirtualHost"

DEFAULT_ORDER: Final[Sequence[str]] = (
    CLUSTER,
    ENDPOINTS,
    SECRET,
    EXTENSION,
    LISTENER,
    SCOPED_ROUTE,
    ROUTE,
    VIRTUAL_HOST,
)

_USERS: Final = (LISTENER, SCOPED_ROUTE, ROUTE, VIRTUAL_HOST)
#: A change of the key waits until these are acknowledged.
CHANGED_AFTER: Final[Mapping[str, Sequence[str]]] = dict.fromkeys(_USERS, (CLUSTER,))
#: A removal of the key waits until these are acknowledged.
REMOVED_AFTER: Final[Mapping[str, Sequence[str]]] = {
    CLUSTER: _USERS,
    ENDPOINTS: (CLUSTER, *_USERS),
    SECRET: (CLUSTER, LISTENER),
    EXTENSION: _USERS,
}
#: Types whose first request means nothing when it names nothing; Envoy sends such requests after a reconnect.
NAMED_ONLY: Final = frozenset({ENDPOINTS, SECRET, EXTENSION, ROUTE, VIRTUAL_HOST})

#: How long an acknowledgement is waited for before the next type is sent all the same, in seconds.
PATIENCE_S: Final = 10.0


def endpoints_of(resource: Resource) -> str | None:
    """The name of the endpoints that a cluster asks for, None if it does not use EDS."""
    try:
        cluster = cluster_v3.Cluster.FromString(resource.body)
    except DecodeError:  # the client will say so
        return None
    if cluster.type != cluster_v3.Cluster.EDS:
        return None
    return cluster.eds_cluster_config.service_name or cluster.name


#: Children that are sent again when their parent changed: their type, and their name from the parent.
FOLLOWS: Final[Mapping[str, tuple[str, Callable[[Resource], str | None]]]] = {CLUSTER: (ENDPOINTS, endpoints_of)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One response that may be sent now.

    Attributes:
        present: resources that are new, changed or asked for.
        absent: names that are gone or never were.
        rest: what else a full-state response has to contain.
        overdue: types whose acknowledgement was given up waiting for.
    """

    type_url: str
    version: str
    present: tuple[Resource, ...]
    absent: tuple[str, ...]
    rest: tuple[Resource, ...] = ()
    overdue: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing may be sent now; look again at this moment if nothing happens before (monotonic seconds)."""

    until: float | None = None


@dataclass(slots=True)
class Order:
    """The order of one server.

    Attributes:
        types: in the order of sending; others follow.
        patience_s: see :data:`PATIENCE_S`.
    """

    types: Sequence[str] = DEFAULT_ORDER
    patience_s: float = PATIENCE_S

    def next(self, subscriptions: Mapping[str, Subscription], snapshot: Snapshot, now: float) -> Send | Wait:
        """The next response of a stream. Record it with :func:`record` before asking again."""
        until: list[float] = []
        for type_url in self._ranked(subscriptions):
            subscription = subscriptions[type_url]
            pending = subscription.pending(snapshot.of_type(type_url))
            if not pending:
                continue
            overdue: list[str] = []
            if self._waits_for_parents(type_url, subscriptions, snapshot, now, until, overdue):
                continue
            names, gone = set(pending.answers), set[str]()
            if not self._awaited(subscription, now, until):
                names |= set(pending.updates)
                if pending.removals and self._may_remove(type_url, subscriptions, snapshot, now, until):
                    gone = set(pending.removals)
            if names or gone or pending.greeting:
                return _response(type_url, subscription, snapshot, names, gone, tuple(overdue))
        return Wait(until=min(until, default=None))

    def _ranked(self, subscriptions: Mapping[str, Subscription]) -> Iterator[str]:
        yield from (type_url for type_url in self.types if type_url in subscriptions)
        yield from sorted(subscriptions.keys() - set(self.types))

    def _waits_for_parents(
        self,
        type_url: str,
        subscriptions: Mapping[str, Subscription],
        snapshot: Snapshot,
        now: float,
        until: list[float],
        overdue: list[str],
    ) -> bool:
        """Whether a change has to wait for types that it may refer to."""
        for parent_type in CHANGED_AFTER.get(type_url, ()):
            parent = subscriptions.get(parent_type)
            if parent is None:
                continue
            if parent.acked_version is None and subscriptions[type_url].holds_nothing:
                # Nothing that works can break, and a client that does not acknowledge gets its first answers.
                continue
            since = [moment for moment in (parent.in_flight_since, parent.refused_since) if moment is not None]
            lacks = parent.pending(snapshot.of_type(parent_type))
            if not (since or lacks.updates or lacks.answers):
                continue
            deadline = max(since, default=now) + self.patience_s
            if now < deadline:
                until.append(deadline)
                return True
            overdue.append(parent_type)
        return False

    def _may_remove(
        self,
        type_url: str,
        subscriptions: Mapping[str, Subscription],
        snapshot: Snapshot,
        now: float,
        until: list[float],
    ) -> bool:
        """Whether nothing that the client still uses can refer to what goes away."""
        return not any(
            user in subscriptions
            and (
                subscriptions[user].refused_since is not None
                or subscriptions[user].pending(snapshot.of_type(user))
                or self._awaited(subscriptions[user], now, until)
            )
            for user in REMOVED_AFTER.get(type_url, ())
        )

    def _awaited(self, subscription: Subscription, now: float, until: list[float]) -> bool:
        """Whether a response is on its way: changes wait for its acknowledgement and are merged meanwhile."""
        since = subscription.in_flight_since
        if since is None or now >= since + self.patience_s:
            return False
        until.append(since + self.patience_s)
        return True


def _response(
    type_url: str,
    subscription: Subscription,
    snapshot: Snapshot,
    names: set[str],
    gone: set[str],
    overdue: tuple[str, ...],
) -> Send:
    """The response with this news, and the full state where it has to be."""
    resources = snapshot.of_type(type_url)
    whole = subscription.whole(resources, names, gone)
    present = tuple(resources[name] for name in sorted(whole.present))
    return Send(
        type_url=type_url,
        # A version stands for what is in the response, so that no two contents have the same.
        version=version_of((*present, *whole.rest)) if whole.mixed else snapshot.type_version(type_url),
        present=present,
        absent=tuple(sorted(whole.absent)),
        rest=whole.rest,
        overdue=overdue,
    )


def record(subscriptions: Mapping[str, Subscription], send: Send, nonce: str, now: float) -> None:
    """Note a response as sent, and that the children of what it changed have to follow."""
    subscriptions[send.type_url].sent(nonce, send.version, send.present, send.absent, now, send.rest)
    child_type, child_name = FOLLOWS.get(send.type_url, (None, None))
    child = subscriptions.get(child_type) if child_type else None
    if child is None or child_name is None:
        return
    for resource in send.present:
        name = child_name(resource)
        if name is not None:
            child.force(name)
