"""The services of the protocol: aggregated, and one per type; each in the variants that the protocol gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from control_plane.xds import delta, sotw
from control_plane.xds.ordering import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTE,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
)
from control_plane.xds.stream import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One gRPC service.

    Attributes:
        name: full name.
        resources: end of its methods' names.
        type_url: the only type that it has; empty on the aggregated one.
        state_of_the_world: whether it has that variant; all have the incremental one.
    """

    name: str
    resources: str
    type_url: str = ""
    state_of_the_world: bool = True

    @property
    def methods(self) -> dict[str, Variant]:
        """The variant that each method speaks."""
        world: dict[str, Variant] = {f"Stream{self.resources}": sotw} if self.state_of_the_world else {}
        return {f"Delta{self.resources}": delta, **world}


SERVICES: Final = (
    Service(name="envoy.service.discovery.v3.AggregatedDiscoveryService", resources="AggregatedResources"),
    Service(name="envoy.service.cluster.v3.ClusterDiscoveryService", resources="Clusters", type_url=CLUSTER),
    Service(name="envoy.service.endpoint.v3.EndpointDiscoveryService", resources="Endpoints", type_url=ENDPOINTS),
    Service(
        name="envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        resources="ExtensionConfigs",
        type_url=EXTENSION,
    ),
    Service(name="envoy.service.listener.v3.ListenerDiscoveryService", resources="Listeners", type_url=LISTENER),
    Service(name="envoy.service.route.v3.RouteDiscoveryService", resources="Routes", type_url=ROUTE),
    Service(
        name="envoy.service.route.v3.ScopedRoutesDiscoveryService", resources="ScopedRoutes", type_url=SCOPED_ROUTE
    ),
    Service(
        name="envoy.service.route.v3.VirtualHostDiscoveryService",
        resources="VirtualHosts",
        type_url=VIRTUAL_HOST,
        state_of_the_world=False,
    ),
    Service(name="envoy.service.secret.v3.SecretDiscoveryService", resources="Secrets", type_url=SECRET),
)

Serve = Callable[[Variant, str, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[None]]


def handlers(serve: Serve) -> tuple[grpc.GenericRpcHandler, ...]:
    """gRPC handlers of raw messages; ``serve`` gets the variant and the type of the service that was called."""

    def handler(variant: Variant, type_url: str) -> grpc.RpcMethodHandler:
        async def handle(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            await serve(variant, type_url, context)

        return grpc.stream_stream_rpc_method_handler(handle)

    return tuple(
        grpc.method_handlers_generic_handler(
            service.name, {name: handler(variant, service.type_url) for name, variant in service.methods.items()}
        )
        for service in SERVICES
    )
