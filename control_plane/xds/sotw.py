"""The state-of-the-world variant on the wire: DiscoveryRequest to a subscription, a response to bytes.

A request lists all names that are wanted from now on; a response of clusters, listeners and every other type that may
be asked for as a whole is the full state, one of the types that are always named only what is new.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from control_plane.xds.ordering import NAMED_ONLY, Send
from control_plane.xds.subscription import Subscription
from control_plane.xds.verdicts import Verdict
from control_plane.xds.wire import MAX_TEXT, BadRequestError, field_2, typed
from control_plane.xds.world import WorldSubscription
from gateway.envoy_api import discovery_v3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client said.

    Attributes:
        version: the version that it accepted last. It is no verdict: after a refusal the client may have applied
            parts of another one, and names may be added at any version.
        error: why it refuses the response of ``nonce``; None when it does not.
    """

    node_id: str
    node_cluster: str
    type_url: str
    names: tuple[str, ...]
    version: str
    nonce: str
    error: str | None

    def follow(self, subscriptions: dict[str, Subscription], *, now: float, wall_clock: float) -> Verdict:
        """Apply it to its subscription, made if need be.

        "The management server should not send a DiscoveryResponse for any DiscoveryRequest that has a stale nonce":
        such a request was written before the newest response was read, and another one follows. Only its verdict
        on a response that nobody else will judge is kept.
        """
        legacy_wildcard = self.type_url not in NAMED_ONLY
        subscription = subscriptions.get(self.type_url)
        if subscription is None:
            subscription = subscriptions[self.type_url] = WorldSubscription(
                full=legacy_wildcard, returned=bool(self.version)
            )
            subscription.open(self.names, {}, legacy_wildcard=legacy_wildcard)
            return Verdict.STALE if self.nonce else Verdict.NONE
        assert isinstance(subscription, WorldSubscription), "a stream speaks one variant"  # noqa: S101
        verdict = Verdict.NONE
        if self.error is not None:
            verdict = subscription.refuse(self.nonce, self.error, now=now, at=wall_clock)
        elif self.nonce:
            verdict = subscription.acknowledge(self.nonce)
        if self.nonce and self.nonce != subscription.newest_nonce:
            subscription.doubt(self.names)
            return verdict
        subscription.replace(self.names, legacy_wildcard=legacy_wildcard)
        # Names may change at a response that was judged before.
        return Verdict.NONE if verdict is Verdict.STALE else verdict


def parse(data: bytes, type_url: str = "") -> Request:
    """Read a DiscoveryRequest; ``type_url`` is what an empty one means.

    Raises:
        BadRequestError: it is none.
    """
    try:
        message = discovery_v3.DiscoveryRequest.FromString(data)
    except DecodeError as error:
        raise BadRequestError(f"not a DiscoveryRequest: {error}") from error
    return Request(
        node_id=message.node.id,
        node_cluster=message.node.cluster,
        type_url=message.type_url or type_url,
        names=tuple(message.resource_names),
        version=message.version_info,
        nonce=message.response_nonce,
        error=message.error_detail.message[:MAX_TEXT] if message.HasField("error_detail") else None,
    )


def response(send: Send, nonce: str) -> bytes:
    """A DiscoveryResponse, put together from bytes that were serialized once ("last one wins" merging)."""
    head = discovery_v3.DiscoveryResponse(
        version_info=send.version, type_url=send.type_url, nonce=nonce
    ).SerializeToString()
    resources = sorted((*send.present, *send.rest), key=lambda one: one.name)
    return b"".join([head, *(field_2(typed(one)) for one in resources)])
