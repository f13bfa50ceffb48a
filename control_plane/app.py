"""The control plane's object graph: watches the files, compiles them, serves the result over xDS."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from typing import Final

import structlog
import uvloop
from prometheus_client import REGISTRY

from control_plane.config.model import Address, Endpoint
from control_plane.preflight.envoy import find_envoy
from control_plane.processes import read_endpoints, wanted_processes, write_processes
from control_plane.publish import Publisher
from control_plane.reconcile import ConfigMetrics, Reconciler
from control_plane.watch import Changed, changes
from control_plane.xds.server import AdsServer
from gateway.command_line import Places
from gateway.state import StateDir
from gateway.telemetry import configure_logging, serve_admin

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_WITHDRAW_EVERY_S: Final = 5.0
_STOP_GRACE_S: Final = 1.0


def run(places: Places, *, watch: bool) -> None:
    """The process `isg control-plane`: until SIGTERM or SIGINT."""
    configure_logging("control_plane")
    uvloop.run(serve(places, watch=watch))


async def serve(places: Places, *, watch: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        watch: whether saved files are made live.
    """
    state = places.state
    state.prepare()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    server = AdsServer(registry=REGISTRY)
    envoy = find_envoy()
    if envoy is None:
        log.warning("preflight_off", meaning="no envoy binary here: configurations go to Envoy unchecked by it")
    publisher = Publisher(server=server, clock=time.monotonic)
    reconciler = Reconciler(
        path=places.config,
        state=state,
        publisher=publisher,
        local=lambda: _local_endpoints(state),
        wanted=lambda config: write_processes(state, wanted_processes(config)),
        metrics=ConfigMetrics(REGISTRY),
        envoy=envoy,
    )
    await server.start(state.ads_socket)
    admin = await serve_admin(state.admin_socket("control_plane"), lambda: reconciler.problem)
    try:
        await reconciler.files_changed()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_follow(reconciler, watch=watch)), tasks.create_task(_withdraw(publisher))]
            await stop.wait()
            for task in running:
                task.cancel()
    finally:
        await server.stop(_STOP_GRACE_S)
        await admin.cleanup()


async def _follow(reconciler: Reconciler, *, watch: bool) -> None:
    """React to what changes, one thing after the other."""
    async for changed in changes(lambda: reconciler.sources, reconciler.state.endpoints, watch_files=watch):
        if changed is Changed.ENDPOINTS:
            await reconciler.endpoints_changed()
        else:
            await reconciler.files_changed()


async def _withdraw(publisher: Publisher) -> None:
    while True:
        await asyncio.sleep(_WITHDRAW_EVERY_S)
        publisher.withdraw_expired()


def _local_endpoints(state: StateDir) -> Mapping[str, tuple[Endpoint, ...]]:
    found: dict[str, tuple[Endpoint, ...]] = {}
    for backend, addresses in (read_endpoints(state) or {}).items():
        pairs = (address.rsplit(":", 1) for address in addresses)
        found[backend] = tuple(Endpoint(address=Address(host=host, port=int(port))) for host, port in pairs)
    return found
