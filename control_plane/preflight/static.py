"""A translation as one static bootstrap file: everything that xDS would deliver, inline."""

from __future__ import annotations

from google.protobuf.json_format import MessageToJson

from control_plane.translate.snapshot import Translation
from control_plane.translate.wire import any_of
from gateway import envoy_api as api
from gateway.messages import pool


def static_bootstrap(translation: Translation, *, admin: api.core_v3.Address | None = None) -> str:
    """The text of a bootstrap file (JSON) that behaves as the translation does over xDS.

    Args:
        admin: where Envoy's admin interface listens; nowhere by default.
    """
    routes = {route.name: route for route in translation.routes}
    endpoints = {assignment.cluster_name: assignment for assignment in translation.endpoints}
    message = api.bootstrap_v3.Bootstrap(
        node=api.core_v3.Node(id="preflight", cluster="preflight"),
        static_resources=api.bootstrap_v3.Bootstrap.StaticResources(
            listeners=[_inline_routes(listener, routes) for listener in translation.listeners],
            clusters=[_inline_endpoints(cluster, endpoints) for cluster in translation.clusters],
        ),
    )
    if admin is not None:
        message.admin.address.CopyFrom(admin)
    return MessageToJson(message, preserving_proto_field_name=True, descriptor_pool=pool(), indent=1) + "\n"


def _inline_routes(
    listener: api.listener_v3.Listener, routes: dict[str, api.route_v3.RouteConfiguration]
) -> api.listener_v3.Listener:
    result = api.listener_v3.Listener()
    result.CopyFrom(listener)
    for chain in result.filter_chains:
        for network_filter in chain.filters:
            manager = api.hcm_v3.HttpConnectionManager()
            manager.ParseFromString(network_filter.typed_config.value)
            manager.route_config.CopyFrom(routes[manager.rds.route_config_name])
            network_filter.typed_config.CopyFrom(any_of(manager))
    return result


def _inline_endpoints(
    cluster: api.cluster_v3.Cluster, endpoints: dict[str, api.endpoint_v3.ClusterLoadAssignment]
) -> api.cluster_v3.Cluster:
    if cluster.type != api.cluster_v3.Cluster.EDS:
        return cluster
    result = api.cluster_v3.Cluster()
    result.CopyFrom(cluster)
    result.ClearField("eds_cluster_config")
    result.type = api.cluster_v3.Cluster.STATIC
    result.load_assignment.CopyFrom(endpoints[cluster.name])
    return result
