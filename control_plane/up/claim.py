"""What a supervisor must have to itself before it starts anything: the state directory, and the listener's ports."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from control_plane.config.model import Address
from control_plane.processes import write_endpoints
from control_plane.up.errors import CannotStartError
from control_plane.up.ports import PortError, is_free
from gateway.state import StateDir

#: The parts of a supervisor that was killed end at the same moment; their port takes a little longer.
PORT_PATIENCE_S: Final = 1.5


@contextmanager
def claim(state: StateDir) -> Iterator[None]:
    """Hold the state directory, cleared of what an earlier run left, until the context ends.

    Raises:
        CannotStartError: another supervisor holds it, or it cannot be used.
    """
    try:
        state.prepare()
        handle = os.open(state.root / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStartError(f"the state directory {state.root} cannot be used: {error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise CannotStartError(
                f"a gateway runs already on {state.root} (process {owner}); "
                "stop it first, or give this one another --state"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        _clear(state)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def require_ports(addresses: Sequence[Address]) -> None:
    """Make sure that Envoy will be able to listen, and alone.

    Raises:
        CannotStartError: a port is in use or out of reach.
    """
    deadline = time.monotonic() + PORT_PATIENCE_S
    for address in addresses:
        try:
            while not is_free(address.host, address.port):
                if time.monotonic() > deadline:
                    raise CannotStartError(
                        f"{address} is in use by another program: stop that one, or change `listen:`"
                    )
                time.sleep(0.05)
        except PortError as error:
            raise CannotStartError(error.strerror or str(error)) from error


def _clear(state: StateDir) -> None:
    """Sockets nobody listens on, and addresses of servers that run no more."""
    for socket in state.sockets.glob("*.sock"):
        socket.unlink(missing_ok=True)
    state.processes.unlink(missing_ok=True)
    write_endpoints(state, {})
