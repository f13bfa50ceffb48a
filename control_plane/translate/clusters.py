"""Clusters and endpoints: the pools of model servers, and our own services."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from control_plane.config.model import Backend, Endpoint
from control_plane.translate.wire import any_of, extension, seconds, uint32
from gateway import envoy_api as api
from gateway.names import META_ENDPOINT, NS_LB
from gateway.state import StateDir

CLUSTER_EXT_AUTHZ: Final = "ext_authz"
CLUSTER_EXT_PROC: Final = "ext_proc"
_BACKEND_PREFIX: Final = "backend/"
_PLENTY: Final = 1_000_000


def backend_cluster_name(backend: str) -> str:
    """The Envoy cluster of a backend."""
    return _BACKEND_PREFIX + backend


def has_dns_names(endpoints: Iterable[Endpoint]) -> bool:
    """Whether an endpoint is given by a DNS name: EDS takes addresses only."""
    return any(not _is_ip(endpoint.address.host) for endpoint in endpoints)


def backend_cluster(name: str, backend: Backend, endpoints: tuple[Endpoint, ...]) -> api.cluster_v3.Cluster:
    """A pool of model servers: health-checked, ejected on errors, picked by metadata or else by ``balance``."""
    cluster = api.cluster_v3.Cluster(
        name=backend_cluster_name(name),
        connect_timeout=seconds(1),
        load_balancing_policy=_balancing(backend),
        common_lb_config=_common_lb(),
        circuit_breakers=_breakers(_max_requests(backend, len(endpoints))),
        outlier_detection=api.cluster_v3.OutlierDetection(
            # Servers that are away (connections, 502 to 504) are ejected. A 500 is not counted: a few requests that a
            # model cannot take would otherwise take it from everybody.
            consecutive_gateway_failure=uint32(3),
            enforcing_consecutive_gateway_failure=uint32(100),
            enforcing_consecutive_5xx=uint32(0),
            enforcing_success_rate=uint32(0),
            interval=seconds(1),
            base_ejection_time=seconds(2),
            max_ejection_percent=uint32(100),
        ),
    )
    if has_dns_names(endpoints):
        cluster.type = api.cluster_v3.Cluster.STRICT_DNS
        cluster.dns_refresh_rate.CopyFrom(seconds(5))
        cluster.load_assignment.CopyFrom(load_assignment(name, endpoints))
    else:
        cluster.type = api.cluster_v3.Cluster.EDS
        cluster.eds_cluster_config.eds_config.CopyFrom(_ads())
    if backend.health.path is not None:
        cluster.health_checks.append(_http_health(name, backend.health.path, backend.health.interval_s))
    return cluster


def load_assignment(name: str, endpoints: Iterable[Endpoint]) -> api.endpoint_v3.ClusterLoadAssignment:
    """Where a backend's servers are. Sorted, so that equal sets give equal bytes."""
    return api.endpoint_v3.ClusterLoadAssignment(
        cluster_name=backend_cluster_name(name),
        endpoints=[
            api.endpoint_v3.LocalityLbEndpoints(
                lb_endpoints=[
                    api.endpoint_v3.LbEndpoint(
                        endpoint=api.endpoint_v3.Endpoint(
                            address=_tcp(endpoint.address.host, endpoint.address.port),
                            hostname=str(endpoint.address),
                        ),
                        load_balancing_weight=uint32(endpoint.weight),
                    )
                    for endpoint in sorted(endpoints, key=lambda e: (e.address.host, e.address.port))
                ]
            )
        ],
    )


def service_clusters(state: StateDir) -> tuple[api.cluster_v3.Cluster, ...]:
    """ext_authz (HTTP/1.1) and ext_proc (gRPC), each on its Unix socket."""
    authz = _service(CLUSTER_EXT_AUTHZ, state.ext_authz_socket)
    authz.health_checks.append(_http_health(CLUSTER_EXT_AUTHZ, "/health", 1))
    proc = _service(CLUSTER_EXT_PROC, state.ext_proc_socket)
    options = api.upstream_http_v3.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    proc.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].CopyFrom(
        any_of(options)
    )
    check = _health(1)
    check.grpc_health_check.SetInParent()
    proc.health_checks.append(check)
    return authz, proc


