"""X69: whatever happens in whatever order, in the end the client has what it subscribes to of the server's state.

The client is a model written from the protocol's text alone. It refuses responses with a resource that it calls bad,
as Envoy does: sometimes as a whole, sometimes after applying the good parts.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from control_plane.xds import Resource, Snapshot
from control_plane.xds.ordering import Wait
from tests.control_plane.xds.harness import CLUSTER, ENDPOINTS, LISTENER, POLICY, ROUTE, Line, Sent

TYPES = [CLUSTER, ENDPOINTS, LISTENER, ROUTE, POLICY]
NAMES = ["a", "b", "c"]
BAD = b"bad"

type_urls = st.sampled_from(TYPES)
names = st.sampled_from(NAMES)
contents = st.sampled_from([b"1", b"2", BAD, None])


class Interleavings(RuleBasedStateMachine):
    """One client, one stream at a time, requests and responses in two pipes."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[tuple[str, str], bytes] = {}
        self.line = Line(None)
        self.names: dict[str, set[str]] = {}
        self.held: dict[str, dict[str, bytes]] = {type_url: {} for type_url in TYPES}
        self.versions: dict[str, dict[str, str]] = {type_url: {} for type_url in TYPES}
        self.to_server: deque[dict[str, Any]] = deque()
        self.to_client: deque[Sent] = deque()
        self.nonces: set[str] = set()
        self.seen: set[str] = set()  # types asked for on this stream

    # -- the server's side -------------------------------------------------------------------------------------

    def publish(self) -> None:
        resources = (Resource(type_url, name, body) for (type_url, name), body in self.wanted.items())
        self.line.snapshot = Snapshot.of(resources)

    @rule(changes=st.dictionaries(st.tuples(type_urls, names), contents, min_size=1, max_size=6))
    def change(self, changes: dict[tuple[str, str], bytes | None]) -> None:
        for key, body in changes.items():
            if body is None:
                self.wanted.pop(key, None)
            else:
                self.wanted[key] = body
        self.publish()

    @rule(steps=st.lists(st.sampled_from(["ask", "send", "take", "take half"]), min_size=3, max_size=12))
    def flow(self, steps: list[str]) -> None:
        for step in steps:
            if step == "ask":
                self.server_hears()
            elif step == "send":
                self.server_sends()
            else:
                self.client_hears(whole=step == "take")

    @rule()
    def come_to_rest(self) -> None:
        """Nothing happens for a while; time does not pass."""
        for _ in range(200):
            self.server_hears()
            self.server_sends()
            self.client_hears(whole=True)
            if not self.to_server and not self.to_client and isinstance(self.line.due(), Wait):
                return
        raise AssertionError("client and server never come to rest")

    def server_sends(self) -> None:
        sent = self.line.next()
        if sent is not None:
            assert sent.nonce not in self.nonces
            self.nonces.add(sent.nonce)
            self.to_client.append(sent)

    def server_hears(self) -> None:
        if self.to_server:
            self.line.ask(**self.to_server.popleft())

    # -- the client's side -------------------------------------------------------------------------------------

    @rule(type_url=type_urls, add=st.sets(st.sampled_from([*NAMES, "*"]), min_size=1, max_size=2))
    def subscribe(self, type_url: str, add: set[str]) -> None:
        self.names.setdefault(type_url, set()).update(add)
        self.request(type_url, add=sorted(add))

    @rule(type_url=type_urls, drop=st.sampled_from([*NAMES, "*"]))
    def unsubscribe(self, type_url: str, drop: str) -> None:
        if type_url not in self.seen:
            return
        subscribed = self.names[type_url]
        if drop in subscribed:
            subscribed.remove(drop)
            if "*" not in subscribed:
                for name in self.held[type_url].keys() - subscribed:
                    self.forget(type_url, name)
        self.request(type_url, drop=[drop])

    def client_hears(self, whole: bool) -> None:
        if not self.to_client:
            return
        sent = self.to_client.popleft()
        refused = BAD in sent.bodies.values()
        if not refused or not whole:
            self.apply(sent)
        if refused:
            self.request(sent.type_url, nonce=sent.nonce, error="bad")
        else:
            self.request(sent.type_url, nonce=sent.nonce)

    @rule()
    def reconnect(self) -> None:
        self.line = Line(self.line.snapshot, nonces=self.line.nonces)
        self.to_server.clear()
        self.to_client.clear()
        self.seen = set()
        for type_url, subscribed in self.names.items():
            if subscribed:
                self.request(type_url, add=sorted(subscribed), versions=dict(self.versions[type_url]))

    def request(self, type_url: str, **fields: Any) -> None:
        self.seen.add(type_url)
        self.to_server.append({"type_url": type_url, **fields})

    def apply(self, sent: Sent) -> None:
        subscribed = self.names[sent.type_url]
        for name, body in sent.bodies.items():
            if body != BAD and ("*" in subscribed or name in subscribed):
                self.held[sent.type_url][name] = body
                self.versions[sent.type_url][name] = sent.resources[name]
        for name in sent.removed:
            self.forget(sent.type_url, name)

    def forget(self, type_url: str, name: str) -> None:
        self.held[type_url].pop(name, None)
        self.versions[type_url].pop(name, None)

    # -- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def unsubscribed_types_are_never_sent(self) -> None:
        assert all(sent.type_url in self.names for sent in self.to_client)

    def teardown(self) -> None:
        """Let everything run out, without bad resources and without time passing."""
        for key, body in self.wanted.items():
            if body == BAD:
                self.wanted[key] = b"mended"
        self.publish()
        self.come_to_rest()
        for type_url, subscribed in self.names.items():
            expected = {
                name: body
                for (of_type, name), body in self.wanted.items()
                if of_type == type_url and ("*" in subscribed or name in subscribed)
            }
            assert self.held[type_url] == expected, type_url
        content = self.line.snapshot
        assert content is not None
        for type_url, subscription in self.line.subscriptions.items():
            assert not subscription.pending(content.of_type(type_url)), type_url
            assert subscription.in_flight_since is None
            assert subscription.refused_since is None


Interleavings.TestCase.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
TestInterleavings = Interleavings.TestCase
