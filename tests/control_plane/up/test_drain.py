"""The drain against a real Envoy with one static listener: what it does to the requests of clients."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from control_plane.preflight.envoy import find_envoy
from control_plane.up.drain import drain, in_flight
from control_plane.up.ports import allot
from control_plane.up.probe import answers_200
from control_plane.up.quiesce import refuse_new_connections

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(find_envoy() is None, reason="no Envoy on this machine"),
]


def bootstrap(admin: Path, listener: int, upstream: int) -> str:
    def tcp(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    v3 = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{v3}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{v3}.http.router.v3.Router"}},
        ],
    }
    return json.dumps(
        {
            "admin": {"address": {"pipe": {"path": str(admin)}}},
            "static_resources": {
                "listeners": [
                    {
                        "name": "public",
                        "address": tcp(listener),
                        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                    }
                ],
                "clusters": [
                    {
                        "name": "up",
                        "load_assignment": {
                            "cluster_name": "up",
                            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": tcp(upstream)}}]}],
                        },
                    }
                ],
            },
        }
    )


@asynccontextmanager
async def envoy_before_a_slow_server(folder: Path):
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("s", "0")))
        return web.Response(text="answer")

    app = web.Application()
    app.router.add_get("/", slow)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    upstream, listener = allot(), allot()
    await web.TCPSite(runner, "127.0.0.1", upstream).start()
    admin, config = folder / "a.sock", folder / "envoy.json"
    config.write_text(bootstrap(admin, listener, upstream))
    envoy = await asyncio.create_subprocess_exec(
        str(find_envoy()),
        *("-c", str(config), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"),
        *("--drain-time-s", "30", "--drain-strategy", "immediate"),
    )
    try:
        deadline = time.monotonic() + 10
        while await answers_200("http://envoy/ready", socket_path=admin) is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        yield admin, f"http://127.0.0.1:{listener}/", envoy.pid
    finally:
        envoy.kill()
        await envoy.wait()
        await runner.cleanup()


async def test_a_slow_request_in_flight_gets_its_answer(tmp_path: Path):
    async with envoy_before_a_slow_server(tmp_path) as (admin, url, _pid), aiohttp.ClientSession() as client:
        slow = asyncio.create_task(client.get(url, params={"s": "2.0"}))
        await asyncio.sleep(0.2)
        assert await in_flight(admin) == 1
        assert await drain(admin, at_most_s=10, clock=time.monotonic) == 0
        assert slow.done() or await in_flight(admin) == 0
        answer = await slow
        assert (answer.status, await answer.text()) == (200, "answer")
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(url)


async def test_a_busy_client_loses_no_request_and_is_told_to_close(tmp_path: Path):
    async with envoy_before_a_slow_server(tmp_path) as (admin, url, pid):
        statuses: list[int] = []
        told: list[str | None] = []
        failures: list[Exception] = []

        async def call() -> None:
            async with aiohttp.ClientSession() as client:
                while True:
                    try:
                        async with client.get(url, params={"s": "0.01"}) as answer:
                            await answer.read()
                            statuses.append(answer.status)
                            told.append(answer.headers.get("connection"))
                    except aiohttp.ClientConnectorError:
                        return  # refused before it was accepted: another gateway may take it
                    except aiohttp.ClientError as error:
                        failures.append(error)

        callers = [asyncio.create_task(call()) for _ in range(8)]
        await asyncio.sleep(0.3)
        doors = partial(refuse_new_connections, pid)
        assert await drain(admin, at_most_s=10, clock=time.monotonic, close_doors=doors) == 0
        await asyncio.wait_for(asyncio.gather(*callers), 5)
    assert failures == []
    assert set(statuses) == {200}
    assert told[0] is None
    assert told[-1] == "close"


async def test_a_request_that_outlasts_the_time_is_counted_as_given_up(tmp_path: Path):
    async with envoy_before_a_slow_server(tmp_path) as (admin, url, _pid), aiohttp.ClientSession() as client:
        slow = asyncio.create_task(client.get(url, params={"s": "30"}))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        assert await drain(admin, at_most_s=1.2, clock=time.monotonic) == 1
        assert time.monotonic() - began < 2
        slow.cancel()


async def test_an_envoy_that_is_gone_has_nothing_to_drain(tmp_path: Path):
    assert await drain(tmp_path / "none.sock", at_most_s=5, clock=time.monotonic) == 0
