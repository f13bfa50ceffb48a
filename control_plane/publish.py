"""In which order a change reaches whom.

A policy is acknowledged by every connected service *before* the route that needs it reaches Envoy, and withdrawn only
after that route is gone and no request can still be on it. Whoever does not answer within a deadline does not hold
up the others: Envoy's health checks take a frozen service out of its cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from control_plane.resources import envoy_snapshot, policies_of, policy_snapshot
from control_plane.translate.snapshot import Translation
from control_plane.xds.snapshot import Snapshot
from gateway.names import NODE_ENVOY
from gateway.policy import ModelPolicy, resource_name
from gateway.state import Service

SERVICES: Final[tuple[Service, ...]] = ("ext_authz", "ext_proc")
SERVICE_DEADLINE_S: Final = 2.0
ENVOY_DEADLINE_S: Final = 12.0
#: The longest that a body may take to arrive after its route was chosen (the listener's request timeout).
BODY_ARRIVAL_S: Final = 60.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Settled(Protocol):
    """Who took a snapshot."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Node ids and their words."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """Nodes that have said nothing yet."""


class Server(Protocol):
    """The part of :class:`control_plane.xds.server.AdsServer` that publishing needs."""

    def publish(self, group: str, snapshot: Snapshot) -> None:
        """Make a snapshot what a group should have; waits for nobody."""

    async def settled(self, group: str, snapshot: Snapshot, timeout_s: float) -> Settled:
        """Wait for a group's nodes."""


class RefusedError(Exception):
    """Someone refused a change; everybody has the state before it again. The text holds the refusal's words."""


@dataclass(slots=True)
class Publisher:
    """Publishes translations, one after another (callers do not overlap calls of :meth:`publish`).

    Attributes:
        live: the last translation that nobody refused.
    """

    server: Server
    clock: Callable[[], float]
    live: Translation | None = None
    _withdrawn: dict[str, tuple[float, ModelPolicy]] = field(default_factory=dict)

    async def publish(self, translation: Translation) -> tuple[str, ...]:
        """Bring a translation to every node.

        Returns:
            Ids of the nodes that had not acknowledged when their deadline passed.

        Raises:
            RefusedError: a node refused it. What was live before is published again.
        """
        # Old and new policies side by side: requests on old routes still meet theirs.
        policies = self._policies(translation)
        snapshot = envoy_snapshot(translation)
        try:
            for service in SERVICES:
                self.server.publish(service, policies)
            answers = (self._settle(service, policies, SERVICE_DEADLINE_S) for service in SERVICES)
            silent = [*await asyncio.gather(*answers)]
            self.server.publish(NODE_ENVOY, snapshot)
            silent.append(await self._settle(NODE_ENVOY, snapshot, ENVOY_DEADLINE_S))
        except RefusedError:
            self._restore()
            raise
        self._retire(translation)
        self.live = translation
        return tuple(node for nodes in silent for node in nodes)

    def withdraw_expired(self) -> None:
        """Drop policies that no request can be routed by any more."""
        now = self.clock()
        expired = [name for name, (until, _) in self._withdrawn.items() if until <= now]
        for name in expired:
            del self._withdrawn[name]
        if expired and self.live is not None:
            self._publish_policies(self.live)

    def _policies(self, translation: Translation) -> Snapshot:
        older = [policy for _, policy in self._withdrawn.values()]
        if self.live is not None:
            older += self.live.models.values()
        return policy_snapshot((*older, *policies_of(translation)))

    def _publish_policies(self, translation: Translation) -> None:
        policies = self._policies(translation)
        for service in SERVICES:
            self.server.publish(service, policies)

    async def _settle(self, group: str, snapshot: Snapshot, timeout_s: float) -> list[str]:
        settled = await self.server.settled(group, snapshot, timeout_s)
        if settled.refused:
            raise RefusedError("; ".join(f"{node}: {words}" for node, words in sorted(settled.refused.items())))
        return list(settled.waiting)

    def _retire(self, translation: Translation) -> None:
        if self.live is None:
            return
        current = {resource_name(policy) for policy in translation.models.values()}
        until = self.clock() + BODY_ARRIVAL_S + self.live.longest_timeout_s
        for policy in self.live.models.values():
            name = resource_name(policy)
            if name not in current:
                self._withdrawn[name] = (until, policy)
        for name in current:
            self._withdrawn.pop(name, None)

    def _restore(self) -> None:
        if self.live is None:
            return
        log.warning("config_rolled_back")
        self._publish_policies(self.live)
        self.server.publish(NODE_ENVOY, envoy_snapshot(self.live))
