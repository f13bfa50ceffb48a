"""A running authorization server on a real Unix socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from ext_authz.api_keys.feed import KeyFeed
from ext_authz.api_keys.index import KeyIndex
from ext_authz.authorizer import Authorizer, PolicyInForce
from ext_authz.metrics import Metrics
from ext_authz.server import CheckServer, listening, start
from gateway.policy import GatewayPolicy
from gateway.policy_client import PolicySet
from gateway.state import StateDir
from tests.ext_authz.service import Service


@pytest.fixture
def state() -> Iterator[StateDir]:
    # Not tmp_path: socket paths must be short.
    with tempfile.TemporaryDirectory(prefix="isg-") as directory:
        found = StateDir(Path(directory) / "state")
        found.prepare()
        yield found


@pytest.fixture
async def service(state: StateDir) -> AsyncIterator[Service]:
    metrics, index, policy = Metrics(), KeyIndex(), PolicyInForce()
    feed = KeyFeed(state=state, index=index, on_error=metrics.store_failed, use_interval_s=0.1)
    policy.apply(PolicySet(gateway=GatewayPolicy(default_model="m1", models=("m1", "m2")), models={}))
    metrics.watch(keys=lambda: len(index), key_store_up=lambda: feed.up, policy_up=lambda: True)
    server = CheckServer(Authorizer(index=index, policy=policy, uses=feed, metrics=metrics))
    with listening(state.ext_authz_socket) as listener:
        runner = await start(server, listener)
        following = asyncio.create_task(feed.run())
        connector = aiohttp.UnixConnector(str(state.ext_authz_socket))
        async with aiohttp.ClientSession(connector=connector) as session:
            running = Service(state=state, index=index, feed=feed, policy=policy, metrics=metrics, session=session)
            await running.store_is(up=True)
            yield running
        following.cancel()
        await asyncio.wait([following])
        await runner.cleanup()
