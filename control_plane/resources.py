"""A translation as xDS snapshots: one for the Envoys, one for the Python services."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.translate.snapshot import Translation
from control_plane.translate.wire import any_of
from control_plane.xds.snapshot import Resource, Snapshot
from gateway.names import POLICY_TYPE_URL
from gateway.policy import Policy
from gateway.policy_client import policy_resource


def envoy_snapshot(translation: Translation) -> Snapshot:
    """Listeners, routes, clusters and endpoints."""
    named = (
        *((message, message.name) for message in translation.clusters),
        *((message, message.cluster_name) for message in translation.endpoints),
        *((message, message.name) for message in translation.listeners),
        *((message, message.name) for message in translation.routes),
    )
    return Snapshot.of(_resource(any_of(message).type_url, name, any_of(message).value) for message, name in named)


def policies_of(translation: Translation) -> tuple[Policy, ...]:
    """Every policy of a translation."""
    return (translation.gateway, *translation.models.values())


def policy_snapshot(policies: Iterable[Policy]) -> Snapshot:
    """What the services enforce. Equal policies of several generations are one resource."""
    named = dict(policy_resource(policy) for policy in policies)
    return Snapshot.of(_resource(POLICY_TYPE_URL, name, body) for name, body in named.items())


def _resource(type_url: str, name: str, body: bytes) -> Resource:
    return Resource(type_url=type_url, name=name, body=body)
