"""The incremental variant of the protocol: its messages to and from subscriptions."""

from __future__ import annotations

from collections.abc import MutableMapping

from control_plane.xds.ordering import NAMED_ONLY, Send
from control_plane.xds.subscription import Subscription, Verdict
from gateway.envoy_api import discovery_v3, protobuf

Request = discovery_v3.DeltaDiscoveryRequest
Response = discovery_v3.DeltaDiscoveryResponse


def take(
    subscriptions: MutableMapping[str, Subscription], request: Request, *, now: float, wall_clock: float
) -> Verdict:
    """Apply one request to a stream's subscriptions.

    A stale nonce says nothing of a response, yet the subscriptions beside it count: "the nonce is only used to pair"
    acknowledgements.
    """
    subscription = subscriptions.get(request.type_url)
    if subscription is None:
        subscription = subscriptions[request.type_url] = Subscription()
        subscription.open(
            request.resource_names_subscribe,
            dict(request.initial_resource_versions),
            legacy_wildcard=request.type_url not in NAMED_ONLY,
        )
        return Verdict.NONE
    verdict = Verdict.NONE
    if request.response_nonce:
        if request.HasField("error_detail"):
            verdict = subscription.refuse(request.response_nonce, request.error_detail.message, now=now, at=wall_clock)
        else:
            verdict = subscription.acknowledge(request.response_nonce)
    subscription.unsubscribe(request.resource_names_unsubscribe)
    subscription.subscribe(request.resource_names_subscribe)
    return verdict


def response(send: Send, nonce: str) -> Response:
    """The message for what may be sent now."""
    return Response(
        system_version_info=send.version,
        type_url=send.type_url,
        nonce=nonce,
        resources=[
            discovery_v3.Resource(
                name=resource.name,
                version=resource.version,
                resource=protobuf.Any(type_url=resource.type_url, value=resource.body),
            )
            for resource in send.present
        ],
        removed_resources=send.absent,
    )
