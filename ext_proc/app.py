"""The payload service as a process: its objects are built here, and here alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Final

import structlog
import uvloop
from prometheus_client import REGISTRY, CollectorRegistry

from ext_proc.metrics import Metrics
from ext_proc.rules import Rules, compile_rules
from ext_proc.server import PayloadServer
from gateway.policy_client import PolicySet, PolicySubscription
from gateway.state import StateDir
from gateway.telemetry import configure_logging, serve_admin

_GRACE_S: Final = 10.0
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger()


class RulesHolder:
    """The rules in force; a policy set replaces all of them or none."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._rules: Rules | None = None
        self.arrived = asyncio.Event()
        metrics.policy_up.set(0)

    def current(self) -> Rules | None:
        """The rules now, None before the first policy."""
        return self._rules

    def apply(self, policies: PolicySet) -> None:
        """Take a policy set.

        Raises:
            PolicyError: it cannot be enforced; the rules in force stay.
        """
        self._rules = compile_rules(policies, self._rules)
        self._metrics.policy_up.set(1)
        self.arrived.set()

    def missing(self) -> str | None:
        """What readiness waits for."""
        return None if self._rules is not None else "no policy yet"


async def serve(state: StateDir, registry: CollectorRegistry = REGISTRY) -> None:
    """Serve until SIGTERM or SIGINT, then let exchanges in progress end.

    Raises:
        RuntimeError: the policy subscription ended, without which the rules would grow old unnoticed.
    """
    state.prepare()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)

    metrics = Metrics(registry)
    holder = RulesHolder(metrics)
    server = PayloadServer(socket=state.ext_proc_socket, rules=holder.current, metrics=metrics)
    subscription = PolicySubscription(
        service="ext_proc",
        ads_socket=state.ads_socket,
        cache=state.policy_file("ext_proc"),
        apply=holder.apply,
    )
    admin = await serve_admin(state.admin_socket("ext_proc"), holder.missing, registry)
    tasks = [asyncio.create_task(subscription.run()), asyncio.create_task(_serve_once_ready(holder, server))]
    stopping = asyncio.create_task(stop.wait())
    try:
        await server.start()
        await _until(stopping, tasks)
    finally:
        await server.stop(_GRACE_S)
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
        await admin.cleanup()
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
        _log.info("stopped")


async def _serve_once_ready(holder: RulesHolder, server: PayloadServer) -> None:
    await holder.arrived.wait()
    await server.set_serving(serving=True)
    _log.info("serving")


async def _until(stopping: asyncio.Task[bool], tasks: list[asyncio.Task[None]]) -> None:
    subscription, health = tasks
    await asyncio.wait({stopping, subscription}, return_when=asyncio.FIRST_COMPLETED)
    if health.done():
        health.result()
    if subscription.done() and not stopping.done():
        raise RuntimeError("the policy subscription ended") from subscription.exception()


def run(state: StateDir) -> None:
    """Be the payload service's process."""
    configure_logging("ext_proc")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(state))
