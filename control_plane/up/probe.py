"""Questions to the parts of a running gateway, over HTTP. None is the good answer; else what is missing, in words."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any, Final

import aiohttp

from control_plane.translate.clusters import backend_cluster_name
from gateway.names import PATH_HEALTH, PATH_PREDICT

TIMEOUT_S: Final = 2.0
_BACKENDS: Final = backend_cluster_name("")
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)


class HttpError(Exception):
    """No usable answer; the text says why."""


async def get(url: str, *, socket_path: Path | None = None, method: str = "GET") -> tuple[int, bytes]:
    """Status and body.

    Args:
        socket_path: a Unix socket to ask through; the host in the URL then means nothing.

    Raises:
        HttpError: there was no answer.
    """
    connector = aiohttp.TCPConnector() if socket_path is None else aiohttp.UnixConnector(str(socket_path))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.request(method, url) as answer,
        ):
            return answer.status, await answer.read()
    except _FAILURES as error:
        raise HttpError(str(error) or type(error).__name__) from error


async def answers_200(url: str, *, socket_path: Path | None = None) -> str | None:
    """Whether a GET is answered with 200."""
    path = "/" + url.split("/", 3)[3]
    try:
        status, body = await get(url, socket_path=socket_path)
    except HttpError:
        return f"no answer on {path}"
    if status == 200:
        return None
    words = body[:200].decode("utf-8", "replace").strip()
    return f"{path} says {status}: {words}" if words else f"{path} says {status}"


async def accepts(host: str, port: int) -> str | None:
    """Whether a port is open."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), TIMEOUT_S)
    except (OSError, TimeoutError):
        return f"port {port} is not open"
    writer.close()
    return None


async def envoy_has_backends(admin: Path) -> str | None:
    """Whether Envoy sees a healthy endpoint in every backend that has endpoints."""
    try:
        status, body = await get("http://envoy/clusters?format=json", socket_path=admin)
        clusters = json.loads(body) if status == 200 else None
    except (HttpError, ValueError):
        clusters = None
    if clusters is None:
        return "no answer on its admin socket"
    sick = unhealthy_backends(clusters)
    return f"no healthy endpoint yet in {', '.join(sick)}" if sick else None


def unhealthy_backends(clusters: dict[str, Any]) -> list[str]:
    """Backends in Envoy's ``/clusters?format=json`` (admin.v3.Clusters) that have hosts, and none of them healthy."""
    return sorted(
        cluster["name"].removeprefix(_BACKENDS)
        for cluster in clusters.get("cluster_statuses", ())
        if cluster["name"].startswith(_BACKENDS)
        and (hosts := cluster.get("host_statuses"))
        and not any(_is_healthy(host.get("health_status", {})) for host in hosts)
    )


def _is_healthy(status: dict[str, Any]) -> bool:
    return status.get("eds_health_status", "HEALTHY") == "HEALTHY" and not any(
        failed is True for failed in status.values()
    )


async def front_door(url: str) -> str | None:
    """Whether the listener serves, and asks for a credential."""
    try:
        healthy, _ = await get(url + PATH_HEALTH)
        if healthy != 200:
            return f"{PATH_HEALTH} says {healthy}"
        refused, _ = await get(url + PATH_PREDICT, method="POST")
    except HttpError as error:
        return f"no answer on {url}: {error}"
    return None if refused == 401 else f"{PATH_PREDICT} without a credential says {refused} and not 401"


def url_of(host: str, port: int) -> str:
    """The address that a client on this machine uses.

    >>> url_of("0.0.0.0", 8080), url_of("::", 80)
    ('http://127.0.0.1:8080', 'http://[::1]:80')
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return f"http://{host}:{port}"
    return f"http://[{host}]:{port}"
