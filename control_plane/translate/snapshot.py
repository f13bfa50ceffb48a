"""A whole configuration as Envoy resources and policies: the translator's one entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.config.model import Config, Endpoint
from control_plane.translate.clusters import backend_cluster, has_dns_names, load_assignment, service_clusters
from control_plane.translate.listener import listener
from control_plane.translate.policies import gateway_policy, model_policies
from control_plane.translate.routes import route_configuration
from gateway import envoy_api as api
from gateway.policy import GatewayPolicy, ModelPolicy
from gateway.state import StateDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """What one configuration means.

    Attributes:
        models: policies by public name.
        longest_timeout_s: how long a request can stay on one of these routes once its body has arrived.
    """

    listeners: tuple[api.listener_v3.Listener, ...]
    routes: tuple[api.route_v3.RouteConfiguration, ...]
    clusters: tuple[api.cluster_v3.Cluster, ...]
    endpoints: tuple[api.endpoint_v3.ClusterLoadAssignment, ...]
    gateway: GatewayPolicy
    models: Mapping[str, ModelPolicy]
    longest_timeout_s: float


def translate(config: Config, state: StateDir, local: Mapping[str, tuple[Endpoint, ...]]) -> Translation:
    """Translate a configuration.

    Args:
        state: whose sockets Envoy reaches the services by.
        local: where the replicas of backends with ``run:`` are now; a backend that is missing has none yet.
    """
    policies = model_policies(config)
    pools = {
        name: local.get(name, ()) if backend.run is not None else backend.endpoints
        for name, backend in sorted(config.backends.items())
    }
    return Translation(
        listeners=tuple(listener(address) for address in config.listen),
        routes=(route_configuration(config, policies),),
        clusters=(
            *service_clusters(state),
            *(backend_cluster(name, config.backends[name], pool) for name, pool in pools.items()),
        ),
        endpoints=tuple(load_assignment(name, pool) for name, pool in pools.items() if not has_dns_names(pool)),
        gateway=gateway_policy(config),
        models=policies,
        longest_timeout_s=max((model.timeout_s for model in config.models.values()), default=0),
    )