def _service(name: str, socket: Path) -> api.cluster_v3.Cluster:
    return api.cluster_v3.Cluster(
        name=name,
        type="STATIC",
        connect_timeout=seconds(1),
        common_lb_config=_common_lb(),
        circuit_breakers=_breakers(_PLENTY),
        load_assignment=api.endpoint_v3.ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[
                api.endpoint_v3.LocalityLbEndpoints(
                    lb_endpoints=[
                        api.endpoint_v3.LbEndpoint(
                            endpoint=api.endpoint_v3.Endpoint(
                                address=api.core_v3.Address(pipe=api.core_v3.Pipe(path=str(socket)))
                            )
                        )
                    ]
                )
            ],
        ),
    )


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _ads() -> api.core_v3.ConfigSource:
    source = api.core_v3.ConfigSource(resource_api_version="V3")
    source.ads.SetInParent()
    return source


def _tcp(host: str, port: int) -> api.core_v3.Address:
    return api.core_v3.Address(socket_address=api.core_v3.SocketAddress(address=host, port_value=port))


def _balancing(backend: Backend) -> api.cluster_v3.LoadBalancingPolicy:
    # All endpoints are compared: two random ones, Envoy's default, are the same one half of the time in a pool of two.
    least_busy = api.lb_least_request_v3.LeastRequest(selection_method="FULL_SCAN")
    fallback: dict[str, tuple[str, Message]] = {
        "least_busy": ("envoy.load_balancing_policies.least_request", least_busy),
        "round_robin": ("envoy.load_balancing_policies.round_robin", api.lb_round_robin_v3.RoundRobin()),
        "random": ("envoy.load_balancing_policies.random", api.lb_random_v3.Random()),
    }
    pick = api.lb_override_host_v3.OverrideHost(fallback_policy=_policy(*fallback[backend.balance]))
    source = pick.override_host_sources.add().metadata
    source.key = NS_LB
    source.path.add(key=META_ENDPOINT)
    return _policy("envoy.load_balancing_policies.override_host", pick)


def _policy(name: str, message: Message) -> api.cluster_v3.LoadBalancingPolicy:
    return api.cluster_v3.LoadBalancingPolicy(
        policies=[api.cluster_v3.LoadBalancingPolicy.Policy(typed_extension_config=extension(name, message))]
    )


def _common_lb() -> api.cluster_v3.Cluster.CommonLbConfig:
    return api.cluster_v3.Cluster.CommonLbConfig(
        # With all endpoints down the answer is an immediate 503, not a gamble on a dead one.
        healthy_panic_threshold=api.type_v3.Percent(value=0),
        # Envoy merges health changes for a second by default: what is back would stay idle that long.
        update_merge_window=seconds(0),
    )


def _max_requests(backend: Backend, endpoint_count: int) -> int:
    """Envoy counts requests per cluster only; least_busy spreads them, so the product bounds each endpoint closely."""
    return _PLENTY if backend.max_in_flight is None else backend.max_in_flight * max(endpoint_count, 1)


def _breakers(max_requests: int) -> api.cluster_v3.CircuitBreakers:
    # max_retries: the default of 3 concurrent retries fails requests when a busy endpoint dies.
    return api.cluster_v3.CircuitBreakers(
        thresholds=[
            api.cluster_v3.CircuitBreakers.Thresholds(
                max_connections=uint32(_PLENTY),
                max_pending_requests=uint32(_PLENTY),
                max_requests=uint32(max_requests),
                max_retries=uint32(1000),
            )
        ]
    )


def _health(interval_s: float) -> api.core_v3.HealthCheck:
    return api.core_v3.HealthCheck(
        timeout=seconds(1),
        interval=seconds(interval_s),
        # What is down is asked often, so that it is used again within a second of its return.
        unhealthy_interval=seconds(min(interval_s, 0.25)),
        unhealthy_edge_interval=seconds(min(interval_s, 0.25)),
        # The same while a pool has had no request at all; Envoy has intervals of its own for that time.
        no_traffic_interval=seconds(min(interval_s, 0.25)),
        no_traffic_healthy_interval=seconds(interval_s),
        unhealthy_threshold=uint32(2),
        healthy_threshold=uint32(1),
    )


def _http_health(host: str, path: str, interval_s: float) -> api.core_v3.HealthCheck:
    check = _health(interval_s)
    check.http_health_check.path = path
    # Without this Envoy sends the cluster's name, whose slash strict servers refuse.
    check.http_health_check.host = host
    return check
