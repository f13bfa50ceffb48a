"""Steady traffic of valid, invalid and unauthenticated requests, and what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of request; ``authorized`` and ``body`` decide what must become of it."""

    name: str
    body: Any
    authorized: bool = True


VALID = Kind(name="valid", body={"text": "valid"})
INVALID = Kind(name="invalid", body={"text": 5, "mark": "INVALID"})
ANONYMOUS = Kind(name="anonymous", body={"text": "ANONYMOUS"}, authorized=False)
ALL = (VALID, VALID, INVALID, ANONYMOUS)


@dataclass(slots=True)
class Traffic:
    """Outcomes by kind. Status 0 is a request that got no HTTP answer."""

    outcomes: dict[str, Counter[int]] = field(default_factory=dict)
    times: list[tuple[float, str, int]] = field(default_factory=list)
    not_problems: list[str] = field(default_factory=list)

    def statuses(self, kind: Kind) -> set[int]:
        """The statuses that a kind of request has met."""
        return set(self.outcomes.get(kind.name, ()))

    def first_after(self, moment: float, kind: Kind, status: int) -> float | None:
        """Seconds from a moment until the first answer of this status to a request of this kind."""
        found = (at for at, name, got in self.times if at >= moment and name == kind.name and got == status)
        return next((at - moment for at in found), None)

    def note(self, kind: Kind, status: int, headers: Mapping[str, str], text: str) -> None:
        """Record one answer."""
        self.outcomes.setdefault(kind.name, Counter())[status] += 1
        self.times.append((time.monotonic(), kind.name, status))
        if status >= 400 and "problem+json" not in headers.get("content-type", ""):
            self.not_problems.append(f"{kind.name} {status} {headers.get('content-type')} {text[:200]}")


@contextlib.asynccontextmanager
async def traffic(
    stack: Stack, key: str, *, per_second: float = 100, kinds: tuple[Kind, ...] = ALL
) -> AsyncIterator[Traffic]:
    """Send in the background until the end of the block; every request sent has its answer then."""
    result = Traffic()
    under_way: set[asyncio.Task[None]] = set()

    async def one(kind: Kind) -> None:
        try:
            reply = await stack.predict(kind.body, key if kind.authorized else None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            result.note(kind, 0, {}, repr(error))
        else:
            result.note(kind, reply.status, reply.headers, reply.body.decode(errors="replace"))

    async def send() -> None:
        number = 0
        while True:
            task = asyncio.create_task(one(kinds[number % len(kinds)]))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
            await asyncio.sleep(1 / per_second)

    sending = asyncio.create_task(send())
    try:
        yield result
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        if under_way:
            await asyncio.wait(under_way, timeout=20)
