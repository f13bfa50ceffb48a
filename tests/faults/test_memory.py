"""Bodies are held before their sender is known: what an attacker can make Envoy hold is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamReset

from tests.support.h2_streams import headers_of
from tests.support.recorder import Recorder
from tests.support.stack import Stack, running, until

pytestmark = pytest.mark.live

MIB = 1024 * 1024
MAX_HEAP = 96 * MIB
BODY = 900_000
GATEWAY = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
models: {m1: {backend: main, max_body: 1MiB}}
"""


async def attack(port: int, seconds: float) -> None:
    """One connection whose hundred requests, with a key that is none, send 900 KB each and never end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    left: dict[int, int] = {}
    for _ in range(100):
        number = connection.get_next_available_stream_id()
        connection.send_headers(number, headers_of("nonsense"), end_stream=False)
        left[number] = BODY
    with contextlib.suppress(TimeoutError, ConnectionError):
        try:
            async with asyncio.timeout(seconds):
                await _press(reader, writer, connection, left)
        finally:
            writer.transport.abort()


async def _press(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: H2Connection, left: dict[int, int]
) -> None:
    """Send as much as Envoy takes, on every stream that it has not reset."""
    while left:
        for number in tuple(left):
            size = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size)
            if size > 0 and left[number] > size:
                connection.send_data(number, b"a" * size)
                left[number] -= size
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(65_536)
        if not data:
            return
        for event in connection.receive_data(data):
            if isinstance(event, StreamReset):
                left.pop(event.stream_id, None)


async def test_a_flood_of_bodies_from_nobody_is_shed_and_leaves_the_gateway_whole(tmp_path: Path) -> None:
    recorder = await Recorder().start()
    files = {
        "gateway.yaml": GATEWAY,
        "backends/main.yaml": f"server: kserve\nmodel: m\nendpoints: ['{recorder.address}']\n",
    }
    try:
        async with running(tmp_path, files, max_heap_bytes=MAX_HEAP) as stack:
            envoy = stack.processes["envoy"]
            key = await stack.key()
            attackers = [asyncio.create_task(attack(stack.port, 20)) for _ in range(6)]
            await until("Envoy is full", lambda: is_full(stack), 10)
            await until("requests pass again while the attackers hold on", lambda: passes(stack, key), 15)
            for task in attackers:
                task.cancel()
            await asyncio.gather(*attackers, return_exceptions=True)
            assert envoy.poll() is None, "Envoy survives"
            assert all(b"aaaa" not in received.body for received in recorder.received)
    finally:
        await recorder.stop()


async def is_full(stack: Stack) -> bool:
    stats = await stack.envoy_admin("/stats?filter=stop_accepting_requests.active")
    return stats.strip().endswith(": 1")


async def passes(stack: Stack, key: str) -> bool:
    body = {"model": "m1", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
    return (await stack.predict(body, key)).status == 200
