"""One client's stream: its node, its subscriptions, and the next thing to tell it. No I/O.

There is no queue of responses. What to send is computed from the snapshot of the moment whenever the stream can be
written, so a slow client is sent the last state rather than every state, and costs no memory meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from control_plane.xds import delta
from control_plane.xds.nodes import NodeView, TypeView
from control_plane.xds.ordering import Order, Send, Wait, record
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.subscription import Subscription, Verdict


class InvalidRequestError(ValueError):
    """A request that ends its stream. The text is for the client."""


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """A connected client.

    Attributes:
        wake: set when there may be something new to send.
        published_at: when the snapshot came that is not yet acknowledged whole (monotonic seconds).
    """

    order: Order
    connected_since: float
    node_id: str = ""
    group: str = ""
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    published_at: float | None = None
    _nonce: int = 0

    def take(self, request: delta.Request, *, now: float, wall_clock: float) -> Verdict:
        """Apply a request.

        Raises:
            InvalidRequestError: the first request names no node, or a request names no type.
        """
        if not self.node_id:
            if not request.node.id:
                raise InvalidRequestError("the first request of a stream must carry node.id")
            self.node_id, self.group = request.node.id, request.node.cluster
        if not request.type_url:
            raise InvalidRequestError("type_url must be set on an aggregated stream")
        return delta.take(self.subscriptions, request, now=now, wall_clock=wall_clock)

    def next(self, snapshot: Snapshot, now: float) -> tuple[Send, delta.Response] | Wait:
        """The next response, already recorded as sent: its acknowledgement may be faster than its writer."""
        send = self.order.next(self.subscriptions, snapshot, now)
        if isinstance(send, Wait):
            return send
        self._nonce += 1
        nonce = str(self._nonce)
        record(self.subscriptions, send, nonce, now)
        return send, delta.response(send, nonce)

    def _lacks(self, type_url: str, snapshot: Snapshot) -> bool:
        """Whether something of a type is still to be sent, is on its way, or was refused."""
        subscription = self.subscriptions[type_url]
        return (
            bool(subscription.pending(snapshot.of_type(type_url)))
            or subscription.in_flight_since is not None
            or subscription.refused_since is not None
        )

    def complete(self, snapshot: Snapshot) -> bool:
        """Whether the client has acknowledged all that it subscribes to of a snapshot; false before it asked."""
        return bool(self.subscriptions) and not any(self._lacks(type_url, snapshot) for type_url in self.subscriptions)

    def refusal(self, snapshot: Snapshot) -> str | None:
        """The client's words, if it refused something of this snapshot."""
        for type_url, subscription in self.subscriptions.items():
            if subscription.nack is not None and subscription.nack.version == snapshot.type_version(type_url):
                return subscription.nack.text
        return None

    def view(self, snapshot: Snapshot | None) -> NodeView:
        """This stream for people."""
        return NodeView(
            id=self.node_id,
            group=self.group,
            connected_since=self.connected_since,
            types={
                type_url: TypeView(
                    sent_version=subscription.sent_version,
                    acked_version=subscription.acked_version,
                    nack=subscription.nack,
                    pending=snapshot is not None and self._lacks(type_url, snapshot),
                )
                for type_url, subscription in self.subscriptions.items()
            },
        )
