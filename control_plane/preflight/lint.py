"""What Envoy accepts and then does wrong: references to nothing, and routes that let requests around a safeguard.

``envoy --mode validate`` and a running Envoy take all of these without a word. Each finding is a sentence; a
translation with findings is not pushed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from control_plane.translate.entry_routes import NOWHERE
from control_plane.translate.filter_chain import AUTHORIZATION, GATE, HOLD, PAYLOAD, ROUTER, SIZE
from control_plane.translate.snapshot import Translation
from gateway import envoy_api as api

#: What only a direct response may switch off.
SAFEGUARDS = frozenset({SIZE, AUTHORIZATION, PAYLOAD, HOLD, GATE})


def lint(translation: Translation) -> tuple[str, ...]:
    """Every finding in a translation; none is good."""
    return (
        *_unique(translation),
        *_endpoints(translation),
        *(
            finding
            for listener in translation.listeners
            for manager in connection_managers(listener)
            for finding in _manager(listener.name, manager, translation)
        ),
        *(
            finding
            for configuration in translation.routes
            for host in configuration.virtual_hosts
            for finding in _routes(host.routes, translation)
        ),
    )


def connection_managers(listener: api.listener_v3.Listener) -> Iterator[api.hcm_v3.HttpConnectionManager]:
    """The HTTP connection managers inside a listener."""
    for chain in listener.filter_chains:
        for network_filter in chain.filters:
            if network_filter.typed_config.type_url.endswith(".HttpConnectionManager"):
                manager = api.hcm_v3.HttpConnectionManager()
                manager.ParseFromString(network_filter.typed_config.value)
                yield manager


def _unique(translation: Translation) -> Iterator[str]:
    named = {
        "listeners": [listener.name for listener in translation.listeners],
        "route configurations": [routes.name for routes in translation.routes],
        "clusters": [cluster.name for cluster in translation.clusters],
        "endpoint sets": [endpoints.cluster_name for endpoints in translation.endpoints],
    }
    for kind, names in named.items():
        yield from (f"two {kind} are named {name!r}" for name in _twice(names))
    for configuration in translation.routes:
        domains = [domain for host in configuration.virtual_hosts for domain in host.domains]
        yield from (f"two virtual hosts serve the domain {domain!r}" for domain in _twice(domains))


def _endpoints(translation: Translation) -> Iterator[str]:
    wanted = {cluster.name for cluster in translation.clusters if cluster.type == api.cluster_v3.Cluster.EDS}
    given = {endpoints.cluster_name for endpoints in translation.endpoints}
    yield from (f"cluster {name!r} waits for endpoints that nobody sends" for name in sorted(wanted - given))
    yield from (f"endpoints of {name!r}, which is no cluster that asks for them" for name in sorted(given - wanted))


def _manager(listener: str, manager: api.hcm_v3.HttpConnectionManager, translation: Translation) -> Iterator[str]:
    clusters = {cluster.name for cluster in translation.clusters}
    names = [http_filter.name for http_filter in manager.http_filters]
    yield from (f"listener {listener!r} has two filters named {name!r}" for name in _twice(names))
    if not names or names[-1] != ROUTER:
        yield f"listener {listener!r} does not end with the router"
    yield from (f"listener {listener!r} lacks the filter {name!r}" for name in sorted(SAFEGUARDS - set(names)))
    for http_filter in manager.http_filters:
        cluster = _service(http_filter.typed_config)
        if cluster is not None and cluster not in clusters:
            yield f"filter {http_filter.name!r} asks the cluster {cluster!r}, which does not exist"
    known = {routes.name for routes in translation.routes}
    if manager.rds.route_config_name not in known:
        yield f"listener {listener!r} waits for the routes {manager.rds.route_config_name!r}, which nobody sends"
    for configuration in translation.routes:
        for host in configuration.virtual_hosts:
            for route in host.routes:
                for name in sorted(route.typed_per_filter_config.keys() - set(names)):
                    yield f"route {route.name!r} configures the filter {name!r}, which listener {listener!r} has not"


def _service(config: api.protobuf.Any) -> str | None:
    """The cluster that a filter asks, None for a filter that asks nobody."""
    if config.type_url.endswith(".ExtAuthz"):
        return api.ext_authz_v3.ExtAuthz.FromString(config.value).http_service.server_uri.cluster
    if config.type_url.endswith(".ExternalProcessor"):
        processor = api.ext_proc_filter_v3.ExternalProcessor.FromString(config.value)
        return processor.grpc_service.envoy_grpc.cluster_name
    return None


def _routes(routes: Iterable[api.route_v3.Route], translation: Translation) -> Iterator[str]:
    clusters = {cluster.name for cluster in translation.clusters}
    seen: dict[bytes, str] = {}
    for route in routes:
        match = route.match.SerializeToString(deterministic=True)
        if match in seen:
            yield f"route {route.name!r} is never reached: {seen[match]!r} matches the same requests before it"
        seen.setdefault(match, route.name)
        targets = set(_targets(route.route))
        for cluster in sorted(targets - clusters - {NOWHERE}):
            yield f"route {route.name!r} leads to the cluster {cluster!r}, which does not exist"
        if targets - {NOWHERE} and not route.match.dynamic_metadata:
            yield f"route {route.name!r} leads to a model server and could be a request's first route"
        switched_off = {name for name, config in route.typed_per_filter_config.items() if _disables(config)}
        if route.HasField("route"):
            for name in sorted(switched_off & SAFEGUARDS):
                yield f"route {route.name!r} switches off {name!r}, which only a direct response may"
        tries = route.route.retry_policy.per_try_timeout.ToTimedelta()
        if route.route.HasField("timeout") and tries > route.route.timeout.ToTimedelta():
            yield f"route {route.name!r} gives one try more time than the whole request"


def _targets(action: api.route_v3.RouteAction) -> Iterator[str]:
    if action.cluster:
        yield action.cluster
    yield from (target.name for target in action.weighted_clusters.clusters)
    yield from (mirror.cluster for mirror in action.request_mirror_policies)


def _disables(config: api.protobuf.Any) -> bool:
    if not config.type_url.endswith(".FilterConfig"):
        return False
    return api.route_v3.FilterConfig.FromString(config.value).disabled


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
