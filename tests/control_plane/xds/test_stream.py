"""The server over a real Unix socket, with real gRPC clients."""

from __future__ import annotations

import asyncio
import socket
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from control_plane.xds import AdsServer, NodeView, Settled, Snapshot, delta
from control_plane.xds.metrics import XdsMetrics
from control_plane.xds.ordering import Order
from control_plane.xds.stream import MAX_TYPES, RefusedStreamError, Stream
from gateway.envoy_api import core_v3, discovery_v3, rpc
from tests.control_plane.xds.harness import CLUSTER, POLICY, Sent, resource, snapshot

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
SILENCE_S = 0.1


class Client:
    """A delta ADS client."""

    def __init__(self, path: Path, node: str = "n", group: str = "g") -> None:
        self.channel = grpc.aio.insecure_channel(f"unix:{path}", options=OPTIONS)
        self.call = self.channel.stream_stream(METHOD)()
        self.node, self.group = node, group
        self.first = True

    async def ask(self, type_url: str = POLICY, error: str | None = None, **fields: Any) -> None:
        message = discovery_v3.DeltaDiscoveryRequest(type_url=type_url, **fields)
        if self.first:
            message.node.CopyFrom(core_v3.Node(id=self.node, cluster=self.group))
            self.first = False
        if error is not None:
            message.error_detail.CopyFrom(rpc.Status(code=3, message=error))
        await self.call.write(message.SerializeToString())

    async def hear(self, timeout_s: float = 5) -> Sent:
        async with asyncio.timeout(timeout_s):
            return Sent.read(await self.call.read())

    async def take(self) -> Sent:
        """A response, acknowledged."""
        sent = await self.hear()
        await self.ask(sent.type_url, response_nonce=sent.nonce)
        return sent

    async def hears_nothing(self) -> None:
        with pytest.raises(TimeoutError):  # the cancelled read ends the call: last statement of a test
            await self.hear(SILENCE_S)

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """How the server ended the stream."""
        async with asyncio.timeout(5):
            return await self.call.code(), await self.call.details()

    async def close(self) -> None:
        self.call.cancel()
        await self.channel.close()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def path() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="isg-") as folder:
        yield Path(folder) / "ads.sock"


@pytest.fixture
async def server(path: Path, registry: CollectorRegistry) -> AsyncIterator[AdsServer]:
    started = AdsServer(registry=registry)
    await started.start(path)
    yield started
    await started.stop(0)


@pytest.fixture
async def connect(path: Path) -> AsyncIterator[Callable[..., Client]]:
    clients: list[Client] = []

    def connect(**options: str) -> Client:
        clients.append(Client(path, **options))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close()


Connect = Callable[..., Client]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.005)


async def test_x01_a_first_request_without_a_node_is_an_invalid_argument(server: AdsServer, connect: Connect) -> None:
    server.publish("", snapshot(a="1"))
    client = connect(node="")
    await client.ask(resource_names_subscribe=["*"])
    assert await client.end() == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the first request of a stream must carry node.id",
    )


async def test_x02_later_requests_need_no_node(server: AdsServer, connect: Connect) -> None:
    server.publish("g", Snapshot.of([resource(POLICY, "p"), resource(CLUSTER, "c")]))
    client = connect()
    await client.ask(CLUSTER)
    assert (await client.take()).what == (("c",), ())
    await client.ask(POLICY)
    assert (await client.take()).what == (("p",), ())


async def test_x03_no_type_is_an_invalid_argument(server: AdsServer, connect: Connect) -> None:
    client = connect()
    await client.ask("")
    assert (await client.end())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_x70_bytes_that_are_no_request_are_an_invalid_argument(server: AdsServer, connect: Connect) -> None:
    client = connect()
    await client.call.write(b"\xff\xff\xff")
    assert (await client.end())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_x12_a_request_before_the_first_snapshot_is_answered_with_it(server: AdsServer, connect: Connect) -> None:
    client = connect()
    await client.ask()
    await until(server.nodes)
    server.publish("g", snapshot(a="1"))
    assert (await client.hear()).what == (("a",), ())


async def test_x12_before_the_first_snapshot_nothing_is_sent(server: AdsServer, connect: Connect) -> None:
    client = connect()
    await client.ask()
    await client.hears_nothing()


async def test_groups_do_not_see_each_others_resources(server: AdsServer, connect: Connect) -> None:
    server.publish("g", snapshot(a="1"))
    server.publish("h", snapshot(b="1"))
    one, other = connect(), connect(group="h")
    for client, expected in ((one, ("a",)), (other, ("b",))):
        await client.ask()
        assert (await client.take()).what == (expected, ())
    server.publish("h", snapshot(b="2"))
    assert (await other.take()).what == (("b",), ())
    await one.hears_nothing()


async def test_x45_an_equal_snapshot_moves_nothing(server: AdsServer, connect: Connect) -> None:
    server.publish("g", snapshot(a="1", b="1"))
    client = connect()
    await client.ask()
    await client.take()
    server.publish("g", snapshot(b="1", a="1"))
    await client.hears_nothing()


