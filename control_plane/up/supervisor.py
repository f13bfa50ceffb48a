"""The supervisor: starts the parts at once, heals what dies, says when all is ready, stops in order."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from control_plane.config import load
from control_plane.config.model import Config
from control_plane.processes import wanted_processes, write_processes
from control_plane.up import probe
from control_plane.up.child import Child, Program
from control_plane.up.claim import claim, require_ports
from control_plane.up.drain import drain
from control_plane.up.output import Console, announce, brief, fill_closed_streams
from control_plane.up.parts import ENVOY, envoy_program, service_programs
from control_plane.up.plan import Replica
from control_plane.up.quiesce import refuse_new_connections
from control_plane.up.readiness import Condition, Missing, until_ready
from control_plane.up.replicas import ModelServers
from control_plane.up.welcome import Demo, DemoKey, demo_key, welcome
from gateway.state import Service, StateDir

WHO: Final = "isg"
SERVICES: Final[tuple[Service, ...]] = ("control_plane", "ext_authz", "ext_proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run.

    Attributes:
        watch: whether saved files are made live.
        concurrency: Envoy's worker threads.
        demo_key: makes the first key of a new gateway.
    """

    config: Path
    state: StateDir
    watch: bool
    concurrency: int
    demo_key: DemoKey


def run(options: Options) -> None:
    """Run a gateway until SIGTERM or SIGINT.

    Raises:
        control_plane.config.ConfigErrors: the configuration is wrong; nothing was started.
        CannotStartError: something that is needed cannot be had; nothing was started.
    """
    fill_closed_streams()
    config = load(options.config)
    with claim(options.state):
        require_ports(config.listen)
        programs = (
            *service_programs(options.config, options.state, watch=options.watch),
            envoy_program(config, options.state, concurrency=options.concurrency),
        )
        # The model servers need not wait for the control plane to say the same.
        write_processes(options.state, wanted_processes(config))
        # Before the services start: the key store is still as the operator left it.
        demo = demo_key(options.state, options.demo_key)
        console = Console(sys.stderr, terminal=sys.stderr.isatty())
        try:
            asyncio.run(Supervisor(options, config, programs, console, demo).run())
        finally:
            console.close()


class Supervisor:
    """One running gateway."""

    def __init__(
        self, options: Options, config: Config, programs: Sequence[Program], console: Console, demo: Demo | None
    ) -> None:
        self._options, self._config, self._console, self._demo = options, config, console, demo
        self._url = probe.url_of(config.listen[0].host, config.listen[0].port)
        self._children = {program.name: Child(program, show=console.show) for program in programs}
        self._model_servers = ModelServers(options.state, show=console.show, probe=_replica_answers)
        self._stop, self._quick = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Run until a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # nohup(1) has it ignored, so that the gateway outlives its terminal
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._signalled)
        async with asyncio.TaskGroup() as group:
            for child in self._children.values():
                group.create_task(child.run())
            group.create_task(self._model_servers.run())
            announcing = group.create_task(self._announce())
            await self._stop.wait()
            announcing.cancel()
            await self._shut_down(group)

    # -- coming up ---------------------------------------------------------------------------------

    async def _announce(self) -> None:
        """Say ``ready``, once, when a request would succeed."""
        began = time.monotonic()
        await until_ready(self._parts, report=self._report, clock=time.monotonic)
        await until_ready(self._front_door, report=self._report, clock=time.monotonic)
        self._console.show(WHO, f"ready after {time.monotonic() - began:.1f} s")
        text = welcome(url=self._url, config=self._options.config, state=self._options.state, demo=self._demo)
        announce(f"ready {self._url}\n{text}")

    def _parts(self) -> list[Condition]:
        state = self._options.state
        conditions = [
            Condition(
                subject=service,
                missing=partial(probe.answers_200, "http://isg/ready", socket_path=state.admin_socket(service)),
            )
            for service in SERVICES
        ]
        conditions.append(Condition(subject="control_plane", missing=self._model_servers_known))
        conditions += [
            Condition(
                subject=replica.name,
                missing=partial(_replica_answers, replica),
                patience_s=replica.process.ready_within_s,
            )
            for replica, _ in self._model_servers
        ]
        admin = state.envoy_admin_socket
        return [
            *conditions,
            Condition(subject=ENVOY, missing=partial(probe.answers_200, "http://envoy/ready", socket_path=admin)),
            Condition(subject=ENVOY, missing=partial(probe.envoy_has_endpoints, admin)),
        ]

    def _front_door(self) -> list[Condition]:
        return [Condition(subject=ENVOY, missing=partial(probe.front_door, self._url))]

    async def _model_servers_known(self) -> str | None:
        return "has not said which model servers it wants" if self._model_servers.wanted is None else None

    def _report(self, missing: Sequence[Missing]) -> None:
        replicas = {replica.name: child for replica, child in self._model_servers}
        for what in missing:
            child = self._children.get(what.subject) or replicas.get(what.subject)
            words = " / ".join(dict.fromkeys(map(brief, child.last_words))) if child is not None else ""
            self._console.show(
                WHO, f"not ready yet: {what.subject}: {what.words}" + (f" (its last words: {words})" if words else "")
            )

    # -- going down --------------------------------------------------------------------------------

    def _signalled(self) -> None:
        (self._quick if self._stop.is_set() else self._stop).set()

    async def _shut_down(self, group: asyncio.TaskGroup) -> None:
        """In the order of a request: no new ones, Envoy, the services, the model servers."""
        hurry = group.create_task(self._hurry())
        drain_s = self._config.state.drain_s
        self._console.show(WHO, f"stopping: requests in flight have {drain_s:g} s; a second signal stops at once")
        left = await self._drain(drain_s)
        if left:
            self._console.show(WHO, f"{left} requests were still in flight after {drain_s:g} s: given up")
        await self._children[ENVOY].stop()
        await asyncio.gather(*(self._children[service].stop() for service in SERVICES))
        self._model_servers.stop()
        hurry.cancel()

    async def _drain(self, at_most_s: float) -> int:
        envoy = self._children[ENVOY].pid
        draining = asyncio.create_task(
            drain(
                self._options.state.envoy_admin_socket,
                at_most_s=at_most_s,
                clock=time.monotonic,
                close_doors=lambda: envoy and refuse_new_connections(envoy),
            )
        )
        quick = asyncio.create_task(self._quick.wait())
        await asyncio.wait({draining, quick}, return_when=asyncio.FIRST_COMPLETED)
        quick.cancel()
        if draining.done():
            return draining.result()
        draining.cancel()
        return 0

    async def _hurry(self) -> None:
        await self._quick.wait()
        self._console.show(WHO, "stopping at once")
        for child in self._children.values():
            child.kill()
        self._model_servers.kill()


async def _replica_answers(replica: Replica) -> str | None:
    path = replica.process.health_path
    if path is None:
        return await probe.accepts("127.0.0.1", replica.port)
    return await probe.answers_200(f"http://{replica.address}{path}")
