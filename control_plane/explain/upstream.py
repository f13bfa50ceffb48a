"""Where a request goes that has passed: clusters with their shares, path, patience, balance, and known endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from control_plane.explain.unknown import CannotExplainError
from control_plane.plan.words import duration
from control_plane.translate.snapshot import Translation
from gateway import envoy_api as api

_POLICY_PREFIX: Final = "envoy.load_balancing_policies."
_BACKEND_PREFIX: Final = "backend/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One backend that may get the request.

    Attributes:
        weight: its share, among the weights of all.
        balance: how an endpoint is chosen, in Envoy's word.
        max_requests: how many requests it may have at a time, of all clients.
        endpoints: addresses, as known here; health is not looked at.
    """

    backend: str
    weight: int
    balance: str
    max_requests: int
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """What the model's route does with the request.

    Attributes:
        mirrors: backends that get a copy, with the percentage of requests.
        timeout_s: for the whole answer, all tries together.
        retries: further tries on other endpoints, and on what (``retry_on``).
    """

    route: str
    pools: tuple[Pool, ...]
    mirrors: tuple[tuple[str, float], ...]
    path: str
    timeout_s: float
    retries: int
    retry_on: str

    def as_data(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    @property
    def names(self) -> str:
        """The backends, in words."""
        word = "backend" if len(self.pools) == 1 else "backends"
        return f"{word} {' or '.join(pool.backend for pool in self.pools)}"

    @property
    def has_endpoints(self) -> bool:
        """Whether any server is known at all."""
        return any(pool.endpoints for pool in self.pools)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Name and content of what there is to say."""
        total = sum(pool.weight for pool in self.pools)
        for pool in self.pools:
            share = "" if len(self.pools) == 1 else f", {pool.weight} of {total} requests"
            where = ", ".join(pool.endpoints) or "no endpoint is known now"
            yield "backend", f"{pool.backend}{share}: {pool.balance} of {where}; {_bound(pool.max_requests)}"
        for backend, percent in self.mirrors:
            yield "mirror", f"{percent:g} % of requests go to {backend} too; its answers are thrown away"
        yield "upstream", f"path {self.path}, timeout {duration(self.timeout_s)}, {self.retries} retries"


def destination(route: api.route_v3.Route, translation: Translation) -> Destination:
    """Where a route leads.

    Raises:
        CannotExplainError: it chooses its cluster in a way that is not known here.
    """
    action = route.route
    kind = action.WhichOneof("cluster_specifier")
    if kind == "cluster":
        shares = [(action.cluster, 1)]
    elif kind == "weighted_clusters":
        shares = [(share.name, share.weight.value) for share in action.weighted_clusters.clusters if share.weight.value]
    else:
        raise CannotExplainError(f"route {route.name} chooses its cluster by {kind}, which isg explain does not know")
    return Destination(
        route=route.name,
        pools=tuple(_pool(cluster, weight, translation) for cluster, weight in shares),
        mirrors=tuple((_backend(mirror.cluster), _percent(mirror)) for mirror in action.request_mirror_policies),
        path=action.path_rewrite.replace("%%", "%") or "unchanged",
        timeout_s=action.timeout.ToTimedelta().total_seconds(),
        retries=action.retry_policy.num_retries.value,
        retry_on=action.retry_policy.retry_on,
    )


def _pool(name: str, weight: int, translation: Translation) -> Pool:
    cluster = next((cluster for cluster in translation.clusters if cluster.name == name), None)
    if cluster is None:
        raise CannotExplainError(f"the cluster {name} does not exist")
    assignment = next((one for one in translation.endpoints if one.cluster_name == name), cluster.load_assignment)
    return Pool(
        backend=_backend(name),
        weight=weight,
        balance=_balance(cluster),
        max_requests=max((row.max_requests.value for row in cluster.circuit_breakers.thresholds), default=0),
        endpoints=tuple(
            _address(endpoint.endpoint.address)
            for locality in assignment.endpoints
            for endpoint in locality.lb_endpoints
        ),
    )


def _backend(cluster: str) -> str:
    return cluster.removeprefix(_BACKEND_PREFIX)


def _bound(max_requests: int) -> str:
    # Translations without a bound of their own still need a number, far above anything that one Envoy holds.
    return "requests at a time not bounded" if max_requests >= 1_000_000 else f"{max_requests} requests at a time"


def _percent(mirror: api.route_v3.RouteAction.RequestMirrorPolicy) -> float:
    share = mirror.runtime_fraction.default_value
    fraction = api.type_v3.FractionalPercent
    whole = {fraction.HUNDRED: 100, fraction.TEN_THOUSAND: 10_000, fraction.MILLION: 1_000_000}[share.denominator]
    return 100 * share.numerator / whole


def _balance(cluster: api.cluster_v3.Cluster) -> str:
    """The policy that picks where no endpoint is asked for."""
    extension = cluster.load_balancing_policy.policies[0].typed_extension_config
    if extension.typed_config.type_url.endswith(".OverrideHost"):
        fallback = api.lb_override_host_v3.OverrideHost.FromString(extension.typed_config.value).fallback_policy
        extension = fallback.policies[0].typed_extension_config
    return extension.name.removeprefix(_POLICY_PREFIX)


def _address(address: api.core_v3.Address) -> str:
    found = address.socket_address
    host = f"[{found.address}]" if ":" in found.address else found.address
    return f"{host}:{found.port_value}"
