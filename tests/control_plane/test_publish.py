"""In which order a change reaches the services and Envoy, and what happens when someone refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control_plane.config.model import Address, Backend, Config, Endpoint, Model, Target
from control_plane.publish import BODY_ARRIVAL_S, Publisher, RefusedError
from control_plane.translate.snapshot import Translation, translate
from control_plane.xds.snapshot import Snapshot
from gateway.names import POLICY_TYPE_URL
from gateway.policy import resource_name
from gateway.state import StateDir


@dataclass(frozen=True, slots=True)
class Answer:
    acknowledged: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    group: str


@dataclass(slots=True)
class FakeServer:
    """Writes down what is asked of it; answers as it is told."""

    answers: dict[str, Answer] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    has: dict[str, Snapshot] = field(default_factory=dict)
    meanwhile: Callable[[], object] = lambda: None
    connected: list[tuple[Node, ...]] = field(default_factory=lambda: [(Node("ext_authz"), Node("ext_proc"))])

    def publish(self, group: str, snapshot: Snapshot) -> None:
        self.log.append(("publish", group))
        self.has[group] = snapshot

    async def settled(self, group: str, snapshot: Snapshot, timeout_s: float) -> Answer:
        assert self.has[group] is snapshot
        self.log.append(("settled", group))
        self.meanwhile()
        return self.answers.get(group, Answer())

    def nodes(self) -> tuple[Node, ...]:
        return self.connected.pop(0) if len(self.connected) > 1 else self.connected[0]

    def policies(self, service: str) -> set[str]:
        return set(self.has[service].of_type(POLICY_TYPE_URL))


@dataclass(slots=True)
class Clock:
    now: float = 0

    def __call__(self) -> float:
        return self.now


def translation(*models: str, max_body: int = 1000) -> Translation:
    endpoint = Endpoint(address=Address(host="127.0.0.1", port=9001))
    config = Config(
        listen=(Address(host="127.0.0.1", port=8080),),
        admin=Address(host="127.0.0.1", port=9900),
        models={name: Model(targets=(Target(backend="b"),), max_body_bytes=max_body, timeout_s=30) for name in models},
        backends={"b": Backend(server="kserve", model="m", endpoints=(endpoint,))},
    )
    return translate(config, StateDir(Path("/var/lib/isg")), {})


def names(one: Translation) -> set[str]:
    return {resource_name(policy) for policy in one.models.values()}


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def publisher(server: FakeServer, clock: Clock) -> Publisher:
    return Publisher(server=server, clock=clock)


async def test_services_acknowledge_a_policy_before_the_route_that_needs_it_reaches_envoy(
    publisher: Publisher, server: FakeServer
) -> None:
    await publisher.publish(translation("m1"))
    envoy_published = server.log.index(("publish", "envoy"))
    for service in ("ext_authz", "ext_proc"):
        assert server.log.index(("settled", service)) < envoy_published


async def test_old_policies_stay_beside_new_ones_until_no_request_can_be_on_their_route(
    publisher: Publisher, server: FakeServer, clock: Clock
) -> None:
    old, new = translation("m1"), translation("m1", max_body=2000)
    await publisher.publish(old)
    await publisher.publish(new)
    assert names(old) | names(new) <= server.policies("ext_proc")
    clock.now = BODY_ARRIVAL_S + 29
    publisher.withdraw_expired()
    assert names(old) <= server.policies("ext_proc")
    clock.now = BODY_ARRIVAL_S + 30
    publisher.withdraw_expired()
    assert not names(old) & server.policies("ext_proc")
    assert names(new) <= server.policies("ext_proc")


async def test_a_policy_that_comes_back_is_not_withdrawn(
    publisher: Publisher, server: FakeServer, clock: Clock
) -> None:
    for one in (translation("m1"), translation("m2"), translation("m1")):
        await publisher.publish(one)
    clock.now = 1000
    publisher.withdraw_expired()
    assert names(translation("m1")) <= server.policies("ext_proc")
    assert not names(translation("m2")) & server.policies("ext_proc")


@pytest.mark.parametrize("group", ["ext_proc", "ext_authz", "envoy"])
async def test_a_refusal_brings_everybody_back_to_what_was_live(
    publisher: Publisher, server: FakeServer, group: str
) -> None:
    await publisher.publish(translation("m1"))
    before = server.has["envoy"]
    server.answers[group] = Answer(refused={"node-1": "no such thing"})
    with pytest.raises(RefusedError, match="node-1: no such thing"):
        await publisher.publish(translation("m1", "m2"))
    assert server.has["envoy"].version == before.version
    assert publisher.live == translation("m1")
    if group != "envoy":
        assert server.log.count(("settled", "envoy")) == 1, "Envoy never saw what a service refused"


async def test_a_silent_node_is_named_and_holds_up_nobody(publisher: Publisher, server: FakeServer) -> None:
    server.answers["ext_proc"] = Answer(waiting=("ext_proc-7",))
    assert await publisher.publish(translation("m1")) == ("ext_proc-7",)
    assert ("publish", "envoy") in server.log


async def test_the_first_configuration_that_is_refused_leaves_nothing_live(
    publisher: Publisher, server: FakeServer
) -> None:
    server.answers["envoy"] = Answer(refused={"node-1": "bad"})
    with pytest.raises(RefusedError):
        await publisher.publish(translation("m1"))
    assert publisher.live is None


async def test_a_withdrawal_that_is_due_in_the_middle_of_a_publication_takes_nothing_new_away(
    publisher: Publisher, server: FakeServer, clock: Clock
) -> None:
    await publisher.publish(translation("m1"))
    await publisher.publish(translation("m2"))
    clock.now = 1000
    server.meanwhile = publisher.withdraw_expired
    await publisher.publish(translation("m3"))
    assert names(translation("m3")) <= server.policies("ext_authz")
    assert names(translation("m3")) <= server.policies("ext_proc")
    publisher.withdraw_expired()
    assert not names(translation("m1")) & server.policies("ext_proc")
    assert names(translation("m3")) <= server.policies("ext_proc")


def successor(server: FakeServer, clock: Clock, before: Translation) -> Publisher:
    """The publisher of a control plane that starts anew beside services that go on."""
    inherited = {resource_name(policy): policy for policy in before.models.values()}
    return Publisher(server=server, clock=clock, inherited=inherited)


async def test_a_new_control_plane_leaves_the_policies_that_it_found_until_envoy_can_have_left_their_routes(
    server: FakeServer, clock: Clock
) -> None:
    old, new = translation("m1"), translation("m1", max_body=2000)
    publisher = successor(server, clock, old)
    clock.now = 1000
    publisher.withdraw_expired()
    await publisher.publish(new)
    assert names(old) | names(new) <= server.policies("ext_proc")
    clock.now += BODY_ARRIVAL_S + 29
    publisher.withdraw_expired()
    assert names(old) <= server.policies("ext_proc")
    clock.now += 1
    publisher.withdraw_expired()
    assert server.policies("ext_proc") & (names(old) | names(new)) == names(new)


async def test_a_new_control_plane_tells_envoy_nothing_new_before_the_services_are_back(
    server: FakeServer, clock: Clock
) -> None:
    server.connected = [(), (Node("ext_authz"),), (Node("ext_authz"), Node("ext_proc"))]
    await successor(server, clock, translation("m1")).publish(translation("m2"))
    assert len(server.connected) == 1, "it looked until both were there"


async def test_a_new_control_plane_waits_for_nobody_where_nothing_is_new(server: FakeServer, clock: Clock) -> None:
    server.connected = [(), ()]
    await successor(server, clock, translation("m1", "m2")).publish(translation("m1"))
    assert len(server.connected) == 2, "it did not look"
