"""The payload service's process: policies swapped whole, health by policy, an end that is either asked for or loud."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from ext_proc import app
from ext_proc.app import RulesHolder, serve
from ext_proc.metrics import Metrics
from gateway.policy import GatewayPolicy, InputRule, PolicyError
from gateway.policy_client import Apply, PolicySet
from gateway.state import StateDir
from tests.ext_proc.policies import model, route, text_model

LANGUAGE = text_model()
GOOD = PolicySet(gateway=GatewayPolicy(), models={route(LANGUAGE): LANGUAGE})
ODD = model("odd", input=InputRule(schema={"type": "objct"}))
BAD = PolicySet(gateway=GatewayPolicy(), models={route(LANGUAGE): LANGUAGE, route(ODD): ODD})


@pytest.fixture
async def state() -> AsyncIterator[StateDir]:
    with tempfile.TemporaryDirectory(prefix="isg") as folder:
        yield StateDir(Path(folder))


def subscription(follow: Callable[[Apply], Awaitable[None]]) -> type:
    class Subscription:
        def __init__(self, *, service: str, ads_socket: Path, cache: Path, apply: Apply) -> None:
            assert service == "ext_proc"
            self.apply = apply

        async def run(self) -> None:
            await follow(self.apply)

    return Subscription


async def health(state: StateDir) -> Any:
    async with grpc.aio.insecure_channel(f"unix:{state.ext_proc_socket}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=5)).status


async def test_health_serves_once_a_policy_came_and_a_signal_ends_it(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def follow(apply: Apply) -> None:
        await go.wait()
        apply(GOOD)
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "PolicySubscription", subscription(follow))
    registry = CollectorRegistry()
    task = asyncio.create_task(serve(state, registry))
    assert await health(state) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert registry.get_sample_value("isg_policy_up") == 0
    go.set()
    await asyncio.sleep(0.05)
    assert await health(state) == health_pb2.HealthCheckResponse.SERVING
    assert registry.get_sample_value("isg_policy_up") == 1
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("error", [None, OSError("gone")])
async def test_a_subscription_that_ends_ends_the_service_loudly(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    async def follow(apply: Apply) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(app, "PolicySubscription", subscription(follow))
    with pytest.raises(RuntimeError, match="subscription ended") as caught:
        await asyncio.wait_for(serve(state, CollectorRegistry()), 5)
    assert caught.value.__cause__ is error


def test_a_policy_that_cannot_be_enforced_leaves_the_rules_in_force() -> None:
    holder = RulesHolder(Metrics(CollectorRegistry()))
    assert holder.missing() == "no policy yet"
    with pytest.raises(PolicyError, match="model odd"):
        holder.apply(BAD)
    assert holder.current() is None
    holder.apply(GOOD)
    before = holder.current()
    with pytest.raises(PolicyError, match="model odd"):
        holder.apply(BAD)
    assert holder.current() is before
    assert holder.missing() is None
