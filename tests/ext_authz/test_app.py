"""The service as a process: start, readiness, stop, and parts that fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from ext_authz import app
from ext_authz.api_keys.lifecycle import create_key, revoke_key
from gateway import policy_cache
from gateway.policy import GatewayPolicy, encode
from gateway.state import StateDir
from tests.ext_authz.service import bearer, until

START_S = 10.0


@asynccontextmanager
async def process(state: StateDir) -> AsyncIterator[asyncio.subprocess.Process]:
    code = "import sys, pathlib; from ext_authz.app import run; from gateway.state import StateDir"
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"{code}; run(StateDir(pathlib.Path(sys.argv[1])))",
        str(state.root),
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def get(socket: Path, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body, or status 0 while nobody listens."""
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
            session.get(f"http://isg{path}", headers=headers) as response,
        ):
            return response.status, await response.text()
    except aiohttp.ClientConnectorError:
        return 0, ""


async def health_is(state: StateDir, status: int) -> None:
    async def seen() -> bool:
        return (await get(state.ext_authz_socket, "/health"))[0] == status

    await until(seen, START_S)


async def has_status(state: StateDir, secret: str, status: int) -> None:
    async def seen() -> bool:
        return (await get(state.ext_authz_socket, "/check/v1/predict", bearer(secret)))[0] == status

    await until(seen, 1.0)


def remember_policy(state: StateDir) -> None:
    document = encode(GatewayPolicy(models=("m1",)))
    policy_cache.write(state.policy_file("ext_authz"), {"gateway": ("1", document)})


async def test_it_serves_from_the_last_policy_and_stops_at_sigterm(state: StateDir) -> None:
    remember_policy(state)
    made = create_key(state, tenant="acme", models=["m1"])
    async with process(state) as running:
        await health_is(state, 200)
        await has_status(state, made.secret, 200)
        revoke_key(state, made.id)
        await has_status(state, made.secret, 401)
        status, metrics = await get(state.admin_socket("ext_authz"), "/metrics")
        assert status == 200
        for line in ("isg_keys 1.0", "isg_key_store_up 1.0", "isg_policy_up 1.0"):
            assert line in metrics.splitlines()
        assert 'isg_authz_decisions_total{code="allowed"}' in metrics
        assert "isg_authz_seconds_bucket" in metrics
        assert (await get(state.admin_socket("ext_authz"), "/ready"))[0] == 200
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            _, errors = await running.communicate()
        assert running.returncode == 0
        assert not state.ext_authz_socket.exists()
        lines = [json.loads(line) for line in errors.splitlines()]
        assert {line["process"] for line in lines} == {"ext_authz"}
        assert made.secret not in errors.decode()


async def test_without_a_policy_it_is_up_but_not_ready(state: StateDir) -> None:
    async with process(state):
        await health_is(state, 503)
        assert (await get(state.admin_socket("ext_authz"), "/ready"))[0] == 503
        assert (await get(state.ext_authz_socket, "/check/v1/predict"))[0] == 503


async def test_a_second_process_on_the_same_socket_refuses_to_start(state: StateDir) -> None:
    remember_policy(state)
    async with process(state) as first:
        await health_is(state, 200)
        async with process(state) as second:
            async with asyncio.timeout(START_S):
                _, errors = await second.communicate()
            assert second.returncode == 1
            assert "another process serves" in errors.decode()
        assert first.returncode is None
        assert (await get(state.ext_authz_socket, "/health"))[0] == 200


async def test_after_kill_9_the_next_process_takes_over(state: StateDir) -> None:
    remember_policy(state)
    async with process(state) as first:
        await health_is(state, 200)
        first.kill()
        await first.wait()
    assert state.ext_authz_socket.exists()
    async with process(state):
        await health_is(state, 200)


async def test_a_store_that_cannot_be_read_at_the_start_is_503_until_it_can(state: StateDir) -> None:
    remember_policy(state)
    made = create_key(state, tenant="acme", models=["m1"])
    good = state.key_store.read_bytes()
    state.key_store.write_bytes(b"garbage" * 1000)
    async with process(state):
        await health_is(state, 503)
        status, body = await get(state.ext_authz_socket, "/check/v1/predict", bearer(made.secret))
        assert (status, json.loads(body)["code"]) == (503, "keys_unavailable")
        state.key_store.write_bytes(good)
        await health_is(state, 200)
        await has_status(state, made.secret, 200)


@pytest.mark.parametrize("error", [None, RuntimeError("the stream loop broke")])
async def test_a_subscription_that_ends_ends_the_service(
    state: StateDir, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ending:
        def __init__(self, **_: object) -> None: ...

        async def run(self) -> None:
            if error is not None:
                raise error

    monkeypatch.setattr(app, "PolicySubscription", Ending)
    with pytest.raises(app.ServiceFailedError, match="policy_subscription ended") as caught:
        async with asyncio.timeout(5):
            await app.serve(state)
    assert caught.value.__cause__ is error
    assert not state.ext_authz_socket.exists()


async def test_sigterm_reaches_serve_and_finishes_it(state: StateDir) -> None:
    serving = asyncio.create_task(app.serve(state))
    await health_is(state, 503)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(5):
        await serving
