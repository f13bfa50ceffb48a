"""The real Envoy as the client: what it does on the wire decides the order that we send in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from control_plane.preflight.envoy import find_envoy
from control_plane.xds import AdsServer, Resource, Settled, Snapshot
from gateway.envoy_api import cluster_v3, core_v3, endpoint_v3, hcm_v3, listener_v3, route_v3, router_v3
from gateway.messages import TYPE_URL_PREFIX
from tests.control_plane.xds.harness import CLUSTER, LISTENER, ROUTE

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]
GROUP = "envoys"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def packed(name: str, message: Message) -> Resource:
    type_url = TYPE_URL_PREFIX + message.DESCRIPTOR.full_name
    return Resource(type_url, name, message.SerializeToString(deterministic=True))


def ads() -> core_v3.ConfigSource:
    return core_v3.ConfigSource(ads=core_v3.AggregatedConfigSource(), resource_api_version="V3")


def cluster(name: str, timeout_ms: int = 1000) -> Resource:
    message = cluster_v3.Cluster(name=name, type=cluster_v3.Cluster.EDS)
    message.eds_cluster_config.eds_config.CopyFrom(ads())
    message.connect_timeout.FromMilliseconds(timeout_ms)
    return packed(name, message)


def endpoints(name: str, port: int) -> Resource:
    address = core_v3.Address(socket_address=core_v3.SocketAddress(address="127.0.0.1", port_value=port))
    one = endpoint_v3.LbEndpoint(endpoint=endpoint_v3.Endpoint(address=address))
    locality = endpoint_v3.LocalityLbEndpoints(lb_endpoints=[one])
    return packed(name, endpoint_v3.ClusterLoadAssignment(cluster_name=name, endpoints=[locality]))


def listener(port: int) -> Resource:
    router = hcm_v3.HttpFilter(name="router")
    router.typed_config.Pack(router_v3.Router())
    manager = hcm_v3.HttpConnectionManager(stat_prefix="l", http_filters=[router])
    manager.rds.config_source.CopyFrom(ads())
    manager.rds.route_config_name = "r"
    http = listener_v3.Filter(name="http")
    http.typed_config.Pack(manager)
    address = core_v3.Address(socket_address=core_v3.SocketAddress(address="127.0.0.1", port_value=port))
    chains = [listener_v3.FilterChain(filters=[http])]
    return packed("l", listener_v3.Listener(name="l", address=address, filter_chains=chains))


def routes(**prefixes: str) -> Resource:
    """``b="x"`` routes ``/b`` to cluster x."""
    found = [
        route_v3.Route(match=route_v3.RouteMatch(prefix=f"/{path}"), route=route_v3.RouteAction(cluster=target))
        for path, target in sorted(prefixes.items(), reverse=True)
    ]
    host = route_v3.VirtualHost(name="all", domains=["*"], routes=found)
    return packed("r", route_v3.RouteConfiguration(name="r", virtual_hosts=[host]))


class Rig:
    """One Envoy, one ADS server, two backends that answer with their letter."""

    def __init__(self, folder: Path, api_type: str) -> None:
        self.folder, self.port, self.api_type = folder, free_port(), api_type
        self.socket, self.admin = folder / "ads.sock", folder / "admin.sock"
        self.registry = CollectorRegistry()
        self.server = AdsServer(registry=self.registry)
        self.backends: dict[str, int] = {}
        self.snapshot = Snapshot.of([])
        self.session = aiohttp.ClientSession()
        self.admin_session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.admin)))

    def bootstrap(self) -> str:
        http2: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        grpc = [{"envoy_grpc": {"cluster_name": "ads"}}]
        endpoint = {"endpoint": {"address": {"pipe": {"path": str(self.socket)}}}}
        dynamic = {
            "ads_config": {"api_type": self.api_type, "transport_api_version": "V3", "grpc_services": grpc},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        }
        static = {
            "name": "ads",
            "typed_extension_protocol_options": {options: {"@type": TYPE_URL_PREFIX + options, **http2}},
            "load_assignment": {"cluster_name": "ads", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        return json.dumps(
            {
                "node": {"id": "envoy-1", "cluster": GROUP},
                "admin": {"address": {"pipe": {"path": str(self.admin)}}},
                "dynamic_resources": dynamic,
                "static_resources": {"clusters": [static]},
            }
        )

    def content(self, clusters: dict[str, int], **prefixes: str) -> list[Resource]:
        """Clusters by their connect timeout, and routes."""
        return [
            *(cluster(name, timeout_ms) for name, timeout_ms in clusters.items()),
            *(endpoints(name, self.backends[name[0]]) for name in clusters),
            listener(self.port),
            routes(**prefixes),
        ]

    async def publish(self, content: list[Resource]) -> Settled:
        self.snapshot = Snapshot.of(content)
        self.server.publish(GROUP, self.snapshot)
        return await self.server.settled(GROUP, self.snapshot, 10)

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.port}/{path}") as answer:
            return answer.status, await answer.text()

    async def config(self, section: str) -> dict[str, Any]:
        async with self.admin_session.get("http://envoy/config_dump") as answer:
            configs = (await answer.json(content_type=None))["configs"]
        return next((found for found in configs if found["@type"].endswith(section)), {})

    async def active_clusters(self) -> dict[str, str]:
        """Connect timeouts of the clusters that Envoy uses, by name."""
        dump = await self.config("ClustersConfigDump")
        active = dump.get("dynamic_active_clusters", [])
        return {found["cluster"]["name"]: found["cluster"]["connect_timeout"] for found in active}

    def responses(self) -> float:
        samples = [s for metric in self.registry.collect() for s in metric.samples]
        return sum(sample.value for sample in samples if sample.name == "isg_xds_responses_total")


async def until(condition: Callable[[], Any], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - Envoy tells nobody
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def backend(letter: str) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=letter)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["DELTA_GRPC", "GRPC"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    binary = find_envoy()
    if binary is None:
        pytest.skip("no Envoy on this machine")
    with tempfile.TemporaryDirectory(prefix="isg-") as name:
        async with backend("a") as a, backend("b") as b:
            found = Rig(Path(name), request.param)
            found.backends = {"a": a, "b": b}
            await found.server.start(found.socket)
            config = found.folder / "bootstrap.json"
            config.write_text(found.bootstrap())
            with (found.folder / "log").open("wb") as log:
                options = ("--disable-hot-restart", "--concurrency", "1", "-l", "warning")
                envoy = await asyncio.create_subprocess_exec(
                    str(binary), "-c", str(config), *options, stdout=log, stderr=log
                )
            try:
                await until(lambda: asyncio.sleep(0, found.server.nodes()))
                settled = await found.publish(found.content({"a": 1000}, a="a"))
                assert settled.acknowledged == ("envoy-1",)
                await until(lambda: _answers(found, "a", (200, "a")))
                yield found
            finally:
                envoy.kill()
                await envoy.wait()
                await found.server.stop(0)
                await found.session.close()
                await found.admin_session.close()


async def _answers(rig: Rig, path: str, expected: tuple[int, str]) -> bool:
    try:
        return await rig.get(path) == expected
    except aiohttp.ClientError:
        return False


@contextlib.asynccontextmanager
async def load(rig: Rig, path: str) -> AsyncIterator[list[int]]:
    """Requests without a pause; their statuses."""
    statuses: list[int] = []

    async def send() -> None:
        while True:
            statuses.append((await rig.get(path))[0])

    task = asyncio.create_task(send())
    yield statuses
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task.exception()


async def test_x51_x53_a_new_cluster_and_the_route_to_it_fail_no_request(rig: Rig) -> None:
    await rig.publish(rig.content({"a": 1000}, x="a"))
    async with load(rig, "x") as statuses:
        settled = await rig.publish(rig.content({"a": 1000, "b": 1000}, x="b"))
        assert settled.acknowledged == ("envoy-1",)
        assert await rig.get("x") == (200, "b")
    assert set(statuses) == {200}


async def test_x52_a_changed_cluster_with_the_same_endpoints_is_active_at_once(rig: Rig) -> None:
    await rig.publish(rig.content({"a": 1000}, x="a"))
    content = rig.content({"a": 2000}, x="a")
    started = time.monotonic()
    async with load(rig, "x") as statuses:
        await rig.publish(content)
        assert await rig.active_clusters() == {"a": "2s"}
        assert time.monotonic() - started < 1  # 15 s when Envoy has to wait for endpoints
    assert set(statuses) == {200}


async def test_x54_a_cluster_goes_after_the_route_to_it_and_no_request_fails(rig: Rig) -> None:
    await rig.publish(rig.content({"a": 1000, "b": 1000}, x="b"))
    async with load(rig, "x") as statuses:
        settled = await rig.publish(rig.content({"a": 1000}, x="a"))
        assert settled.acknowledged == ("envoy-1",)
        assert set(await rig.active_clusters()) == {"a"}
    assert set(statuses) == {200}


async def test_swaps_back_and_forth_under_load_fail_no_request(rig: Rig) -> None:
    await rig.publish(rig.content({"a": 1000}, x="a"))
    async with load(rig, "x") as statuses:
        for number in range(30):
            letter = "ab"[number % 2]
            await rig.publish(rig.content({f"{letter}{number}": 1000 + number}, x=f"{letter}{number}"))
            assert await rig.get("x") == (200, letter)
    assert set(statuses) == {200}


async def test_x21_x57_a_refusal_is_kept_with_envoys_words_and_mended_by_the_next_change(rig: Rig) -> None:
    good = rig.content({"a": 1000}, x="a")
    await rig.publish(good)
    bad = cluster_v3.Cluster(name="bad", type=cluster_v3.Cluster.EDS)  # EDS without a configuration of EDS
    settled = await rig.publish([*good, packed("bad", bad)])
    assert "bad" in settled.refused["envoy-1"]
    (node,) = rig.server.nodes()
    nack = node.types[CLUSTER].nack
    assert nack is not None
    assert nack.text == settled.refused["envoy-1"]
    before = rig.responses()
    await asyncio.sleep(0.2)
    assert rig.responses() == before
    assert await rig.get("x") == (200, "a")
    assert (await rig.publish(good)).acknowledged == ("envoy-1",)
    assert rig.server.nodes()[0].types[CLUSTER].nack is None


async def test_x55_endpoints_that_are_replaced_fail_no_request(rig: Rig) -> None:
    await rig.publish(rig.content({"a": 1000}, x="a"))
    others = [cluster("a"), listener(rig.port), routes(x="a")]
    async with load(rig, "x") as statuses:
        for _ in range(10):
            for letter in "ba":
                settled = await rig.publish([*others, endpoints("a", rig.backends[letter])])
                assert settled.acknowledged == ("envoy-1",)
                assert await rig.get("x") == (200, letter)
    assert set(statuses) == {200}


async def test_x67_the_view_shows_the_versions_that_envoy_shows(rig: Rig) -> None:
    await rig.publish(rig.content({"a": 1000, "b": 1000}, x="a"))
    types = rig.server.nodes()[0].types
    assert (await rig.config("ClustersConfigDump"))["version_info"] == types[CLUSTER].acked_version
    assert (await rig.config("ListenersConfigDump"))["version_info"] == types[LISTENER].acked_version
    for type_url, named in rig.snapshot.types.items():
        assert types[type_url].acked_version == rig.snapshot.type_version(type_url)
        assert not types[type_url].pending
        assert named


async def test_x58_x60_a_control_plane_that_starts_again_with_the_same_changes_nothing(rig: Rig) -> None:
    content = rig.content({"a": 1000}, x="a")
    await rig.publish(content)
    async with load(rig, "x") as statuses:
        await rig.server.stop(0)
        rig.registry = CollectorRegistry()
        rig.server = AdsServer(registry=rig.registry)
        rig.server.publish(GROUP, Snapshot.of(content))
        await rig.server.start(rig.socket)
        await until(lambda: asyncio.sleep(0, rig.server.nodes() and ROUTE in rig.server.nodes()[0].types))
        await asyncio.sleep(0.3)
        first = rig.responses()
        await asyncio.sleep(0.2)
    if rig.api_type == "DELTA_GRPC":
        assert first == 0
    assert rig.responses() == first  # the other variant cannot say what Envoy has, and is told once
    assert set(statuses) == {200}
    assert (await rig.config("ListenersConfigDump"))["dynamic_listeners"][0].keys() == {"name", "active_state"}
    settled = await rig.publish(rig.content({"a": 1000, "b": 1000}, x="b"))
    assert settled.acknowledged == ("envoy-1",)
    assert await rig.get("x") == (200, "b")
