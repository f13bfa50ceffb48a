"""A service's subscription against the real ADS server on a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from prometheus_client import CollectorRegistry

from control_plane.xds import AdsServer, Resource, Snapshot
from gateway import policy_cache
from gateway.names import POLICY_TYPE_URL
from gateway.policy import GatewayPolicy, ModelPolicy, Policy, PolicyError, encode, resource_name
from gateway.policy_client import PolicySet, PolicySubscription, policy_resource

GROUP = "ext_proc"


def model(name: str = "m", upstream: str = "u") -> ModelPolicy:
    return ModelPolicy(model=name, upstream_model=upstream, max_body_bytes=1, max_response_bytes=1)


def resource(policy: Policy) -> Resource:
    return Resource(POLICY_TYPE_URL, *policy_resource(policy))


def snapshot(*policies: Policy) -> Snapshot:
    return Snapshot.of(map(resource, policies))


def document(name: str, data: bytes) -> Resource:
    return Resource(POLICY_TYPE_URL, name, BytesValue(value=data).SerializeToString())


class Service:
    """What a service makes of policies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sets: list[PolicySet] = []
        self.refuse: Callable[[PolicySet], None] = lambda _: None
        self.subscription = PolicySubscription(
            service="ext_proc", ads_socket=folder / "ads.sock", cache=folder / "policy.json", apply=self.apply
        )
        self.tasks: list[asyncio.Task[None]] = []

    def apply(self, policies: PolicySet) -> None:
        self.refuse(policies)
        self.sets.append(policies)

    def start(self) -> Service:
        self.tasks.append(asyncio.create_task(self.subscription.run()))
        return self

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def has(self, *policies: Policy, timeout_s: float = 5) -> None:
        """Wait until exactly these policies are in force."""
        wanted = {resource_name(policy): policy for policy in policies}
        async with asyncio.timeout(timeout_s):
            while not self.sets or self.in_force != wanted:  # noqa: ASYNC110 - the subscription has no event
                await asyncio.sleep(0.005)

    @property
    def in_force(self) -> dict[str, Policy]:
        last = self.sets[-1]
        return {resource_name(last.gateway): last.gateway, **last.models}


@pytest.fixture
def folder() -> Iterable[Path]:
    with tempfile.TemporaryDirectory(prefix="isg-") as name:
        yield Path(name)


@pytest.fixture
async def service(folder: Path) -> AsyncIterator[Service]:
    made = Service(folder)
    yield made
    await made.stop()


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[AdsServer]:
    made = AdsServer(registry=CollectorRegistry())
    await made.start(folder / "ads.sock")
    yield made
    await made.stop(0)


async def publish(server: AdsServer, *resources: Resource) -> tuple[tuple[str, ...], dict[str, str]]:
    """Nodes that took it, nodes that refused it."""
    content = Snapshot.of(resources)
    server.publish(GROUP, content)
    settled = await server.settled(GROUP, content, 5)
    assert not settled.waiting
    return settled.acknowledged, dict(settled.refused)


async def connected(server: AdsServer, service: Service) -> str:
    """The service's node id, once it is there and has its first policies."""
    service.start()
    async with asyncio.timeout(5):
        while not server.nodes():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)
    return server.nodes()[0].id


async def test_policies_are_in_force_before_they_are_acknowledged(server: AdsServer, service: Service) -> None:
    node = await connected(server, service)
    assert node == f"ext_proc-{os.getpid()}"
    assert await publish(server, resource(GatewayPolicy()), resource(model())) == ((node,), {})
    await service.has(GatewayPolicy(), model(), timeout_s=0.1)
    assert await publish(server, resource(GatewayPolicy(models=("m",))), resource(model("n"))) == ((node,), {})
    await service.has(GatewayPolicy(models=("m",)), model("n"), timeout_s=0.1)
    assert service.subscription.connected


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param(document("gateway", b"{"), "not a policy that this version can enforce", id="not JSON"),
        pytest.param(document("gateway", b'{"type":"gateway","new_rule":1}'), "new_rule", id="an unknown rule"),
        pytest.param(document("gateway", b"\xff"), "not a policy", id="not UTF-8"),
        pytest.param(document("gateway", encode(model())), "holds the policy model/m/", id="another policy's name"),
        pytest.param(document("model/m/00", encode(model())), "model/m/00: holds the policy", id="a wrong digest"),
        pytest.param(Resource(POLICY_TYPE_URL, "gateway", b"\xff"), "not a policy resource", id="not protobuf"),
    ],
)
async def test_a_bad_document_is_refused_with_its_reason_and_the_old_set_stays(
    server: AdsServer, service: Service, bad: Resource, words: str
) -> None:
    node = await connected(server, service)
    await publish(server, resource(GatewayPolicy()), resource(model()))
    others = [resource(model("n"))] if bad.name == "gateway" else [resource(GatewayPolicy(default_model="m"))]
    acknowledged, refused = await publish(server, bad, *others)
    assert acknowledged == ()
    assert words in refused[node]
    await service.has(GatewayPolicy(), model(), timeout_s=0.1)
    assert len(service.sets) == 1
    assert await publish(server, resource(GatewayPolicy(models=("n",))), resource(model("n"))) == ((node,), {})
    await service.has(GatewayPolicy(models=("n",)), model("n"), timeout_s=0.1)


