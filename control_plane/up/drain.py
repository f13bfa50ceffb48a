"""Stopping without losing a request: Envoy tells its clients to go, and ends when the last answer is out.

SIGTERM alone makes Envoy drop what is in flight. So first its listeners drain: every answer tells its client to close
(HTTP/1.1 ``connection: close``, HTTP/2 GOAWAY); then they stop to accept; then what is still in flight gets its time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from control_plane.up.probe import HttpError, NobodyThereError, get

Clock = Callable[[], float]

#: Connections that are in use learn within it that they should close; new ones are still served.
FAREWELL_S: Final = 1.0
#: Time to accept the connections that had come when the doors closed.
LAST_ARRIVALS_S: Final = 0.1
POLL_S: Final = 0.05
_ACTIVE: Final = "http://envoy/stats?format=json&filter=^http\\..*\\.downstream_rq_active$"


async def drain(
    admin: Path, *, at_most_s: float, clock: Clock, close_doors: Callable[[], object] = lambda: None
) -> int:
    """Drain Envoy's listeners.

    Args:
        admin: Envoy's admin socket.
        at_most_s: how long requests in flight are waited for.
        clock: seconds, monotonic.
        close_doors: keeps new connections out of the listeners (:mod:`control_plane.up.quiesce`).

    Returns:
        How many requests were still in flight when the time was over; 0 when none was lost.
    """
    deadline = clock() + at_most_s
    left = 0
    try:
        await _ask(admin, "http://envoy/drain_listeners?graceful&skip_exit", until=deadline, clock=clock)
        await asyncio.sleep(min(FAREWELL_S, at_most_s))
        close_doors()
        await asyncio.sleep(min(LAST_ARRIVALS_S, at_most_s))
        await _ask(admin, "http://envoy/drain_listeners", until=deadline, clock=clock)
        quiet = 0
        while clock() < deadline:
            left = await in_flight(admin)
            # Twice: a request may have arrived between the last answer and the look.
            quiet = 0 if left else quiet + 1
            if quiet == 2:
                break
            await asyncio.sleep(POLL_S)
    except NobodyThereError:
        # No Envoy, no requests.
        return 0
    return left


async def _ask(admin: Path, url: str, *, until: float, clock: Clock) -> None:
    """Tell Envoy something; an Envoy that is too busy to answer is told again."""
    while True:
        try:
            await get(url, socket_path=admin, method="POST")
            return
        except NobodyThereError:
            raise
        except HttpError:
            if clock() >= until:
                return


async def in_flight(admin: Path) -> int:
    """Requests of clients that have no full answer yet, all listeners together; 1 where Envoy is too busy to tell.

    Raises:
        NobodyThereError: there is no Envoy.
    """
    try:
        _, body = await get(_ACTIVE, socket_path=admin)
        return active_requests(json.loads(body))
    except NobodyThereError:
        raise
    except (HttpError, ValueError):
        return 1


def active_requests(stats: dict[str, list[dict[str, object]]]) -> int:
    """The sum of ``http.<listener>.downstream_rq_active`` in Envoy's ``/stats?format=json``, its own admin excepted."""
    return sum(
        value
        for stat in stats.get("stats", ())
        if not str(stat.get("name")).startswith("http.admin.") and isinstance(value := stat.get("value"), int)
    )


def main(admin: str, at_most_s: str) -> int:
    """Drain an Envoy of whom only the admin socket is known, as containers do before they stop.

    Returns:
        0, or 1 where requests were still in flight when the time was over.
    """
    left = asyncio.run(drain(Path(admin), at_most_s=float(at_most_s), clock=time.monotonic))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
