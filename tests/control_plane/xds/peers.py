"""Clients of both variants, written from the protocol's text alone, each with its stream of a server in one process.

They refuse responses with a resource that they call bad, as Envoy does: sometimes as a whole, sometimes after applying
the good parts. Requests and responses wait in two pipes until the test moves them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from control_plane.xds import Snapshot
from control_plane.xds.ordering import Wait
from tests.control_plane.xds.harness import (
    CLUSTER,
    ENDPOINTS,
    FULL,
    LISTENER,
    POLICY,
    ROUTE,
    Line,
    Sent,
    WorldLine,
    read_named,
)

TYPES = [CLUSTER, ENDPOINTS, LISTENER, ROUTE, POLICY]
BAD = b"bad"


class DeltaPeer:
    """One client of the incremental variant, one stream at a time."""

    line: Line

    def __init__(self) -> None:
        self.line = self.new_line(None)
        self.names: dict[str, set[str]] = {}
        self.held: dict[str, dict[str, bytes]] = {type_url: {} for type_url in TYPES}
        self.versions: dict[str, dict[str, str]] = {type_url: {} for type_url in TYPES}
        self.to_server: deque[dict[str, Any]] = deque()
        self.to_client: deque[Sent] = deque()
        self.nonces: set[str] = set()
        self.seen: set[str] = set()  # types asked for on this stream

    def new_line(self, snapshot: Snapshot | None) -> Line:
        return Line(snapshot, nonces=self.line.nonces) if hasattr(self, "line") else Line(snapshot)

    # -- time goes on ------------------------------------------------------------------------------------------

    def flow(self, steps: list[str]) -> None:
        for step in steps:
            if step == "ask":
                self.server_hears()
            elif step == "send":
                self.server_sends()
            else:
                self.hear(whole=step == "take")

    def come_to_rest(self) -> None:
        """Nothing happens for a while; time does not pass."""
        for _ in range(200):
            self.server_hears()
            self.server_sends()
            self.hear(whole=True)
            if not self.to_server and not self.to_client and isinstance(self.line.due(), Wait):
                return
        raise AssertionError("client and server never come to rest")

    def server_sends(self) -> None:
        sent = self.line.next()
        if sent is not None:
            assert sent.nonce not in self.nonces
            self.nonces.add(sent.nonce)
            self.to_client.append(self.unpacked(sent))

    def unpacked(self, sent: Sent) -> Sent:
        """With contents for bodies."""
        return replace(sent, bodies={name: read_named(sent.type_url, body)[1] for name, body in sent.bodies.items()})

    def server_hears(self) -> None:
        if self.to_server:
            self.line.ask(**self.to_server.popleft())

    # -- the client --------------------------------------------------------------------------------------------

    def subscribe(self, type_url: str, add: set[str]) -> None:
        self.names.setdefault(type_url, set()).update(add)
        self.request(type_url, add=sorted(add))

    def unsubscribe(self, type_url: str, drop: str) -> None:
        if type_url not in self.seen:
            return
        self.drop(type_url, drop)
        self.request(type_url, drop=[drop])

    def drop(self, type_url: str, name: str) -> None:
        subscribed = self.names[type_url]
        if name in subscribed:
            subscribed.remove(name)
            if "*" not in subscribed:
                for held in self.held[type_url].keys() - subscribed:
                    self.forget(type_url, held)

    def covers(self, type_url: str, name: str) -> bool:
        return bool(self.names[type_url] & {"*", name})

    def hear(self, whole: bool) -> None:
        if not self.to_client:
            return
        sent = self.to_client.popleft()
        refused = BAD in sent.bodies.values()
        if not refused or not whole:
            self.apply(sent)
        self.answer(sent, "bad" if refused else None)

    def answer(self, sent: Sent, error: str | None) -> None:
        self.request(sent.type_url, nonce=sent.nonce, error=error)

    def reconnect(self) -> None:
        self.line = self.new_line(self.line.snapshot)
        self.to_server.clear()
        self.to_client.clear()
        self.seen = set()
        for type_url, subscribed in self.names.items():
            if subscribed:
                self.return_to(type_url, sorted(subscribed))

    def return_to(self, type_url: str, subscribed: list[str]) -> None:
        self.request(type_url, add=subscribed, versions=dict(self.versions[type_url]))

    def request(self, type_url: str, **fields: Any) -> None:
        self.seen.add(type_url)
        self.to_server.append({"type_url": type_url, **fields})

    def apply(self, sent: Sent) -> None:
        for name, body in sent.bodies.items():
            if body != BAD and self.covers(sent.type_url, name):
                self.held[sent.type_url][name] = body
                self.versions[sent.type_url][name] = sent.resources[name]
        for name in sent.removed:
            self.forget(sent.type_url, name)

    def forget(self, type_url: str, name: str) -> None:
        self.held[type_url].pop(name, None)
        self.versions[type_url].pop(name, None)

    # -- what must hold in the end -----------------------------------------------------------------------------

    def check(self, wanted: Mapping[tuple[str, str], bytes]) -> None:
        for type_url in self.names:
            expected = {
                name: body
                for (of_type, name), body in wanted.items()
                if of_type == type_url and self.covers(type_url, name)
            }
            assert self.comparable(type_url, wanted) == expected, type_url
        content = self.line.snapshot
        assert content is not None
        for type_url, subscription in self.line.subscriptions.items():
            assert not subscription.pending(content.of_type(type_url)), type_url
            assert subscription.in_flight_since is None
            assert subscription.refused_since is None

    def comparable(self, type_url: str, wanted: Mapping[tuple[str, str], bytes]) -> dict[str, bytes]:
        return self.held[type_url]


class WorldPeer(DeltaPeer):
    """One client of the state-of-the-world variant, one stream at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[str, str] = {}  # newest nonce by type
        self.accepted: dict[str, str] = {}

    def unpacked(self, sent: Sent) -> Sent:
        return sent

    def new_line(self, snapshot: Snapshot | None) -> Line:
        return WorldLine(snapshot, nonces=self.line.nonces) if hasattr(self, "line") else WorldLine(snapshot)

    def server_hears(self) -> None:
        if self.to_server:
            assert isinstance(self.line, WorldLine)
            request = self.to_server.popleft()
            self.line.want(*request.pop("names"), **request)

    def subscribe(self, type_url: str, add: set[str]) -> None:
        self.names.setdefault(type_url, set()).update(add)
        self.speak(type_url)

    def unsubscribe(self, type_url: str, drop: str) -> None:
        if type_url in self.seen:
            self.drop(type_url, drop)
            self.speak(type_url)

    def speak(self, type_url: str, error: str | None = None) -> None:
        self.request(
            type_url,
            names=sorted(self.names[type_url]),
            version=self.accepted.get(type_url, ""),
            nonce=self.heard.get(type_url, ""),
            error=error,
        )

    def answer(self, sent: Sent, error: str | None) -> None:
        self.heard[sent.type_url] = sent.nonce
        if error is None:
            self.accepted[sent.type_url] = sent.version
        self.speak(sent.type_url, error)

    def reconnect(self) -> None:
        self.heard.clear()
        super().reconnect()

    def return_to(self, type_url: str, subscribed: list[str]) -> None:
        self.speak(type_url)

    def apply(self, sent: Sent) -> None:
        if sent.type_url in FULL:
            for name in self.held[sent.type_url].keys() - sent.bodies.keys():
                self.forget(sent.type_url, name)
        super().apply(sent)

    def comparable(self, type_url: str, wanted: Mapping[tuple[str, str], bytes]) -> dict[str, bytes]:
        if type_url in FULL:
            return self.held[type_url]
        # Of other types the variant cannot say that a resource is gone.
        return {name: body for name, body in self.held[type_url].items() if (type_url, name) in wanted}