async def test_x05_two_streams_of_one_node_are_both_served_and_one_survives(
    server: AdsServer, connect: Connect
) -> None:
    server.publish("g", snapshot(a="1"))
    old, new = connect(), connect()
    for client in (old, new):
        await client.ask()
        await client.take()
    await old.close()
    await until(lambda: len(server._groups["g"].streams) == 1)
    server.publish("g", snapshot(a="2"))
    await new.take()
    assert [node.id for node in server.nodes()] == ["n"]


async def test_x06_streams_that_end_leave_nothing_behind(
    server: AdsServer, connect: Connect, registry: CollectorRegistry
) -> None:
    clients = [connect(node=str(number)) for number in range(3)]
    for client in clients:
        await client.ask()
    await until(lambda: len(server.nodes()) == 3)
    assert registry.get_sample_value("isg_xds_streams") == 3
    await clients[0].call.done_writing()
    await clients[0].end()
    clients[1].call.cancel()
    await clients[2].close()
    await until(lambda: not server.nodes())
    assert registry.get_sample_value("isg_xds_streams") == 0
    assert not server._open


async def test_x07_a_stop_ends_streams_with_a_code_that_clients_retry(server: AdsServer, connect: Connect) -> None:
    client = connect()
    await client.ask()
    await until(server.nodes)
    started = time.monotonic()
    await server.stop(1)
    assert (await client.end())[0] is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - started < 1


async def test_x28_nonces_are_new_on_every_stream(server: AdsServer, connect: Connect) -> None:
    server.publish("g", snapshot(a="1"))
    nonces = set()
    for _ in range(3):
        client = connect()
        await client.ask()
        nonces.add((await client.take()).nonce)
    assert len(nonces) == 3


async def test_x21_a_refusal_is_counted_and_shown_with_its_words(
    server: AdsServer, connect: Connect, registry: CollectorRegistry
) -> None:
    server.publish("g", snapshot(a="1"))
    client = connect()
    await client.ask()
    good = await client.take()
    bad = snapshot(a="bad")
    server.publish("g", bad)
    sent = await client.hear()
    await client.ask(response_nonce=sent.nonce, error="a: not like this")
    assert await server.settled("g", bad, 5) == Settled(refused={"n": "a: not like this"})
    (node,) = server.nodes()
    view = node.types[POLICY]
    assert view.nack is not None
    assert (view.sent_version, view.acked_version, view.nack.text) == (sent.version, good.version, "a: not like this")
    assert abs(view.nack.at - time.time()) < 60
    assert registry.get_sample_value("isg_xds_nacks_total", {"type": "test.v1.Policy"}) == 1
    server.publish("g", snapshot(a="good"))
    assert (await client.take()).bodies == {"a": b"good"}


async def test_settled_waits_for_every_node_of_the_group(server: AdsServer, connect: Connect) -> None:
    content = snapshot(a="1")
    assert await server.settled("g", content, 5) == Settled()
    server.publish("g", content)
    one, other = connect(node="1"), connect(node="2")
    await one.ask()
    await one.take()
    await other.ask()
    sent = await other.hear()
    assert await server.settled("g", content, 0.05) == Settled(acknowledged=("1",), waiting=("2",))
    waiting = asyncio.create_task(server.settled("g", content, 5))
    await other.ask(response_nonce=sent.nonce)
    assert await waiting == Settled(acknowledged=("1", "2"))


async def test_settled_ends_when_the_node_that_it_waits_for_leaves(server: AdsServer, connect: Connect) -> None:
    content = snapshot(a="1")
    server.publish("g", content)
    client = connect()
    await client.ask()
    await client.hear()
    waiting = asyncio.create_task(server.settled("g", content, 5))
    await asyncio.sleep(0)
    await client.close()
    assert await waiting == Settled()


async def test_settled_ends_when_the_snapshot_is_replaced(server: AdsServer, connect: Connect) -> None:
    content = snapshot(a="1")
    server.publish("g", content)
    client = connect()
    await client.ask()
    await client.hear()
    waiting = asyncio.create_task(server.settled("g", content, 5))
    await asyncio.sleep(0)
    server.publish("g", snapshot(a="2"))
    assert (await waiting).waiting == ("n",)


async def test_x67_the_view_of_a_node(server: AdsServer, connect: Connect) -> None:
    content = snapshot(a="1")
    server.publish("g", content)
    client = connect()
    await client.ask(resource_names_subscribe=["a"])
    sent = await client.take()
    await server.settled("g", content, 5)
    (node,) = server.nodes()
    assert isinstance(node, NodeView)
    assert (node.id, node.group) == ("n", "g")
    assert abs(node.connected_since - time.time()) < 60
    view = node.types[POLICY]
    assert (view.sent_version, view.acked_version, view.nack, view.pending) == (sent.version, sent.version, None, False)
    changed = snapshot(a="1", unrelated="1")
    server.publish("g", changed)
    await until(lambda: server.nodes()[0].types[POLICY].acked_version == changed.type_version(POLICY))


