"""Envoy's messages at protobuf's C speed, with envoy-data-plane as the schema.

:mod:`gateway.schema` derives ``envoy_api.binpb`` from envoy-data-plane's betterproto2 classes; this module
loads it into a descriptor pool of its own and hands out upb classes. The pool is private so that
no other library's copy of a googleapis file can clash with ours.

Use :func:`message` with a full name, or the typed namespaces of :mod:`gateway.envoy_api`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from google.protobuf import any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR_SET: Final = Path(__file__).with_name("envoy_api.binpb")
TYPE_URL_PREFIX: Final = "type.googleapis.com/"

#: Namespaces of :mod:`gateway.envoy_api` and the proto packages they stand for.
ALIASES: Final = {
    "accesslog_v3": "envoy.config.accesslog.v3",
    "als_filters_cel_v3": "envoy.extensions.access_loggers.filters.cel.v3",
    "als_stream_v3": "envoy.extensions.access_loggers.stream.v3",
    "als_grpc_v3": "envoy.extensions.access_loggers.grpc.v3",
    "bootstrap_v3": "envoy.config.bootstrap.v3",
    "buffer_v3": "envoy.extensions.filters.http.buffer.v3",
    "cluster_v3": "envoy.config.cluster.v3",
    "core_v3": "envoy.config.core.v3",
    "discovery_v3": "envoy.service.discovery.v3",
    "overload_v3": "envoy.config.overload.v3",
    "early_header_v3": "envoy.extensions.http.early_header_mutation.header_mutation.v3",
    "endpoint_v3": "envoy.config.endpoint.v3",
    "fixed_heap_v3": "envoy.extensions.resource_monitors.fixed_heap.v3",
    "downstream_limits_v3": "envoy.extensions.resource_monitors.downstream_connections.v3",
    "expr_v1alpha1": "google.api.expr.v1alpha1",
    "ext_authz_v3": "envoy.extensions.filters.http.ext_authz.v3",
    "ext_proc_filter_v3": "envoy.extensions.filters.http.ext_proc.v3",
    "ext_proc_v3": "envoy.service.ext_proc.v3",
    "hcm_v3": "envoy.extensions.filters.network.http_connection_manager.v3",
    "header_mutation_v3": "envoy.extensions.filters.http.header_mutation.v3",
    "json_to_metadata_v3": "envoy.extensions.filters.http.json_to_metadata.v3",
    "lb_least_request_v3": "envoy.extensions.load_balancing_policies.least_request.v3",
    "lb_override_host_v3": "envoy.extensions.load_balancing_policies.override_host.v3",
    "lb_random_v3": "envoy.extensions.load_balancing_policies.random.v3",
    "lb_round_robin_v3": "envoy.extensions.load_balancing_policies.round_robin.v3",
    "listener_v3": "envoy.config.listener.v3",
    "matcher_v3": "envoy.type.matcher.v3",
    "mutation_rules_v3": "envoy.config.common.mutation_rules.v3",
    "previous_hosts_v3": "envoy.extensions.retry.host.previous_hosts.v3",
    "protobuf": "google.protobuf",
    "rbac_config_v3": "envoy.config.rbac.v3",
    "rbac_v3": "envoy.extensions.filters.http.rbac.v3",
    "route_v3": "envoy.config.route.v3",
    "router_v3": "envoy.extensions.filters.http.router.v3",
    "rpc": "google.rpc",
    "tls_v3": "envoy.extensions.transport_sockets.tls.v3",
    "type_v3": "envoy.type.v3",
    "upstream_http_v3": "envoy.extensions.upstreams.http.v3",
}

#: The messages we use; everything they refer to comes along.
ROOTS: Final = (
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
    "envoy.config.route.v3.FilterConfig",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    "envoy.extensions.filters.http.buffer.v3.Buffer",
    "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
    "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
    "envoy.extensions.filters.http.rbac.v3.RBAC",
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
    "envoy.extensions.load_balancing_policies.random.v3.Random",
    "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
    "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "envoy.service.discovery.v3.DeltaDiscoveryRequest",
    "envoy.service.discovery.v3.DeltaDiscoveryResponse",
    "envoy.service.discovery.v3.DiscoveryRequest",
    "envoy.service.discovery.v3.DiscoveryResponse",
    "envoy.service.ext_proc.v3.ProcessingRequest",
    "envoy.service.ext_proc.v3.ProcessingResponse",
)

_WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)


@cache
def pool() -> DescriptorPool:
    """Our descriptor pool, filled once.

    Raises:
        FileNotFoundError: the package was installed without its descriptor set.
    """
    result = DescriptorPool()
    for module in _WELL_KNOWN:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        result.Add(file)
    for file in FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes()).file:
        result.Add(file)
    return result


@cache
def message(name: str) -> type[Message]:
    """The upb class of a message, by its full proto name.

    Raises:
        KeyError: the name is not in the closure of :data:`ROOTS`.
    """
    return GetMessageClass(pool().FindMessageTypeByName(name))
