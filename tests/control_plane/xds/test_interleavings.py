"""X69: whatever happens in whatever order, in the end clients of both variants have what they subscribe to."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from control_plane.xds import Snapshot
from tests.control_plane.xds.harness import named
from tests.control_plane.xds.peers import BAD, TYPES, DeltaPeer, WorldPeer

NAMES = ["a", "b", "c"]

type_urls = st.sampled_from(TYPES)
names = st.sampled_from(NAMES)
contents = st.sampled_from([b"1", b"2", BAD, None])
variants = st.sampled_from([0, 1])


class Interleavings(RuleBasedStateMachine):
    """One server's state, a client of each variant; each pair of pipes moves for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[tuple[str, str], bytes] = {}
        self.peers = (DeltaPeer(), WorldPeer())

    def publish(self) -> None:
        content = Snapshot.of(named(type_url, name, body.decode()) for (type_url, name), body in self.wanted.items())
        for peer in self.peers:
            peer.line.snapshot = content

    @rule(changes=st.dictionaries(st.tuples(type_urls, names), contents, min_size=1, max_size=6))
    def change(self, changes: dict[tuple[str, str], bytes | None]) -> None:
        for key, body in changes.items():
            if body is None:
                self.wanted.pop(key, None)
            else:
                self.wanted[key] = body
        self.publish()

    @rule(
        variant=variants, steps=st.lists(st.sampled_from(["ask", "send", "take", "take half"]), min_size=3, max_size=12)
    )
    def flow(self, variant: int, steps: list[str]) -> None:
        self.peers[variant].flow(steps)

    @rule(variant=variants)
    def come_to_rest(self, variant: int) -> None:
        self.peers[variant].come_to_rest()

    @rule(type_url=type_urls, add=st.sets(st.sampled_from([*NAMES, "*"]), min_size=1, max_size=2))
    def subscribe(self, type_url: str, add: set[str]) -> None:
        for peer in self.peers:
            peer.subscribe(type_url, add)

    @rule(type_url=type_urls, drop=st.sampled_from([*NAMES, "*"]))
    def unsubscribe(self, type_url: str, drop: str) -> None:
        for peer in self.peers:
            peer.unsubscribe(type_url, drop)

    @rule(variant=variants)
    def reconnect(self, variant: int) -> None:
        self.peers[variant].reconnect()

    @invariant()
    def unsubscribed_types_are_never_sent(self) -> None:
        for peer in self.peers:
            assert all(sent.type_url in peer.names for sent in peer.to_client)

    def teardown(self) -> None:
        """Let everything run out, without bad resources and without time passing."""
        for key, body in self.wanted.items():
            if body == BAD:
                self.wanted[key] = b"mended"
        self.publish()
        for peer in self.peers:
            peer.come_to_rest()
            peer.check(self.wanted)


Interleavings.TestCase.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
TestInterleavings = Interleavings.TestCase
