"""Envoy's bootstrap: where the control plane is, who this node is, and how much one Envoy may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from google.protobuf.json_format import MessageToJson

from control_plane.translate.wire import any_of, extension, seconds
from gateway import envoy_api as api
from gateway.messages import pool
from gateway.names import NODE_ENVOY
from gateway.state import StateDir

CLUSTER_ADS: Final = "ads"
#: Connections of clients, all listeners together; bodies held before authorization are bounded by it.
MAX_CONNECTIONS: Final = 10_000


def bootstrap(state: StateDir, *, node_id: str) -> str:
    """The text of a bootstrap file (JSON, which is YAML too).

    Args:
        state: whose sockets this Envoy uses: the control plane's and its own admin socket, never TCP.
        node_id: the name that ``isg status`` shows.
    """
    message = api.bootstrap_v3.Bootstrap(
        node=api.core_v3.Node(id=node_id, cluster=NODE_ENVOY),
        admin=api.bootstrap_v3.Admin(address=_pipe(state.envoy_admin_socket)),
        dynamic_resources=api.bootstrap_v3.Bootstrap.DynamicResources(
            ads_config=api.core_v3.ApiConfigSource(
                api_type="DELTA_GRPC",
                transport_api_version="V3",
                set_node_on_first_message_only=True,
                grpc_services=[api.core_v3.GrpcService(envoy_grpc=_ads_service())],
            ),
            lds_config=_ads(),
            cds_config=_ads(),
        ),
        static_resources=api.bootstrap_v3.Bootstrap.StaticResources(clusters=[_ads_cluster(state.ads_socket)]),
    )
    limit = extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        api.downstream_limits_v3.DownstreamConnectionsConfig(max_active_downstream_connections=MAX_CONNECTIONS),
    )
    message.overload_manager.resource_monitors.add(name=limit.name, typed_config=limit.typed_config)
    return MessageToJson(message, preserving_proto_field_name=True, descriptor_pool=pool()) + "\n"


def _ads_service() -> api.core_v3.GrpcService.EnvoyGrpc:
    service = api.core_v3.GrpcService.EnvoyGrpc(cluster_name=CLUSTER_ADS)
    # Envoy's own would grow to 30 s: a save after a restart of the control plane must not wait for it.
    service.retry_policy.retry_back_off.base_interval.CopyFrom(seconds(0.1))
    service.retry_policy.retry_back_off.max_interval.CopyFrom(seconds(1))
    return service


def _ads_cluster(socket: Path) -> api.cluster_v3.Cluster:
    options = api.upstream_http_v3.HttpProtocolOptions()
    # A frozen control plane is noticed, and its stream opened again.
    keepalive = options.explicit_http_config.http2_protocol_options.connection_keepalive
    keepalive.interval.CopyFrom(seconds(10))
    keepalive.timeout.CopyFrom(seconds(5))
    cluster = api.cluster_v3.Cluster(name=CLUSTER_ADS, type="STATIC", connect_timeout=seconds(1))
    cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].CopyFrom(
        any_of(options)
    )
    cluster.load_assignment.cluster_name = CLUSTER_ADS
    cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.CopyFrom(_pipe(socket))
    return cluster


def _pipe(socket: Path) -> api.core_v3.Address:
    return api.core_v3.Address(pipe=api.core_v3.Pipe(path=str(socket)))


def _ads() -> api.core_v3.ConfigSource:
    source = api.core_v3.ConfigSource(resource_api_version="V3")
    source.ads.SetInParent()
    return source
