"""Services killed and frozen under load: nothing unauthenticated or unvalidated passes, and all is well again soon."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.state import Service
from tests.support.recorder import Recorder
from tests.support.stack import Stack, running, until
from tests.support.traffic import ANONYMOUS, INVALID, VALID, Traffic, traffic

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

GATEWAY = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
default_model: m1
models:
  m1:
    backend: main
    input:
      schema: {type: object, required: [text], properties: {text: {type: string}}}
      tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]
"""
BACK_WITHIN_S = 2.0


def files(recorder: Recorder) -> dict[str, str]:
    return {
        "gateway.yaml": GATEWAY,
        "backends/main.yaml": f"server: kserve\nmodel: m\nendpoints: ['{recorder.address}']\n",
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorder() -> AsyncIterator[Recorder]:
    started = await Recorder().start()
    yield started
    await started.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> AsyncIterator[Stack]:
    async with running(tmp_path_factory.mktemp("faults"), files(recorder)) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: Stack) -> str:
    return await gateway.key()


def nothing_passed_that_must_not(recorder: Recorder, seen: Traffic) -> None:
    for received in recorder.received:
        inputs = json.loads(received.body)["inputs"]
        assert inputs == [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["valid"]}], received.text
    assert seen.statuses(ANONYMOUS) <= {401, 503, 504}
    assert seen.statuses(INVALID) <= {422, 503, 504}
    assert seen.statuses(VALID) <= {200, 503, 504}
    assert seen.not_problems == []
    recorder.received.clear()


async def back(gateway: Stack, key: str) -> None:
    """A valid request succeeds."""
    await until("valid requests succeed", lambda: _succeeds(gateway, key), BACK_WITHIN_S)


async def _succeeds(gateway: Stack, key: str) -> bool:
    return (await gateway.predict(VALID.body, key)).status == 200


@pytest.mark.parametrize("part", ["ext-authz", "ext-proc"])
async def test_a_killed_service_fails_closed_and_is_used_again(
    gateway: Stack, recorder: Recorder, key: str, part: str
) -> None:
    async with traffic(gateway, key) as seen:
        await asyncio.sleep(0.5)
        gateway.kill(part)
        await asyncio.sleep(1.5)
        assert 503 in seen.statuses(VALID)
        await gateway.restart(part)
        service: Any = part.replace("-", "_")
        await until(f"{part} is back", lambda: gateway.is_ready(service))
        returned = time.monotonic()
        await asyncio.sleep(BACK_WITHIN_S)
    took = seen.first_after(returned, VALID, 200)
    assert took is not None
    assert took < BACK_WITHIN_S
    nothing_passed_that_must_not(recorder, seen)


@pytest.mark.parametrize("part", ["ext-authz", "ext-proc"])
async def test_a_frozen_service_fails_closed_and_is_used_again(
    gateway: Stack, recorder: Recorder, key: str, part: str
) -> None:
    async with traffic(gateway, key, per_second=60) as seen:
        await asyncio.sleep(0.5)
        gateway.send_signal(part, signal.SIGSTOP)
        await asyncio.sleep(6.5)
        gateway.send_signal(part, signal.SIGCONT)
        returned = time.monotonic()
        await asyncio.sleep(BACK_WITHIN_S)
    assert seen.statuses(VALID) & {503, 504}
    took = seen.first_after(returned, VALID, 200)
    assert took is not None
    assert took < BACK_WITHIN_S
    nothing_passed_that_must_not(recorder, seen)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_requests_go_on_while_the_control_plane_is_away(
    gateway: Stack, recorder: Recorder, key: str, how: str
) -> None:
    async with traffic(gateway, key) as seen:
        await asyncio.sleep(0.3)
        if how == "killed":
            gateway.kill("control-plane")
            await asyncio.sleep(2)
            await gateway.restart("control-plane")
        else:
            gateway.send_signal("control-plane", signal.SIGSTOP)
            await asyncio.sleep(3)
            gateway.send_signal("control-plane", signal.SIGCONT)
        await until("control plane is back", lambda: gateway.is_ready("control_plane"))
        await asyncio.sleep(0.5)
    assert seen.statuses(VALID) == {200}
    assert seen.statuses(ANONYMOUS) == {401}
    assert seen.statuses(INVALID) == {422}
    nothing_passed_that_must_not(recorder, seen)


async def test_services_start_with_their_last_good_policy_while_the_control_plane_is_down(
    gateway: Stack, recorder: Recorder, key: str
) -> None:
    gateway.kill("control-plane")
    services: tuple[Service, ...] = ("ext_authz", "ext_proc")
    for service in services:
        part = service.replace("_", "-")
        gateway.kill(part)
        await gateway.restart(part)
        await until(f"{part} is back", partial(gateway.is_ready, service))
    await back(gateway, key)
    await gateway.restart("control-plane")
    await until("control plane is back", lambda: gateway.is_ready("control_plane"))
    await back(gateway, key)


def closing(behaviour: Callable[..., Any]) -> grpc.GenericRpcHandler:
    """An ext_proc service that behaves in its own way, without reading messages."""
    handler = grpc.stream_stream_rpc_method_handler(behaviour)
    return grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": handler})


async def test_ext_proc_that_ends_its_stream_without_an_answer_lets_nothing_through(
    tmp_path: Path, recorder: Recorder
) -> None:
    async def ends_with_ok(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            return
        yield b""

    recorder.received.clear()
    parts = ("control-plane", "ext-authz", "envoy")
    async with running(tmp_path, files(recorder), first=parts, before=lambda s: rogue(s, ends_with_ok)) as stack:
        key = await stack.key()
        await until("policy", lambda: stack.is_ready("ext_authz"))
        await asyncio.sleep(1)
        reply = await stack.predict(VALID.body, key)
        assert reply.status == 503, reply
        assert reply.json["code"] == "no_verdict"
        assert reply.headers["retry-after"]
        assert recorder.received == []


async def rogue(stack: Stack, behaviour: Callable[..., Any]) -> Callable[[], Any]:
    """Serve ext_proc's socket with another behaviour; healthy as far as Envoy can tell."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((closing(behaviour),))
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{stack.state.ext_proc_socket}")
    await server.start()
    return lambda: server.stop(None)
