"""A delta ADS server that knows nothing of gateways (Envoy's xDS transport protocol, incremental variant).

Three separate things: what a client asked for and holds (:mod:`.subscription`), when what may be sent
(:mod:`.ordering`), and the loop that sends (:mod:`.stream`). :class:`AdsServer` ties them to gRPC.
"""

from control_plane.xds.nodes import NodeView, Settled, TypeView
from control_plane.xds.ordering import DEFAULT_ORDER
from control_plane.xds.server import AdsServer
from control_plane.xds.snapshot import Resource, Snapshot
from control_plane.xds.subscription import Nack

__all__ = ["DEFAULT_ORDER", "AdsServer", "Nack", "NodeView", "Resource", "Settled", "Snapshot", "TypeView"]
