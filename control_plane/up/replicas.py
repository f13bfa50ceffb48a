"""Local model servers: what ``processes.json`` wants is what runs, and ``endpoints.json`` says where.

A server leaves in this order: out of ``endpoints.json``, a pause in which the control plane and Envoy take it out of
use, then SIGTERM. One whose command changed leaves only when its successors are ready.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Final

from control_plane.processes import Process, ProcessesError, read_processes, write_endpoints
from control_plane.up import ports
from control_plane.up.child import Child, Clock, Program, Show
from control_plane.up.plan import Replica, Start, plan, same_program
from gateway.state import StateDir

POLL_S: Final = 0.1
#: Pause after a failure to write.
AGAIN_S: Final = 1.0
#: From the moment an endpoint is withdrawn until its server is asked to end: the push to Envoy takes far less.
OUT_OF_USE_S: Final = 3.0
_WHO: Final = "isg"

#: Whether a replica answers; None when it does, else what is missing.
Probe = Callable[[Replica], Awaitable[str | None]]


class ModelServers:
    """Runs what the control plane wants. ``await run()`` in a task; :meth:`stop` ends it and all servers."""

    def __init__(
        self,
        state: StateDir,
        *,
        show: Show,
        probe: Probe,
        out_of_use_s: float = OUT_OF_USE_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self.wanted: dict[str, Process] | None = None
        self._state, self._show, self._probe, self._out_of_use_s = state, show, probe, out_of_use_s
        self._serving: dict[Replica, Child] = {}
        self._leaving: dict[Replica, Child] = {}
        self._succeeding: set[str] = set()
        self._clock = clock
        self._written: tuple[int, ...] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def __iter__(self) -> Iterator[tuple[Replica, Child]]:
        """Those in use."""
        return iter(list(self._serving.items()))

    async def run(self) -> None:
        """Follow the file until stopped. A failure of a server's own task is raised here."""
        seen: tuple[int, ...] | None = None
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                try:
                    found = _signature(self._state.processes)
                except OSError:  # out of reach for now: as it was
                    found = seen
                if found != seen and self._apply(group):
                    seen = found
                self._heal()
                try:
                    await asyncio.wait_for(self._stopping.wait(), POLL_S)
                except TimeoutError:
                    continue
            children = [*self._serving.values(), *self._leaving.values()]
            await asyncio.gather(*(child.stop() for child in children))
            for task in self._tasks:
                task.cancel()

    def stop(self) -> None:
        """Let :meth:`run` end, with all servers."""
        self._stopping.set()

    def kill(self) -> None:
        """End the servers without their grace."""
        for child in (*self._serving.values(), *self._leaving.values()):
            child.kill()

    def _apply(self, group: asyncio.TaskGroup) -> bool:
        """Do what the file says; whether that is settled (if not, it is tried again)."""
        try:
            wanted = read_processes(self._state)
            if wanted is not None:
                self.wanted = wanted
                self._reconcile(wanted, group)
        except ProcessesError as error:
            self._show(_WHO, f"model servers stay as they are: {error}")
        except OSError as error:
            self._show(_WHO, f"model servers cannot be brought up to date yet: {error}")
            return False
        return True

    def _reconcile(self, wanted: dict[str, Process], group: asyncio.TaskGroup) -> None:
        taken = frozenset((replica.backend, replica.number) for replica in self._leaving)
        todo = plan(wanted, self._serving, taken)
        for start in todo.start:
            self._start(start, group)
        for replica in todo.retire:
            self._retire(replica, group)
        for backend in {replica.backend for replica in todo.replace} - self._succeeding:
            self._succeeding.add(backend)
            self._spawn(self._succeed(backend, group), group)
        self._publish()

    def _start(self, start: Start, group: asyncio.TaskGroup) -> None:
        taken = {replica.port for replica in (*self._serving, *self._leaving)}
        replica = Replica(backend=start.backend, number=start.number, port=ports.allot(taken), process=start.process)
        child = Child(_program(replica), show=self._show, before_start=lambda: self._checked(replica))
        self._serving[replica] = child
        group.create_task(child.run())

    def _checked(self, replica: Replica) -> Program:
        """The program again, with a word where a stranger holds its port."""
        if not ports.is_free("127.0.0.1", replica.port):
            self._show(replica.name, f"port {replica.port} is held by another process")
        return _program(replica)

    async def _succeed(self, backend: str, group: asyncio.TaskGroup) -> None:
        """Retire a backend's outdated servers once the current ones answer, or have had the time they asked for."""
        began = self._clock()
        while (process := (self.wanted or {}).get(backend)) is not None:
            current = [r for r in self._serving if r.backend == backend and same_program(r.process, process)]
            answers = await asyncio.gather(*(self._probe(replica) for replica in current))
            if all(missing is None for missing in answers) or self._clock() - began > process.ready_within_s:
                break
            await asyncio.sleep(POLL_S)
        self._succeeding.discard(backend)
        for replica in list(self._serving):
            if replica.backend == backend and process is not None and not same_program(replica.process, process):
                self._retire(replica, group)
        await self._publish_in_the_end()

    def _retire(self, replica: Replica, group: asyncio.TaskGroup) -> None:
        self._leaving[replica] = self._serving.pop(replica)
        self._spawn(self._leave(replica), group)

    async def _leave(self, replica: Replica) -> None:
        await asyncio.sleep(self._out_of_use_s)
        await self._leaving[replica].stop()
        del self._leaving[replica]
        self._show(replica.name, "ended: it is no longer wanted")

    def _spawn(self, work: Coroutine[None, None, None], group: asyncio.TaskGroup) -> None:
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _publish(self) -> None:
        addresses: dict[str, list[str]] = {backend: [] for backend in self.wanted or ()}
        for replica in sorted(self._serving, key=lambda r: (r.backend, r.number)):
            addresses.setdefault(replica.backend, []).append(replica.address)
        write_endpoints(self._state, {backend: tuple(found) for backend, found in addresses.items()})

        self._written = _signature(self._state.endpoints)

    def _heal(self) -> None:
        """Only this writes the list: what somebody else made of it would last until the next change."""
        try:
            if self._written is not None and _signature(self._state.endpoints) != self._written:
                self._publish()
                self._show(_WHO, f"{self._state.endpoints.name} was changed by somebody else: written anew")
        except OSError:  # out of reach for now
            return

    async def _publish_in_the_end(self) -> None:
        while True:
            try:
                self._publish()
                return
            except OSError as error:
                self._show(_WHO, f"where model servers are cannot be written yet: {error}")
                await asyncio.sleep(AGAIN_S)


def _program(replica: Replica) -> Program:
    """The command of a replica; ``python`` is the gateway's own interpreter."""
    first, *arguments = (part.replace("{port}", str(replica.port)) for part in replica.process.command)
    return Program(
        name=replica.name,
        command=(sys.executable if first in {"python", "python3"} else first, *arguments),
        environment={"PYTHONUNBUFFERED": "1"},
        directory=Path(replica.process.directory),
    )


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)
