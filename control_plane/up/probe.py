"""Questions to the parts of a running gateway, over HTTP. None is the good answer; else what is missing, in words."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.names import PATH_HEALTH, PATH_PREDICT

TIMEOUT_S: Final = 2.0
_JSON: Final = {"content-type": "application/json"}
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)


class HttpError(Exception):
    """No usable answer; the text says why."""


class NobodyThereError(HttpError):
    """Nobody listens at the address."""


async def get(
    url: str,
    *,
    socket_path: Path | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """Status and body.

    Args:
        socket_path: a Unix socket to ask through; the host in the URL then means nothing.

    Raises:
        NobodyThereError: nobody listens there.
        HttpError: there was no answer.
    """
    connector = aiohttp.TCPConnector() if socket_path is None else aiohttp.UnixConnector(str(socket_path))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.request(method, url, headers=headers, data=body) as answer,
        ):
            return answer.status, await answer.read()
    except aiohttp.ClientConnectorError as error:
        raise NobodyThereError(str(error)) from error
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


async def envoy_has_endpoints(admin: Path) -> str | None:
    """Whether Envoy sees a healthy endpoint wherever it has endpoints: backends, and our own services."""
    try:
        status, body = await get("http://envoy/clusters?format=json", socket_path=admin)
        clusters = json.loads(body) if status == 200 else None
    except (HttpError, ValueError):
        clusters = None
    if clusters is None:
        return "no answer on its admin socket"
    sick = unhealthy_clusters(clusters)
    return f"no healthy endpoint yet in {', '.join(sick)}" if sick else None


def unhealthy_clusters(clusters: dict[str, Any]) -> list[str]:
    """Clusters in Envoy's ``/clusters?format=json`` (admin.v3.Clusters) that have hosts, and none of them healthy."""
    return sorted(
        cluster["name"]
        for cluster in clusters.get("cluster_statuses", ())
        if (hosts := cluster.get("host_statuses"))
        and not any(_is_healthy(host.get("health_status", {})) for host in hosts)
    )


def _is_healthy(status: dict[str, Any]) -> bool:
    return status.get("eds_health_status", "HEALTHY") == "HEALTHY" and not any(
        failed is True for failed in status.values()
    )


async def front_door(url: str) -> str | None:
    """Whether the listener serves, asks for a credential, and has a wrong one judged."""
    try:
        healthy, _ = await get(url + PATH_HEALTH)
        if healthy != 200:
            return f"{PATH_HEALTH} says {healthy}"
        for credential in ({}, {"authorization": "Bearer is-it-judged"}):
            refused, _ = await get(url + PATH_PREDICT, method="POST", headers={**_JSON, **credential}, body=b"{}")
            if refused != 401:
                return f"{PATH_PREDICT} without a valid credential says {refused} and not 401"
    except HttpError as error:
        return f"no answer on {url}: {error}"
    return None


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
