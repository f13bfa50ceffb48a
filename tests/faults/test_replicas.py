"""Two replicas of a model: one dies, comes back, or is slow, and clients do not notice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.recorder import Recorder
from tests.support.stack import Stack, free_port, running, until
from tests.support.traffic import VALID, traffic

pytestmark = pytest.mark.live

GATEWAY = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
models:
  language:
    backend: main
    input: {tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]}
default_model: language
"""


def replica(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A real model server in a process of its own."""
    command = [sys.executable, "-m", "backends.server", "language", "--port", str(port)]
    with (folder / f"replica-{port}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


async def serves(port: int) -> bool:
    """Whether a replica says that it can answer."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/v2/health/ready") as response,
        ):
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def received_by(port: int) -> float:
    """Inference requests that a replica has counted."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("model_requests_total"))


async def test_a_replica_killed_under_load_fails_no_request_and_is_used_again_within_a_second(tmp_path: Path) -> None:
    ports = (free_port(), free_port())
    replicas = [replica(port, tmp_path) for port in ports]
    try:
        for port in ports:
            await until(f"replica {port} serves", partial(serves, port), 20)
        descriptor = f"server: kserve\nmodel: language\nendpoints: ['127.0.0.1:{ports[0]}', '127.0.0.1:{ports[1]}']\n"
        async with running(tmp_path, {"gateway.yaml": GATEWAY, "backends/main.yaml": descriptor}) as stack:
            key = await stack.key()
            async with traffic(stack, key, per_second=120, kinds=(VALID,)) as seen:
                for _ in range(2):
                    await asyncio.sleep(1)
                    replicas[1].kill()
                    replicas[1].wait()
                    await asyncio.sleep(1.5)
                    replicas[1] = replica(ports[1], tmp_path)
                    await until("the replica serves again", lambda: serves(ports[1]), 20)
                    returned = time.monotonic()
                    await until("it is used again", lambda: used(ports[1]), 5)
                    assert time.monotonic() - returned < 1.0
            assert seen.statuses(VALID) == {200}, seen.outcomes
    finally:
        for process in replicas:
            process.kill()
            process.wait()


async def used(port: int) -> bool:
    return await received_by(port) > 0


async def test_the_least_busy_replica_takes_the_load_of_a_slow_one(tmp_path: Path) -> None:
    fast, slow = await Recorder().start(), await Recorder(delay_s=0.5).start()
    try:
        descriptor = f"server: kserve\nmodel: m\nendpoints: ['{fast.address}', '{slow.address}']\n"
        async with running(tmp_path, {"gateway.yaml": GATEWAY, "backends/main.yaml": descriptor}) as stack:
            key = await stack.key()
            await drive(stack, key, requests=200, at_once=8)
        assert len(fast.received) > 3 * len(slow.received), (len(fast.received), len(slow.received))
        assert slow.received, "it is slow, not gone"
    finally:
        await fast.stop()
        await slow.stop()


async def drive(stack: Stack, key: str, *, requests: int, at_once: int) -> None:
    """Keep some requests under way until enough are done."""

    async def worker(numbers: AsyncIterator[int]) -> None:
        async for _ in numbers:
            assert (await stack.predict(VALID.body, key)).status == 200

    async def count() -> AsyncIterator[int]:
        for number in range(requests // at_once):
            yield number

    await asyncio.gather(*(worker(count()) for _ in range(at_once)))
