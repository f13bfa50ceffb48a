"""``isg status``: what runs, which version of what it has, what it refused and in which words, and how busy it is.

The control plane answers ``/status`` on its own socket with one document; the command prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from control_plane.translate.clusters import backend_cluster_name
from control_plane.xds.nodes import NodeView

#: What ``/status`` says, and ``isg status --json`` prints. Members may be added, never renamed.
Document = dict[str, Any]


class NoStatusError(Exception):
    """What the control plane answered is no status."""


_HEALTHY: Final = "healthy"


def document(
    *,
    problem: str | None,
    path: str,
    models: Iterable[str],
    backends: Iterable[str],
    nodes: Iterable[NodeView],
    clusters: Mapping[str, Any] | None,
) -> Document:
    """The state of a gateway.

    Args:
        problem: why the files as they are now are not live, None if they are.
        path: the configuration file.
        models, backends: names that are live.
        nodes: who is connected to the ADS server.
        clusters: Envoy's ``/clusters?format=json``, None where this machine's Envoy does not answer.
    """
    found = [_node(node) for node in nodes]
    pools = _hosts(clusters)
    return {
        "ok": problem is None and not any(node["state"] == "refused" for node in found),
        "configuration": {"path": path, "live": problem is None, "problem": problem, "models": sorted(models)},
        "nodes": found,
        "backends": [
            {"name": name, "endpoints": pools.get(backend_cluster_name(name), [])} for name in sorted(backends)
        ],
        "envoy_answers": clusters is not None,
    }


def _node(node: NodeView) -> Document:
    types = {
        type_url.rsplit(".", 1)[-1]: {
            "sent": view.sent_version,
            "acknowledged": view.acked_version,
            "pending": view.pending,
            "refusal": None if view.nack is None else {"text": view.nack.text, "at": view.nack.at},
        }
        for type_url, view in sorted(node.types.items())
    }
    refused = any(one["refusal"] is not None for one in types.values())
    pending = any(one["pending"] for one in types.values())
    state = "refused" if refused else "pending" if pending else "acknowledged"
    return {
        "id": node.id,
        "group": node.group,
        "connected_since": node.connected_since,
        "state": state,
        "types": types,
    }


def _hosts(clusters: Mapping[str, Any] | None) -> dict[str, list[Document]]:
    """Endpoints by cluster, as Envoy sees them."""
    found: dict[str, list[Document]] = {}
    for cluster in (clusters or {}).get("cluster_statuses", ()):
        found[cluster["name"]] = [_host(host) for host in cluster.get("host_statuses", ())]
    return found


def _host(host: Mapping[str, Any]) -> Document:
    address = host["address"].get("socket_address", {})
    stats = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats", ())}
    health = host.get("health_status", {})
    reasons = [name for name in ("failed_active_health_check", "failed_outlier_check") if health.get(name)]
    return {
        "address": f"{address.get('address', '?')}:{address.get('port_value', '?')}",
        "health": ", ".join(reasons) or _HEALTHY,
        "in_flight": stats.get("rq_active", 0),
        "requests": stats.get("rq_total", 0),
        "failed": stats.get("rq_error", 0),
    }


def rendered(status: Document) -> str:
    """The document for people."""
    return "\n".join(_lines(status)) + "\n"


def _lines(status: Document) -> Iterator[str]:
    configuration = status["configuration"]
    yield f"configuration  {configuration['path']}: " + ("live" if configuration["live"] else "NOT live")
    if configuration["problem"]:
        yield from (f"               {line}" for line in configuration["problem"].splitlines())
    yield f"models         {', '.join(configuration['models']) or 'none'}"
    yield ""
    rows: list[tuple[str, ...]] = [("NODE", "STATE", "VERSIONS")]
    for node in status["nodes"]:
        versions = ", ".join(f"{name} {one['acknowledged'] or '-'}" for name, one in node["types"].items())
        rows.append((node["id"], node["state"], versions))
        rows += [
            ("", "", f"{name} refused: {one['refusal']['text']}")
            for name, one in node["types"].items()
            if one["refusal"] is not None
        ]
    yield from _table(rows)
    yield ""
    rows = [("BACKEND", "ENDPOINT", "HEALTH", "IN FLIGHT", "REQUESTS", "FAILED")]
    for backend in status["backends"]:
        for number, endpoint in enumerate(backend["endpoints"]):
            counts = (str(endpoint[name]) for name in ("in_flight", "requests", "failed"))
            rows.append((backend["name"] if not number else "", endpoint["address"], endpoint["health"], *counts))
        if not backend["endpoints"]:
            rows.append((backend["name"], "none", "", "", "", ""))
    yield from _table(rows)
    if not status["envoy_answers"]:
        yield "Envoy does not answer on this machine: no endpoints are shown"


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def decoded(body: bytes) -> Document:
    """The document from the control plane's answer.

    Raises:
        NoStatusError: it is none.
    """
    try:
        return msgspec.json.decode(body, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NoStatusError(str(error)) from error
