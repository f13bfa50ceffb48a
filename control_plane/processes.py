"""The two files by which the control plane and the supervisor of local model servers talk.

``processes.json``: which model servers the configuration wants (its ``run:`` parts). The control plane writes it,
empty included, before it says that it is ready; the supervisor itself writes the first one, so that servers and control
plane start side by side. ``endpoints.json``: every address that the supervisor has allotted to one; whether a server
there is well is Envoy's to find out. Both are replaced as a whole, never changed in place.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from control_plane.config.model import Address, Config, Endpoint
from gateway.state import StateDir


class ProcessesError(ValueError):
    """A file that is not what its writer promised. The text names the file and the fault."""


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local model servers of one backend (interface: ``run`` of a backend).

    Attributes:
        command: program and arguments; ``{port}`` stands for the port of a replica, a leading ``python`` for the
            interpreter of the gateway.
        replicas: how many run.
        ready_within_s: how long a start may take before it is complained of.
        health_path: answers 200 on HTTP when the server can serve; None: an open port is enough.
        directory: the descriptor's folder, absolute; the servers' working directory.
    """

    command: tuple[str, ...]
    replicas: int = 1
    ready_within_s: float = 60.0
    health_path: str | None = None
    directory: str


_T = TypeVar("_T")


def wanted_processes(config: Config) -> dict[str, Process]:
    """The local model servers of a configuration, by backend."""
    return {
        name: Process(
            command=backend.run.command,
            replicas=backend.run.replicas,
            ready_within_s=backend.run.ready_within_s,
            health_path=backend.health.path,
            directory=str(config.backends_folder),
        )
        for name, backend in config.backends.items()
        if backend.run is not None
    }


def read_processes(state: StateDir) -> dict[str, Process] | None:
    """The wanted model servers by backend, or None where the control plane has not written yet.

    Raises:
        ProcessesError: the file is damaged.
    """
    return _read(state.processes, dict[str, Process])


def write_processes(state: StateDir, processes: Mapping[str, Process]) -> None:
    """Replace the wanted model servers."""
    _replace(state.processes, msgspec.json.encode(dict(processes), order="deterministic"))


def read_endpoints(state: StateDir) -> dict[str, tuple[str, ...]] | None:
    """The addresses (``127.0.0.1:4123``) of the model servers by backend, or None where none were ever allotted.

    Raises:
        ProcessesError: the file is damaged.
    """
    return _read(state.endpoints, dict[str, tuple[str, ...]])


def local_endpoints(state: StateDir) -> dict[str, tuple[Endpoint, ...]]:
    """Where the replicas of local backends are, by backend.

    Raises:
        ProcessesError: the file is damaged.
    """
    found: dict[str, tuple[Endpoint, ...]] = {}
    for backend, addresses in (read_endpoints(state) or {}).items():
        try:
            pairs = [address.rsplit(":", 1) for address in addresses]
            found[backend] = tuple(Endpoint(address=Address(host=host, port=int(port))) for host, port in pairs)
        except ValueError as error:
            raise ProcessesError(f"{state.endpoints}: {backend} has no addresses but {addresses}") from error
    return found


def write_endpoints(state: StateDir, endpoints: Mapping[str, tuple[str, ...]]) -> None:
    """Replace the addresses."""
    _replace(state.endpoints, msgspec.json.encode(dict(endpoints), order="deterministic"))


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        document = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProcessesError(f"{path}: {error}") from error


def _replace(path: Path, document: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(document)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
