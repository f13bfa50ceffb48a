"""Is a part of the gateway ready? For containers, which have no curl: exit code 0 on 200, else 1.

``python -m control_plane.healthcheck unix:/state/sockets/ext_authz-admin.sock /ready``
``python -m control_plane.healthcheck 127.0.0.1:8000 /v2/health/ready``

The standard library only: a health check runs every few seconds.
"""

from __future__ import annotations

import http.client
import socket
import sys
from typing import Final

TIMEOUT_S: Final = 2.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("isg", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def missing(address: str, path: str) -> str | None:
    """None where ``GET path`` is answered with 200, else what was answered instead."""
    if address.startswith("unix:"):
        connection: http.client.HTTPConnection = _UnixConnection(address.removeprefix("unix:"))
    else:
        connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return None if answer.status == 200 else f"{answer.status} {answer.read(200).decode('utf-8', 'replace')}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(missing(sys.argv[1], sys.argv[2]))
