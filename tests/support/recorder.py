"""A model server that remembers what reached it: an Open Inference v2 REST server for tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as the model server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Everything that a canary could hide in."""
        return f"{self.path} {self.headers} {self.body.decode('utf-8', 'replace')}"


Answer = Callable[[Received], Awaitable[web.Response]]


async def ones(received: Received) -> web.Response:
    """One FP32 output `scores` of three numbers, the second the largest."""
    return web.json_response(
        {
            "model_name": "m",
            "model_version": "1",
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [0.1, 0.7, 0.2]}],
        }
    )


@dataclass(slots=True)
class Recorder:
    """Start with :meth:`start`; ``received`` holds inference requests only, not health checks."""

    answer: Answer = ones
    delay_s: float = 0
    port: int = 0
    received: list[Received] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def start(self) -> Recorder:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def last_json(self) -> Any:
        return json.loads(self.received[-1].body)

    async def _handle(self, request: web.Request) -> web.Response:
        if request.path.startswith("/v2/health"):
            return web.Response()
        received = Received(
            method=request.method,
            path=request.path_qs,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        self.received.append(received)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return await self.answer(received)
