"""HTTP ext_authz over a Unix socket: Envoy asks ``<METHOD> /check<path>``, 200 lets the request pass.

The low-level aiohttp server: no router, no middleware, no access log. ``GET /health`` on the same socket is for Envoy's
health checks; a client cannot reach it, because all that clients ask for starts with ``/check``.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from ext_authz.authorizer import Answer, Authorizer, refusal
from ext_authz.decision import BAD_TARGET
from ext_authz.request_target import read_target

#: Above anything that Envoy passes on: a limit hit here would be aiohttp's own answer, which quotes the header.
MAX_HEADER_BYTES: Final = 128 * 1024
MAX_HEADERS: Final = 1024
HEALTH_PATH: Final = "/health"
_BACKLOG: Final = 1024
_IN_FLIGHT_S: Final = 5.0
_NO_HEADERS: Final[CIMultiDictProxy[str]] = CIMultiDictProxy(CIMultiDict())


class SocketInUseError(RuntimeError):
    """Another process serves the socket."""


class _Protocol(web.RequestHandler):
    """aiohttp's connection, but what is not HTTP is refused in our words, and never quoted."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what could not be parsed (aiohttp would put the offending bytes into answer and log)."""
        del request, status, exc, message
        response = _response(refusal(BAD_TARGET, None, _NO_HEADERS))
        response.force_close()
        return response


class CheckServer(web.Server):
    """The aiohttp server around an :class:`ext_authz.authorizer.Authorizer`."""

    def __init__(self, authorizer: Authorizer) -> None:
        super().__init__(self._handle)
        self._authorizer = authorizer

    def __call__(self) -> web.RequestHandler:
        """A connection."""
        return _Protocol(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type] # aiohttp's way to say "none"
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = read_target(request.method, request.raw_path)
        if target is not None:
            return _response(self._authorizer.answer(target, request.headers))
        if request.raw_path == HEALTH_PATH:
            missing = self._authorizer.missing
            return web.Response(status=200 if missing is None else 503, text=f"{missing or 'ready'}\n")
        return _response(refusal(BAD_TARGET, None, request.headers))


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listening Unix socket of mode 0600; what a dead process left there is replaced.

    Raises:
        SocketInUseError: another process serves it. A lock says so, not an answer: a frozen process is alive too.
    """
    with path.with_name(f"{path.name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SocketInUseError(f"another process serves {path}") from None
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(os.fspath(path))
            path.chmod(0o600)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            try:
                yield listener
            finally:
                path.unlink(missing_ok=True)


async def start(server: CheckServer, listener: socket.socket) -> web.ServerRunner:
    """Serve; ``await runner.cleanup()`` stops accepting, finishes what is in flight, and ends."""
    runner = web.ServerRunner(server, shutdown_timeout=_IN_FLIGHT_S)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=_BACKLOG).start()
    return runner


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