@pytest.mark.parametrize(
    ("error", "words"),
    [(PolicyError("model m: schema is not one"), "model m: schema is not one"), (KeyError("x"), "KeyError: 'x'")],
)
async def test_what_the_service_cannot_enforce_is_refused_in_its_words(
    server: AdsServer, service: Service, error: Exception, words: str
) -> None:
    def refuse(policies: PolicySet) -> None:
        if policies.models:
            raise error

    service.refuse = refuse
    node = await connected(server, service)
    await publish(server, resource(GatewayPolicy()))
    assert await publish(server, resource(GatewayPolicy()), resource(model())) == ((), {node: words})
    assert await publish(server, resource(GatewayPolicy(default_model="d"))) == ((node,), {})
    await service.has(GatewayPolicy(default_model="d"), timeout_s=0.1)


async def test_a_set_without_the_gateways_policy_waits_for_it(server: AdsServer, service: Service) -> None:
    await connected(server, service)
    await publish(server, resource(model()))
    assert service.sets == []
    await publish(server, resource(model()), resource(GatewayPolicy()))
    await service.has(GatewayPolicy(), model(), timeout_s=0.1)
    await publish(server, resource(model("n")))
    await service.has(GatewayPolicy(), model(), timeout_s=0.1)


async def test_a_start_without_a_control_plane_uses_the_last_good_policy(
    server: AdsServer, service: Service, folder: Path
) -> None:
    await connected(server, service)
    await publish(server, resource(GatewayPolicy()), resource(model()))
    await service.stop()
    await server.stop(0)
    assert stat.S_IMODE((folder / "policy.json").stat().st_mode) == 0o600
    second = Service(folder).start()
    try:
        await second.has(GatewayPolicy(), model(), timeout_s=1)
        assert not second.subscription.connected
    finally:
        await second.stop()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{" * 100_000, id="nested beyond measure"),
        pytest.param(b"\x00\xff", id="not text"),
        pytest.param(b"[]", id="another shape"),
        pytest.param(b'{"gateway":{"version":"1","document":{"type":"gateway","new":1}}}', id="of a newer version"),
        pytest.param(b'{"gateway":{"version":"1","document":5}}', id="not a policy"),
    ],
)
async def test_a_broken_cache_is_ignored_and_replaced(
    server: AdsServer, service: Service, folder: Path, content: bytes
) -> None:
    (folder / "policy.json").write_bytes(content)
    await connected(server, service)
    assert service.sets == []
    await publish(server, resource(GatewayPolicy()))
    await service.has(GatewayPolicy())
    assert list(policy_cache.read(folder / "policy.json")) == ["gateway"]


async def test_a_cache_that_cannot_be_read_is_ignored(server: AdsServer, service: Service, folder: Path) -> None:
    (folder / "policy.json").mkdir()  # nor can it be written
    node = await connected(server, service)
    assert await publish(server, resource(GatewayPolicy())) == ((node,), {})
    await service.has(GatewayPolicy())


async def test_a_cached_policy_that_the_service_chokes_on_does_not_stop_its_start(
    server: AdsServer, service: Service, folder: Path
) -> None:
    policy_cache.write(folder / "policy.json", {"gateway": ("1", encode(GatewayPolicy(default_model="x")))})

    def choke(policies: PolicySet) -> None:
        if policies.gateway.default_model == "x":
            raise RuntimeError("choked")

    service.refuse = choke
    node = await connected(server, service)
    assert await publish(server, resource(GatewayPolicy())) == ((node,), {})


async def test_it_is_back_soon_after_the_control_plane_is_and_is_sent_nothing_that_it_has(
    server: AdsServer, service: Service, folder: Path
) -> None:
    await connected(server, service)
    content = snapshot(GatewayPolicy(), model())
    server.publish(GROUP, content)
    await service.has(GatewayPolicy(), model())
    await server.stop(0)
    await asyncio.sleep(0.5)
    assert not service.subscription.connected
    registry = CollectorRegistry()
    second = AdsServer(registry=registry)
    second.publish(GROUP, content)
    await second.start(folder / "ads.sock")
    try:
        started = time.monotonic()
        async with asyncio.timeout(5):
            while not second.nodes():  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)
        assert time.monotonic() - started < 2
        assert (await second.settled(GROUP, content, 5)).acknowledged
        assert registry.get_sample_value("isg_xds_responses_total", {"type": "isg.v1.Policy"}) is None
        assert len(service.sets) == 1
        changed = snapshot(GatewayPolicy())
        second.publish(GROUP, changed)
        await service.has(GatewayPolicy())
    finally:
        await second.stop(0)


async def test_what_was_withdrawn_while_it_was_away_goes_when_it_is_back(folder: Path, service: Service) -> None:
    held = {resource_name(policy): ("old", encode(policy)) for policy in (GatewayPolicy(), model())}
    policy_cache.write(folder / "policy.json", held)
    server = AdsServer(registry=CollectorRegistry())
    server.publish(GROUP, snapshot(GatewayPolicy(default_model="d")))
    await server.start(folder / "ads.sock")
    try:
        service.start()
        await service.has(GatewayPolicy(default_model="d"))
    finally:
        await server.stop(0)


def test_the_cache_is_readable_json_and_keeps_documents_byte_for_byte(folder: Path) -> None:
    document = encode(GatewayPolicy(models=("b", "a")))
    policy_cache.write(folder / "c", {"gateway": ("v", document)})
    assert json.loads((folder / "c").read_bytes())["gateway"]["document"]["models"] == ["b", "a"]
    assert policy_cache.read(folder / "c") == {"gateway": ("v", document)}
    assert [path.name for path in folder.iterdir()] == ["c"]
