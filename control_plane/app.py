"""The control plane's object graph: watches the files, compiles them, serves the result over xDS."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import structlog
import uvloop
from prometheus_client import REGISTRY

from control_plane import live_config
from control_plane.preflight.envoy import find_envoy
from control_plane.processes import Process, ProcessesError, local_endpoints, read_processes, write_processes
from control_plane.publish import SERVICES, Publisher
from control_plane.reconcile import ConfigMetrics, Reconciler
from control_plane.status import Document, document
from control_plane.watch import Changed, changes
from control_plane.xds.server import AdsServer
from gateway import policy_cache
from gateway.command_line import Places
from gateway.policy import ModelPolicy, PolicyError, decode
from gateway.state import StateDir
from gateway.telemetry import configure_logging, serve_admin

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_WITHDRAW_EVERY_S: Final = 5.0
_STOP_GRACE_S: Final = 1.0
_ENVOY_ANSWERS_WITHIN_S: Final = 2.0


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
    publisher = Publisher(server=server, clock=time.monotonic, inherited=_inherited(state))
    reconciler = Reconciler(
        path=places.config,
        state=state,
        publisher=publisher,
        local=lambda: local_endpoints(state),
        running=lambda: _running(state),
        wanted=lambda processes: write_processes(state, processes),
        metrics=ConfigMetrics(REGISTRY),
        envoy=envoy,
    )
    await server.start(state.ads_socket)
    admin = await serve_admin(
        state.admin_socket("control_plane"),
        lambda: reconciler.problem,
        documents={"/status": lambda: _status(reconciler, server), live_config.PATH: lambda: _config(reconciler)},
    )
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


async def _status(reconciler: Reconciler, server: AdsServer) -> Document:
    config = reconciler.config
    clusters: Mapping[str, Any] | None = None
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(reconciler.state.envoy_admin_socket)),
                timeout=aiohttp.ClientTimeout(total=_ENVOY_ANSWERS_WITHIN_S),
            ) as session,
            session.get("http://envoy/clusters?format=json") as answer,
        ):
            clusters = await answer.json(content_type=None)
    return document(
        problem=reconciler.problem,
        path=str(reconciler.path),
        models=() if config is None else config.models,
        backends=() if config is None else config.backends,
        nodes=server.nodes(),
        clusters=clusters,
    )


async def _config(reconciler: Reconciler) -> Document:
    return live_config.document(reconciler.config)


async def _withdraw(publisher: Publisher) -> None:
    while True:
        await asyncio.sleep(_WITHDRAW_EVERY_S)
        publisher.withdraw_expired()


def _running(state: StateDir) -> Mapping[str, Process]:
    """The local backends that the supervisor runs now; a damaged list is about to be replaced."""
    try:
        return read_processes(state) or {}
    except ProcessesError as error:
        log.warning("processes_ignored", reason=str(error))
        return {}


def _inherited(state: StateDir) -> dict[str, ModelPolicy]:
    """What the services enforce while no control plane is there."""
    found: dict[str, ModelPolicy] = {}
    for service in SERVICES:
        try:
            documents = policy_cache.read(state.policy_file(service))
            policies = {name: decode(document) for name, (_, document) in documents.items()}
        except (policy_cache.CacheError, PolicyError) as error:
            log.warning("policy_cache_ignored", service=service, reason=str(error))
            continue
        found |= {name: policy for name, policy in policies.items() if isinstance(policy, ModelPolicy)}
    return found
