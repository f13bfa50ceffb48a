"""Subscription of a service to its policy: a delta xDS client for our own resource type.

(The stream loop lives here; see :class:`PolicySubscription`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.policy import GatewayPolicy, ModelPolicy
from gateway.state import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """Everything a service enforces, as of one moment.

    Attributes:
        models: by resource name (= route name); withdrawn ones stay until no request can still be routed by them.
    """

    gateway: GatewayPolicy
    models: Mapping[str, ModelPolicy]


#: Takes a new set; raises :class:`gateway.policy.PolicyError` to refuse it (the refusal becomes a NACK with its words).
Apply = Callable[[PolicySet], None]


class PolicySubscription:
    """Keeps a service's policy current. ``await run()`` until cancelled."""

    def __init__(self, *, service: Service, ads_socket: Path, cache: Path, apply: Apply) -> None:
        self.service, self.ads_socket, self.cache, self.apply = service, ads_socket, cache, apply

    async def run(self) -> None:
        """Load the last good policy from disk, then follow the control plane for ever."""
        raise NotImplementedError
