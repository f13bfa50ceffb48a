"""A client that speaks to a running authorization server as Envoy does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDictProxy

from ext_authz.api_keys.feed import KeyFeed
from ext_authz.api_keys.index import KeyIndex
from ext_authz.authorizer import PolicyInForce
from ext_authz.metrics import Metrics
from gateway.state import StateDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of a running service."""

    state: StateDir
    index: KeyIndex
    feed: KeyFeed
    policy: PolicyInForce
    metrics: Metrics
    session: aiohttp.ClientSession

    async def ask(self, path: str, headers: dict[str, str] | None = None, method: str = "POST") -> Reply:
        """A request as Envoy sends it: `path` is the client's."""
        return await self.get(f"/check{path}", headers, method)

    async def get(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Reply:
        """A request to the socket itself."""
        async with self.session.request(method, f"http://isg{target}", headers=headers) as response:
            return Reply(status=response.status, headers=response.headers, body=await response.read())

    async def key_is(self, status: int, secret: str, within_s: float = 1.0) -> None:
        """Wait until a key gets this status."""
        await until(lambda: self._has_status(secret, status), within_s)

    async def _has_status(self, secret: str, status: int) -> bool:
        return (await self.ask("/v1/predict", bearer(secret))).status == status

    async def store_is(self, *, up: bool, within_s: float = 3.0) -> None:
        """Wait until the feed sees the store so."""

        async def seen() -> bool:
            return self.feed.up is up

        await until(seen, within_s)


async def until(condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Wait for a condition; TimeoutError when it does not come true in time."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110 - what is waited for is another process's or thread's
            await asyncio.sleep(0.02)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}
