"""Ports: finding one for a model server, and knowing whether somebody has one already."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Final

_LOWEST: Final = 10_000
_HIGHEST: Final = 65_535
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortError(OSError):
    """A port cannot be had. The text says which and why."""


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now; sockets in TIME_WAIT do not count.

    Raises:
        PortError: the address is not this machine's, or the port needs more rights.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without SO_REUSEPORT: two Envoys would share a port without a word.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise PortError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return True


def allot(taken: Collection[int] = ()) -> int:
    """A free port on the loopback address for a server that will keep it through restarts.

    It lies outside the range that the kernel gives to outgoing connections: there, a client that connects while the
    server is down can be given the very port as its own, meet itself, and keep the server from coming back.

    Raises:
        PortError: no port is free.
    """
    low, high = _outside_ephemeral()
    candidates = [port for port in range(low, high + 1) if port not in taken]
    random.shuffle(candidates)
    for port in candidates:
        if is_free("127.0.0.1", port):
            return port
    raise PortError(f"no port from {low} to {high} is free on 127.0.0.1")


def _outside_ephemeral() -> tuple[int, int]:
    """The larger stretch of unprivileged ports beside the kernel's own range."""
    try:
        first, last = map(int, _EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        first, last = 32_768, 60_999
    below, above = (_LOWEST, first - 1), (last + 1, _HIGHEST)
    low, high = max(below, above, key=lambda span: span[1] - span[0])
    return (low, high) if high - low >= 100 else (_LOWEST, _HIGHEST)
