"""A client and a server's stream in one process, without sockets: requests in, responses out, time by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from control_plane.xds import delta, sotw
from control_plane.xds.ordering import CLUSTER, ENDPOINTS, LISTENER, ROUTE, Order, Send, Wait, record
from control_plane.xds.snapshot import Resource, Snapshot
from control_plane.xds.subscription import Subscription
from control_plane.xds.verdicts import Verdict
from gateway.envoy_api import cluster_v3, core_v3, discovery_v3, rpc

POLICY = "type.googleapis.com/test.v1.Policy"
#: Types whose responses are full states in the state-of-the-world variant.
FULL = (CLUSTER, LISTENER, POLICY)
__all__ = [
    "CLUSTER",
    "ENDPOINTS",
    "FULL",
    "LISTENER",
    "POLICY",
    "ROUTE",
    "Line",
    "Sent",
    "WorldLine",
    "cluster",
    "named",
    "read_named",
    "resource",
    "snapshot",
    "world",
]


def resource(type_url: str, name: str, content: str = "1") -> Resource:
    return Resource(type_url, name, content.encode())


def cluster(name: str, content: float = 1, service_name: str = "") -> Resource:
    message = cluster_v3.Cluster(name=name, type=cluster_v3.Cluster.EDS)
    message.eds_cluster_config.service_name = service_name
    message.connect_timeout.FromMilliseconds(int(content))
    return Resource(CLUSTER, name, message.SerializeToString(deterministic=True))


def snapshot(type_url: str = POLICY, **named: str) -> Snapshot:
    """One type's resources, name=content."""
    return Snapshot.of(resource(type_url, name, content) for name, content in named.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One response as the client sees it."""

    type_url: str
    nonce: str
    version: str
    resources: Mapping[str, str]
    bodies: Mapping[str, bytes] = field(repr=False)
    removed: tuple[str, ...]

    @classmethod
    def read(cls, data: bytes) -> Sent:
        message = discovery_v3.DeltaDiscoveryResponse.FromString(data)
        names = [resource.name for resource in message.resources]
        assert len(set(names)) == len(names), "a name twice in one response"
        assert not set(names) & set(message.removed_resources)
        assert all(resource.resource.type_url == message.type_url for resource in message.resources)
        return cls(
            type_url=message.type_url,
            nonce=message.nonce,
            version=message.system_version_info,
            resources={resource.name: resource.version for resource in message.resources},
            bodies={resource.name: resource.resource.value for resource in message.resources},
            removed=tuple(message.removed_resources),
        )

    @property
    def what(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names sent, names removed."""
        return tuple(sorted(self.resources)), tuple(sorted(self.removed))


@dataclass(slots=True)
class Line:
    """One stream. ``now`` is moved by the test."""

    snapshot: Snapshot | None = None
    order: Order = field(default_factory=Order)
    now: float = 1000.0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    nonces: Iterable[int] = field(default_factory=lambda: count(1))

    def ask(
        self,
        type_url: str = POLICY,
        *,
        add: Iterable[str] = (),
        drop: Iterable[str] = (),
        versions: Mapping[str, str] | None = None,
        nonce: str = "",
        error: str | None = None,
    ) -> Verdict:
        message = discovery_v3.DeltaDiscoveryRequest(
            node=core_v3.Node(id="n", cluster="g"),
            type_url=type_url,
            resource_names_subscribe=add,
            resource_names_unsubscribe=drop,
            initial_resource_versions=versions or {},
            response_nonce=nonce,
        )
        if error is not None:
            message.error_detail.CopyFrom(rpc.Status(code=3, message=error))
        request = delta.parse(message.SerializeToString())
        return request.follow(self.subscriptions, now=self.now, wall_clock=self.now)

    def ack(self, sent: Sent) -> Verdict:
        return self.ask(sent.type_url, nonce=sent.nonce)

    def nack(self, sent: Sent, words: str = "no") -> Verdict:
        return self.ask(sent.type_url, nonce=sent.nonce, error=words)

    def due(self) -> Send | Wait:
        """What the server may do now."""
        return Wait() if self.snapshot is None else self.order.next(self.subscriptions, self.snapshot, self.now)

    def next(self) -> Sent | None:
        """The next response, if one may be sent."""
        due = self.due()
        if not isinstance(due, Send):
            return None
        nonce = str(next(iter(self.nonces)))
        record(self.subscriptions, due, nonce, self.now)
        return self.read(due, nonce)

    def read(self, due: Send, nonce: str) -> Sent:
        """What the client sees of a response."""
        return Sent.read(delta.response(due, nonce))

    def drain(self) -> list[Sent]:
        """All responses that may be sent without a further word of the client."""
        return list(iter(self.next, None))

    def one(self) -> Sent:
        """The only response that may be sent."""
        found = self.drain()
        assert len(found) == 1, found
        return found[0]

    def settle(self) -> list[Sent]:
        """Responses until there are no more, each acknowledged at once."""
        result = []
        while (sent := self.next()) is not None:
            self.ack(sent)
            result.append(sent)
        return result


def named(type_url: str, name: str, content: str = "1") -> Resource:
    """A resource whose body has its name, as the bodies of Envoy's have."""
    if type_url == CLUSTER:
        return cluster(name, int.from_bytes(content.encode()))
    return resource(type_url, name, f"{name}={content}")


def world(type_url: str = POLICY, **contents: str) -> Snapshot:
    """One type's resources with their names in their bodies, name=content."""
    return Snapshot.of(named(type_url, name, content) for name, content in contents.items())


def read_named(type_url: str, body: bytes) -> tuple[str, bytes]:
    if type_url == CLUSTER:
        message = cluster_v3.Cluster.FromString(body)
        number = message.connect_timeout.ToMilliseconds()
        return message.name, number.to_bytes((number.bit_length() + 7) // 8)
    name, _, content = body.partition(b"=")
    return name.decode(), content


def read_world(data: bytes) -> Sent:
    """A response of the state-of-the-world variant."""
    message = discovery_v3.DiscoveryResponse.FromString(data)
    assert all(found.type_url == message.type_url for found in message.resources)
    bodies = [read_named(message.type_url, found.value) for found in message.resources]
    assert len(dict(bodies)) == len(bodies), "a name twice in one response"
    return Sent(
        type_url=message.type_url,
        nonce=message.nonce,
        version=message.version_info,
        resources=dict.fromkeys(dict(bodies), ""),
        bodies=dict(bodies),
        removed=(),
    )


@dataclass(slots=True)
class WorldLine(Line):
    """One stream of the state-of-the-world variant. Requests list all names, and are made with :meth:`want`."""

    wanted: dict[str, list[str]] = field(default_factory=dict)

    def want(
        self,
        *names: str,
        type_url: str = POLICY,
        version: str = "",
        nonce: str = "",
        error: str | None = None,
    ) -> Verdict:
        self.wanted[type_url] = list(names)
        message = discovery_v3.DiscoveryRequest(
            node=core_v3.Node(id="n", cluster="g"),
            type_url=type_url,
            resource_names=names,
            version_info=version,
            response_nonce=nonce,
        )
        if error is not None:
            message.error_detail.CopyFrom(rpc.Status(code=3, message=error))
        request = sotw.parse(message.SerializeToString())
        return request.follow(self.subscriptions, now=self.now, wall_clock=self.now)

    def ack(self, sent: Sent) -> Verdict:
        names = self.wanted[sent.type_url]
        return self.want(*names, type_url=sent.type_url, version=sent.version, nonce=sent.nonce)

    def nack(self, sent: Sent, words: str = "no") -> Verdict:
        names = self.wanted[sent.type_url]
        return self.want(*names, type_url=sent.type_url, nonce=sent.nonce, error=words)

    def read(self, due: Send, nonce: str) -> Sent:
        return read_world(sotw.response(due, nonce))
