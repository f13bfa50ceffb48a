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
_HEAP: Final = "envoy.resource_monitors.fixed_heap"
#: Connections of clients, all listeners together.
MAX_CONNECTIONS: Final = 10_000
#: Memory that one Envoy may hold. Bodies are held before their sender is known: this is what bounds them.
MAX_HEAP_BYTES: Final = 1024 * 1024 * 1024
#: Streams that hold at least 2^16 bytes are told apart, so that the largest are reset first.
_TRACKED_FROM_POWER: Final = 16


def bootstrap(state: StateDir, *, node_id: str, max_heap_bytes: int = MAX_HEAP_BYTES) -> str:
    """The text of a bootstrap file (JSON, which is YAML too).

    Args:
        state: whose sockets this Envoy uses: the control plane's and its own admin socket, never TCP.
        node_id: the name that ``isg status`` shows.
        max_heap_bytes: near it, the requests that hold most are reset, then new ones get 503, then new connections
            wait.
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
    _bound(message.overload_manager, max_heap_bytes)
    return MessageToJson(message, preserving_proto_field_name=True, descriptor_pool=pool()) + "\n"


def _bound(overload: api.overload_v3.OverloadManager, max_heap_bytes: int) -> None:
    """What Envoy does before it holds too much; the first rows leave room for the later ones."""
    limits = (
        extension(
            "envoy.resource_monitors.global_downstream_max_connections",
            api.downstream_limits_v3.DownstreamConnectionsConfig(max_active_downstream_connections=MAX_CONNECTIONS),
        ),
        extension(_HEAP, api.fixed_heap_v3.FixedHeapConfig(max_heap_size_bytes=max_heap_bytes)),
    )
    for limit in limits:
        overload.resource_monitors.add(name=limit.name, typed_config=limit.typed_config)
    overload.refresh_interval.CopyFrom(seconds(0.1))
    overload.buffer_factory_config.minimum_account_to_track_power_of_two = _TRACKED_FROM_POWER
    reset = overload.actions.add(name="envoy.overload_actions.reset_high_memory_stream").triggers.add(name=_HEAP)
    reset.scaled.scaling_threshold, reset.scaled.saturation_threshold = 0.80, 0.92
    # Streams that hold memory and send nothing more end after two seconds instead of minutes.
    timers = api.overload_v3.ScaleTimersOverloadActionConfig()
    for timer in ("HTTP_DOWNSTREAM_STREAM_IDLE", "HTTP_DOWNSTREAM_CONNECTION_IDLE"):
        timers.timer_scale_factors.add(timer=timer, min_timeout=seconds(2))
    reduce = overload.actions.add(name="envoy.overload_actions.reduce_timeouts", typed_config=any_of(timers))
    shorter = reduce.triggers.add(name=_HEAP).scaled
    shorter.scaling_threshold, shorter.saturation_threshold = 0.70, 0.85
    for action, threshold in (
        ("shrink_heap", 0.85),
        ("stop_accepting_requests", 0.90),
        ("stop_accepting_connections", 0.96),
    ):
        trigger = overload.actions.add(name=f"envoy.overload_actions.{action}").triggers.add(name=_HEAP)
        trigger.threshold.value = threshold


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
