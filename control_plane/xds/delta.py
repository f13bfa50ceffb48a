"""The incremental variant on the wire: DeltaDiscoveryRequest to a subscription, a response to bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from control_plane.xds.ordering import NAMED_ONLY, Send
from control_plane.xds.subscription import Subscription
from control_plane.xds.verdicts import Verdict
from control_plane.xds.wire import MAX_TEXT, BadRequestError, field_2, string, typed
from gateway.envoy_api import discovery_v3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client said.

    Attributes:
        error: why it refuses the response of ``nonce``; None when it does not.
    """

    node_id: str
    node_cluster: str
    type_url: str
    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...]
    versions: Mapping[str, str]
    nonce: str
    error: str | None

    def follow(self, subscriptions: dict[str, Subscription], *, now: float, wall_clock: float) -> Verdict:
        """Apply it to its subscription, made if need be.

        "response_nonce ... only correlates": what a request subscribes to counts even when its nonce is stale.
        """
        subscription = subscriptions.get(self.type_url)
        if subscription is None:
            subscription = subscriptions[self.type_url] = Subscription()
            subscription.open(self.subscribe, self.versions, legacy_wildcard=self.type_url not in NAMED_ONLY)
            subscription.unsubscribe(self.unsubscribe)
            return Verdict.STALE if self.nonce else Verdict.NONE
        if self.error is not None:
            verdict = subscription.refuse(self.nonce, self.error, now=now, at=wall_clock)
        elif self.nonce:
            verdict = subscription.acknowledge(self.nonce)
        else:
            verdict = Verdict.NONE
        subscription.unsubscribe(self.unsubscribe)
        subscription.subscribe(self.subscribe)
        return verdict


def parse(data: bytes, type_url: str = "") -> Request:
    """Read a DeltaDiscoveryRequest; ``type_url`` is what an empty one means.

    Raises:
        BadRequestError: it is none.
    """
    try:
        message = discovery_v3.DeltaDiscoveryRequest.FromString(data)
    except DecodeError as error:
        raise BadRequestError(f"not a DeltaDiscoveryRequest: {error}") from error
    return Request(
        node_id=message.node.id,
        node_cluster=message.node.cluster,
        type_url=message.type_url or type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message[:MAX_TEXT] if message.HasField("error_detail") else None,
    )


def response(send: Send, nonce: str) -> bytes:
    """A DeltaDiscoveryResponse, put together from bytes that were serialized once ("last one wins" merging)."""
    head = discovery_v3.DeltaDiscoveryResponse(
        system_version_info=send.version, type_url=send.type_url, nonce=nonce, removed_resources=send.absent
    ).SerializeToString()
    return b"".join(
        [
            head,
            *(field_2(string(1, one.version) + field_2(typed(one)) + string(3, one.name)) for one in send.present),
        ]
    )
