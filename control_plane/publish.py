"""In which order a change reaches whom.

A policy is acknowledged by every connected service *before* the route that needs it reaches Envoy, and withdrawn only
after that route is gone and no request can still be on it. Whoever does not answer within a deadline does not hold
up the others: Envoy's health checks take a frozen service out of its cluster.

All of that also holds when this control plane is new and the others are not: the policies that the services were found
with stay until Envoy has had time to leave the routes that need them, and the services are waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
_LOOK_EVERY_S: Final = 0.02

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Settled(Protocol):
    """Who took a snapshot."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Node ids and their words."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """Nodes that have said nothing yet."""


class Node(Protocol):
    """A connected node."""

    @property
    def group(self) -> str:
        """Which group it belongs to."""


class Server(Protocol):
    """The part of :class:`control_plane.xds.server.AdsServer` that publishing needs."""

    def publish(self, group: str, snapshot: Snapshot) -> None:
        """Make a snapshot what a group should have; waits for nobody."""

    async def settled(self, group: str, snapshot: Snapshot, timeout_s: float) -> Settled:
        """Wait for a group's connected nodes."""

    def nodes(self) -> Sequence[Node]:
        """Who is connected."""


class RefusedError(Exception):
    """Someone refused a change; everybody has the state before it again. The text holds the refusal's words."""


@dataclass(slots=True)
class Publisher:
    """Publishes translations, one after another (callers do not overlap calls of :meth:`publish`).

    Attributes:
        inherited: policies that the services held when this control plane started, by resource name.
        live: the last translation that nobody refused.
    """

    server: Server
    clock: Callable[[], float]
    inherited: Mapping[str, ModelPolicy] = field(default_factory=dict)
    live: Translation | None = None
    _withdrawn: dict[str, tuple[float, ModelPolicy]] = field(default_factory=dict)
    _publishing: bool = False

    async def publish(self, translation: Translation) -> tuple[str, ...]:
        """Bring a translation to every node.

        Returns:
            Ids of the nodes that had not acknowledged when their deadline passed.

        Raises:
            RefusedError: a node refused it. What was live before is published again.
        """
        self._publishing = True
        try:
            return await self._publish(translation)
        finally:
            self._publishing = False

    def withdraw_expired(self) -> None:
        """Drop policies that no request can be routed by any more; during a publication, nothing."""
        if self._publishing or self.live is None:
            return
        now = self.clock()
        expired = [name for name, (until, _) in self._withdrawn.items() if until <= now]
        for name in expired:
            del self._withdrawn[name]
        if expired:
            self._publish_policies(self.live)

    async def _publish(self, translation: Translation) -> tuple[str, ...]:
        # Old and new policies side by side: requests on old routes still meet theirs.
        policies = self._policies(translation)
        snapshot = envoy_snapshot(translation)
        if self.live is None and not _by_name(translation).keys() <= self.inherited.keys():
            await self._services_are_back()
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

    async def _services_are_back(self) -> None:
        """Services that served before connect again; Envoy must not be told of new routes before them."""
        deadline = self.clock() + SERVICE_DEADLINE_S
        while self.inherited and not {*SERVICES} <= {node.group for node in self.server.nodes()}:
            if self.clock() >= deadline:
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def _policies(self, translation: Translation) -> Snapshot:
        older = [policy for _, policy in self._withdrawn.values()]
        older += self.inherited.values() if self.live is None else self.live.models.values()
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
        before = self.inherited if self.live is None else _by_name(self.live)
        longest_s = (self.live or translation).longest_timeout_s
        current = _by_name(translation).keys()
        until = self.clock() + BODY_ARRIVAL_S + longest_s
        for name, policy in before.items():
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


def _by_name(translation: Translation) -> dict[str, ModelPolicy]:
    return {resource_name(policy): policy for policy in translation.models.values()}