async def test_x68_the_metrics_move(server: AdsServer, connect: Connect, registry: CollectorRegistry) -> None:
    client = connect()
    await client.ask(resource_names_subscribe=["*"])
    await until(server.nodes)
    content = snapshot(a="1", b="1")
    server.publish("g", content)
    await client.take()
    await server.settled("g", content, 5)
    await client.ask(response_nonce="never sent")
    await until(lambda: registry.get_sample_value("isg_xds_stale_nonces_total") == 1)
    assert registry.get_sample_value("isg_xds_responses_total", {"type": "test.v1.Policy"}) == 1
    assert registry.get_sample_value("isg_xds_resources", {"group": "g", "type": "test.v1.Policy"}) == 2
    assert registry.get_sample_value("isg_xds_push_seconds_count") == 1


async def test_x49_x50_a_client_that_never_reads_delays_nobody_and_costs_one_response(
    server: AdsServer, connect: Connect, registry: CollectorRegistry
) -> None:
    frozen, reader = connect(node="frozen"), connect(node="reader")
    await frozen.ask()
    await reader.ask()
    await until(lambda: len(server.nodes()) == 2)
    big = "x" * 1_000_000  # more than flow control lets pass unread
    for number in range(20):
        server.publish("g", snapshot(a=f"{number}{big}"))
        started = time.monotonic()
        assert (await reader.take()).bodies["a"].startswith(str(number).encode())
        assert time.monotonic() - started < 1
    assert registry.get_sample_value("isg_xds_responses_total", {"type": "test.v1.Policy"}) == 21


async def test_x49_a_thousand_snapshots_in_a_burst_end_in_the_last(
    server: AdsServer, connect: Connect, registry: CollectorRegistry
) -> None:
    client = connect()
    await client.ask()
    await until(server.nodes)
    for number in range(1000):
        server.publish("g", snapshot(a=str(number)))
        if number % 100 == 0:
            await asyncio.sleep(0)
    while (await client.take()).bodies["a"] != b"999":
        pass
    assert (registry.get_sample_value("isg_xds_responses_total", {"type": "test.v1.Policy"}) or 0) <= 12


async def test_a_large_snapshot_goes_through(server: AdsServer, connect: Connect) -> None:
    content = Snapshot.of(resource(POLICY, f"r{number}", "x" * 1500) for number in range(2000))
    server.publish("g", content)
    client = connect()
    await client.ask()
    assert len((await client.take()).resources) == 2000


async def test_the_socket_is_private_and_a_stale_one_is_replaced(path: Path, registry: CollectorRegistry) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = AdsServer(registry=registry)
    await server.start(path)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OSError, match="another server listens"):
            await AdsServer(registry=None).start(path)
    finally:
        await server.stop(0)


async def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"):
        await AdsServer(registry=None).start(path)
    assert path.read_text() == "precious"


class Memory:
    """A transport that has its input already."""

    def __init__(self, messages: list[bytes]) -> None:
        self.messages, self.written = messages, list[bytes]()

    async def read(self) -> bytes | None:
        await asyncio.sleep(0)
        return self.messages.pop(0) if self.messages else None

    async def write(self, message: bytes) -> None:
        self.written.append(message)


def in_memory() -> Stream:
    stream = Stream(
        variant=delta,
        order=Order(),
        metrics=XdsMetrics(None, ()),
        clock=lambda: 0.0,
        wall_clock=lambda: 0.0,
        joined=lambda _: None,
        moved=lambda _: None,
    )
    stream.offer(Snapshot.of([resource(POLICY, "a"), resource(CLUSTER, "c")]))
    return stream


NAMES = st.lists(st.sampled_from(["*", "a", "c", "", "é"]), max_size=3)
REQUESTS = st.builds(
    lambda **fields: discovery_v3.DeltaDiscoveryRequest(**fields).SerializeToString(),
    node=st.just(core_v3.Node(id="n", cluster="g")),
    type_url=st.sampled_from([POLICY, CLUSTER, "what"]),
    resource_names_subscribe=NAMES,
    resource_names_unsubscribe=NAMES,
    initial_resource_versions=st.dictionaries(st.sampled_from(["a", "c", "é"]), st.text(max_size=2), max_size=2),
    response_nonce=st.sampled_from(["", "1", "x"]),
    error_detail=st.none() | st.builds(rpc.Status, code=st.integers(0, 20), message=st.text(max_size=3)),
)


@given(st.lists(REQUESTS | st.binary(max_size=40), max_size=10))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_x70_arbitrary_requests_raise_nothing_but_a_refusal(messages: list[bytes]) -> None:
    transport = Memory(messages)
    with suppress(RefusedStreamError):
        asyncio.run(in_memory().serve(transport))
    for message in transport.written:
        assert Sent.read(message).resources.keys() <= {"a", "c"}


async def test_x70_types_without_end_are_not_remembered() -> None:
    message = discovery_v3.DeltaDiscoveryRequest(node=core_v3.Node(id="n"), resource_names_subscribe=["*"])
    requests = []
    for number in range(2 * MAX_TYPES):
        message.type_url = f"type {number}"
        requests.append(message.SerializeToString())
    stream = in_memory()
    await stream.serve(Memory(requests))
    assert len(stream.subscriptions) == MAX_TYPES
