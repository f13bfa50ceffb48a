"""Close a listener's door before the listener itself goes (Linux).

When a listening socket is closed, the kernel resets the connections that wait in it to be accepted: their clients
believe to be connected, and may have sent a request. So before Envoy closes its listeners, their sockets get a filter
(socket(7), SO_ATTACH_FILTER) that drops new SYNs: what has come is accepted and answered, what comes now finds the port
closed a moment later, by its own retransmission. The sockets are Envoy's; pidfd_getfd(2) lends them to its parent.

Where the kernel or its security policy do not allow it, nothing is lost but this nicety.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

_SYS_PIDFD_GETFD: Final = 438  # the same on x86_64 and aarch64
_SO_ATTACH_FILTER: Final = 26
#: Classic BPF, on the TCP header: flags & (SYN|ACK) == SYN ? drop : keep.
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x54, 0, 0, 0x12),  # and #0x12
    (0x15, 0, 1, 0x02),  # jeq #2
    (0x06, 0, 0, 0),  # ret #0
    (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1
)


def refuse_new_connections(pid: int) -> int:
    """Let a process's TCP listeners take no new connections; those that wait are still accepted.

    Args:
        pid: a child of this process.

    Returns:
        How many sockets were closed to newcomers; 0 where that is not possible.
    """
    if sys.platform != "linux":
        return 0
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return 0
    done = 0
    try:
        for descriptor in _sockets(pid):
            with suppress(OSError), closing(_borrow(pidfd, descriptor)) as borrowed:
                if _listens(borrowed):
                    _attach(borrowed)
                    done += 1
    finally:
        os.close(pidfd)
    return done


def _sockets(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for entry in list(Path(f"/proc/{pid}/fd").iterdir()):
            with suppress(OSError):
                if entry.readlink().name.startswith("socket:"):
                    yield int(entry.name)


def _borrow(pidfd: int, descriptor: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    borrowed = libc.syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    if borrowed < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return socket.socket(fileno=borrowed)


def _listens(borrowed: socket.socket) -> bool:
    return (
        borrowed.family in {socket.AF_INET, socket.AF_INET6}
        and borrowed.type == socket.SOCK_STREAM
        and borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    )


def _attach(borrowed: socket.socket) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN))
    program = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(code))
    borrowed.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
