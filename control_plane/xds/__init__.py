"""An xDS server that knows nothing of gateways (Envoy's xDS transport protocol).

Both variants, incremental and state of the world, aggregated and per type. Three separate things: what a client asked
for and holds (:mod:`.subscription`), when what may be sent (:mod:`.ordering`), the loop that sends (:mod:`.stream`).
:class:`AdsServer` ties them to gRPC.
"""

from control_plane.xds.nodes import NodeView, Settled, TypeView
from control_plane.xds.ordering import DEFAULT_ORDER
from control_plane.xds.server import AdsServer
from control_plane.xds.snapshot import Resource, Snapshot
from control_plane.xds.subscription import Nack
from control_plane.xds.tls import ServerTls

__all__ = ["DEFAULT_ORDER", "AdsServer", "Nack", "NodeView", "Resource", "ServerTls", "Settled", "Snapshot", "TypeView"]
