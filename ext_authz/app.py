"""The authorization service: its object graph, and its life from start to SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop

from ext_authz.api_keys.feed import KeyFeed
from ext_authz.api_keys.index import KeyIndex
from ext_authz.authorizer import Authorizer, PolicyInForce
from ext_authz.metrics import Metrics
from ext_authz.server import CheckServer, SocketInUseError, listening, start
from gateway.policy_client import PolicySubscription
from gateway.state import StateDir
from gateway.telemetry import configure_logging, serve_admin


class ServiceFailedError(RuntimeError):
    """A part that must run for ever has ended: better no service than one that no longer hears of changes."""


def run(state: StateDir) -> None:
    """Run the service as this process's work; returns after SIGTERM or SIGINT, exits 1 when it cannot go on."""
    configure_logging("ext_authz")
    try:
        uvloop.run(serve(state))
    except (ServiceFailedError, SocketInUseError, OSError) as error:
        structlog.get_logger().critical("service ended", reason=str(error), exc_info=error.__cause__)
        sys.exit(1)


async def serve(state: StateDir) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight.

    Raises:
        SocketInUseError: another process serves this state directory.
        ServiceFailedError: the policy subscription or the key feed ended.
        OSError: the state directory cannot be used.
    """
    state.prepare()
    metrics, index, policy = Metrics(), KeyIndex(), PolicyInForce()
    feed = KeyFeed(state=state, index=index, on_error=metrics.store_failed)
    authorizer = Authorizer(index=index, policy=policy, uses=feed, metrics=metrics)
    metrics.watch(keys=lambda: len(index), key_store_up=lambda: feed.up, policy_up=lambda: policy.gateway is not None)
    subscription = PolicySubscription(
        service="ext_authz",
        ads_socket=state.ads_socket,
        cache=state.policy_file("ext_authz"),
        apply=policy.apply,
    )
    with listening(state.ext_authz_socket) as listener:
        stop = _stop_signal()
        admin = await serve_admin(state.admin_socket("ext_authz"), lambda: authorizer.missing, metrics.registry)
        runner = await start(CheckServer(authorizer), listener)
        try:
            await _run_until(stop, policy_subscription=subscription.run(), key_feed=feed.run())
        finally:
            await runner.cleanup()
            await admin.cleanup()


async def _run_until(stop: asyncio.Event, **parts: Coroutine[Any, Any, None]) -> None:
    """Run all parts until `stop` is set; a part that ends before that is a failure."""
    stopping = asyncio.create_task(stop.wait())
    running = {asyncio.create_task(part, name=name) for name, part in parts.items()}
    try:
        await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task.done() and not stop.is_set():
                raise ServiceFailedError(f"{task.get_name()} ended") from task.exception()
    finally:
        for task in running:
            task.cancel()
        stopping.cancel()
        await asyncio.gather(stopping, *running, return_exceptions=True)


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
