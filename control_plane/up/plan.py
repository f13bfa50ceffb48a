"""From the model servers that are wanted and those that run to what must be done about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from control_plane.processes import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One local model server.

    Attributes:
        number: counts the servers of a backend from 1; a number is not used twice at a time.
        port: on the loopback address; kept through restarts.
    """

    backend: str
    number: int
    port: int
    process: Process

    @property
    def name(self) -> str:
        """What its log lines are headed with."""
        return f"{self.backend}/{self.number}"

    @property
    def address(self) -> str:
        """What Envoy connects to."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A replica to start, on a port that is still to be found."""

    backend: str
    number: int
    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do.

    Attributes:
        retire: no longer wanted: out of use first, then stopped.
        replace: their command changed: as ``retire``, but only when the new ones of their backend are ready.
    """

    start: tuple[Start, ...] = ()
    retire: tuple[Replica, ...] = ()
    replace: tuple[Replica, ...] = ()


def plan(
    wanted: Mapping[str, Process], running: Iterable[Replica], taken: frozenset[tuple[str, int]] = frozenset()
) -> Plan:
    """Compare.

    Args:
        wanted: by backend.
        running: replicas in use; those on their way out are not among them.
        taken: (backend, number) of replicas on their way out: their numbers are not free yet.
    """
    start: list[Start] = []
    retire: list[Replica] = []
    replace: list[Replica] = []
    by_backend: dict[str, list[Replica]] = {name: [] for name in wanted}
    for replica in sorted(running, key=lambda r: (r.backend, r.number)):
        by_backend.setdefault(replica.backend, []).append(replica)
    for backend, replicas in by_backend.items():
        process = wanted.get(backend)
        if process is None:
            retire += replicas
            continue
        current = [replica for replica in replicas if same_program(replica.process, process)]
        outdated = [replica for replica in replicas if not same_program(replica.process, process)]
        retire += current[process.replicas :]
        replace += outdated
        used = {replica.number for replica in replicas} | {number for name, number in taken if name == backend}
        free = (number for number in range(1, len(used) + process.replicas + 1) if number not in used)
        missing = max(0, process.replicas - len(current))
        start += [Start(backend=backend, number=next(free), process=process) for _ in range(missing)]
    return Plan(start=tuple(start), retire=tuple(retire), replace=tuple(replace))


def same_program(one: Process, other: Process) -> bool:
    """Whether a running server is what is wanted; its number and its patience may differ."""
    return (one.command, one.directory) == (other.command, other.directory)
