"""Logs, metrics and readiness, the same for every service.

Logs are JSON lines on standard error, with the process, and the request id and trace id where a request is the
subject. Metrics and readiness are served on a Unix socket of the service's own, which Envoy has no route to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

Readiness = Callable[[], str | None]


def configure_logging(process: str, *, level: int = logging.INFO) -> None:
    """Send structlog's and the standard library's records to standard error as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]

    def name_process(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    structlog.configure(
        processors=[*shared, name_process, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                name_process,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def trace_id(traceparent: str | None) -> str | None:
    """The trace id of a W3C ``traceparent`` header (Trace Context, section 3.2), or None if it is malformed.

    >>> trace_id("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    '4bf92f3577b34da6a3ce929d0e0e4736'
    """
    parts = (traceparent or "").split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or not set(parts[1]) <= set("0123456789abcdef"):
        return None
    return None if parts[1] == "0" * 32 else parts[1]


async def serve_admin(
    socket: Path,
    ready: Readiness,
    registry: CollectorRegistry = REGISTRY,
    *,
    documents: Mapping[str, Callable[[], Awaitable[object]]] | None = None,
) -> web.AppRunner:
    """Serve ``/metrics`` and ``/ready`` on a Unix socket.

    Args:
        socket: where to listen; a stale file is replaced.
        ready: None when the service can answer requests, else what it waits for.
        documents: further paths, answered with what the function gives, as JSON.

    Returns:
        The runner; ``await runner.cleanup()`` ends it.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def readiness(_: web.Request) -> web.Response:
        missing = ready()
        return web.Response(status=200 if missing is None else 503, text=f"{missing or 'ready'}\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/ready", readiness)
    for path, make in (documents or {}).items():

        async def answer(_: web.Request, make: Callable[[], Awaitable[object]] = make) -> web.Response:
            return web.json_response(await make())

        app.router.add_get(path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    socket.unlink(missing_ok=True)
    await web.UnixSite(runner, str(socket)).start()
    return runner
