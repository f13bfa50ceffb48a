"""CPU time of one authorization, measured on the real server over its Unix socket.

    python -m benchmarks.ext_authz_cost [--keys 1000] [--requests 40000] [--connections 16]

The server runs in a process of its own, without Envoy; its CPU time comes from the operating system. Prints one JSON
object; times are microseconds per request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.synchronize
import os
import resource
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from ext_authz.api_keys.feed import KeyFeed
from ext_authz.api_keys.index import KeyIndex
from ext_authz.api_keys.lifecycle import create_key
from ext_authz.api_keys.store import KeyStore
from ext_authz.authorizer import Authorizer, PolicyInForce
from ext_authz.metrics import Metrics
from ext_authz.server import CheckServer, listening, start
from gateway.policy import GatewayPolicy
from gateway.policy_client import PolicySet
from gateway.state import StateDir
from gateway.telemetry import configure_logging


async def serve(state: StateDir, ready: multiprocessing.synchronize.Event) -> None:
    metrics, index, policy = Metrics(), KeyIndex(), PolicyInForce()
    feed = KeyFeed(state=state, index=index)
    policy.apply(PolicySet(gateway=GatewayPolicy(models=("digits",)), models={}))
    with listening(state.ext_authz_socket) as listener:
        runner = await start(CheckServer(Authorizer(index=index, policy=policy, uses=feed, metrics=metrics)), listener)
        following = asyncio.create_task(feed.run())
        while not index.loaded:  # noqa: ASYNC110 - the index has nothing to wait on, and needs none
            await asyncio.sleep(0.01)
        ready.set()
        await following
        await runner.cleanup()


def server_process(state: StateDir, ready: multiprocessing.synchronize.Event) -> None:
    configure_logging("ext_authz")
    uvloop.run(serve(state, ready))


async def load(socket: Path, request: bytes, status: bytes, requests: int, connections: int) -> list[float]:
    """Send requests over keep-alive connections; the latency of each."""
    latencies: list[float] = []

    async def client(count: int) -> None:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        for _ in range(count):
            begin = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 " + status):
                raise AssertionError(head)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - begin)
        writer.close()

    await asyncio.gather(*(client(requests // connections) for _ in range(connections)))
    return latencies


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(state: StateDir, count: int) -> None:
    """Add keys that nobody has the secret of."""
    with KeyStore.open(state, create=True), sqlite3.connect(state.key_store) as connection:
        connection.executemany(
            "INSERT INTO keys (id, prefix, digest, tenant, name, models, tier, created_at, created_by)"
            " VALUES (?, ?, randomblob(32), 'filler', '', '[\"digits\", \"language\"]', 'standard', 0, 'benchmark')",
            ((f"key_{number:016}", f"{number:08}") for number in range(count)),
        )
    connection.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keys", type=int, default=1000)
    options.add_argument("--requests", type=int, default=40_000)
    options.add_argument("--connections", type=int, default=16)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        state = StateDir(Path(directory))
        made = create_key(state, tenant="acme", models=["digits", "language"])
        fill(state, given.keys - 1)
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        process = context.Process(target=server_process, args=(state, ready))
        begin = time.perf_counter()
        process.start()
        try:
            if not ready.wait(60):
                raise SystemExit("the server did not start")
            started_s = time.perf_counter() - begin
            result = {"keys": given.keys, "start_s": round(started_s, 2)}
            for name, secret, status in (("allow", made.secret, b"200"), ("refuse", made.secret[:-1] + "!", b"401")):
                request = (
                    b"POST /check/v1/predict HTTP/1.1\r\nhost: gateway.example\r\n"
                    b"authorization: Bearer " + secret.encode() + b"\r\n"
                    b"x-request-id: 4a1d0c1e-8f5b-4c8e-9a55-0d3c1b3f7f10\r\nx-isg-peer: 127.0.0.1\r\n"
                    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
                    b"content-length: 0\r\n\r\n"
                )
                uvloop.run(load(state.ext_authz_socket, request, status, 2000, given.connections))
                before, begin = cpu_s(process.pid or 0), time.perf_counter()
                latencies = uvloop.run(load(state.ext_authz_socket, request, status, given.requests, given.connections))
                wall = time.perf_counter() - begin
                result[f"{name}_cpu_us"] = round((cpu_s(process.pid or 0) - before) / len(latencies) * 1e6, 1)
                result[f"{name}_per_s"] = round(len(latencies) / wall)
                result[f"{name}_p99_us"] = round(statistics.quantiles(latencies, n=100)[98] * 1e6)
            result["load_client_cpu_s"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 2)
            print(json.dumps(result))
        finally:
            process.terminate()
            process.join(10)


if __name__ == "__main__":
    main()
