"""The incremental variant on the wire: DeltaDiscoveryRequest to a subscription, a response to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from control_plane.xds.ordering import NAMED_ONLY, Send
from control_plane.xds.snapshot import Resource
from control_plane.xds.subscription import Subscription, Verdict
from gateway.envoy_api import discovery_v3

#: ``DeltaDiscoveryResponse.resources = 2``, ``Resource.resource = 2``, ``Any.value = 2``: one tag for all three.
_FIELD_2: Final = b"\x12"
_MAX_TEXT: Final = 16 * 1024


class BadRequestError(ValueError):
    """Bytes that are no request."""


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


def parse(data: bytes) -> Request:
    """Read a DeltaDiscoveryRequest.

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
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message[:_MAX_TEXT] if message.HasField("error_detail") else None,
    )


def follow(request: Request, subscriptions: dict[str, Subscription], *, now: float, wall_clock: float) -> Verdict:
    """Apply a request to its subscription, made if need be.

    "response_nonce ... only correlates": what a request subscribes to counts even when its nonce is stale.
    """
    subscription = subscriptions.get(request.type_url)
    if subscription is None:
        subscription = subscriptions[request.type_url] = Subscription()
        subscription.open(request.subscribe, request.versions, legacy_wildcard=request.type_url not in NAMED_ONLY)
        subscription.unsubscribe(request.unsubscribe)
        return Verdict.STALE if request.nonce else Verdict.NONE
    if request.error is not None:
        verdict = subscription.refuse(request.nonce, request.error, now=now, at=wall_clock)
    elif request.nonce:
        verdict = subscription.acknowledge(request.nonce)
    else:
        verdict = Verdict.NONE
    subscription.unsubscribe(request.unsubscribe)
    subscription.subscribe(request.subscribe)
    return verdict


def response(send: Send, nonce: str) -> bytes:
    """A DeltaDiscoveryResponse, put together from bytes that were serialized once ("last one wins" merging)."""
    head = discovery_v3.DeltaDiscoveryResponse(
        system_version_info=send.version, type_url=send.type_url, nonce=nonce, removed_resources=send.absent
    ).SerializeToString()
    return b"".join([head, *_resources(send.present)])


def _resources(resources: Iterable[Resource]) -> Iterable[bytes]:
    for resource in resources:
        body = _field_2(resource.body)
        typed = _string(1, resource.type_url) + body
        yield _field_2(_string(1, resource.version) + _field_2(typed) + _string(3, resource.name))


def _field_2(value: bytes) -> bytes:
    return _FIELD_2 + _length(value) + value


def _string(number: int, text: str) -> bytes:
    value = text.encode()
    return bytes([number << 3 | 2]) + _length(value) + value


def _length(value: bytes) -> bytes:
    """Base-128 varint."""
    rest, result = len(value), bytearray()
    while rest > 0x7F:
        result.append(rest & 0x7F | 0x80)
        rest >>= 7
    result.append(rest)
    return bytes(result)
