"""Static Envoys: one that answers at once (the instant model server), and a bare one in front of it."""

from __future__ import annotations

import json
from typing import Any

ANSWER = {
    "model_name": "m",
    "model_version": "1",
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [0.1, 0.7, 0.2]}],
}
_TYPES = "type.googleapis.com/envoy.extensions"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
}


def instant(port: int) -> str:
    """Bootstrap of a server that gives every request the same Open Inference answer."""
    body = {"status": 200, "body": {"inline_string": json.dumps(ANSWER)}}
    kind = {
        "header": {"key": "content-type", "value": "application/json"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    route = {"match": {"prefix": "/"}, "direct_response": body, "response_headers_to_add": [kind]}
    return _bootstrap("instant", port, route, [])


def bare(port: int, backend_port: int) -> str:
    """Bootstrap of an Envoy that only forwards."""
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(backend_port)}}]}],
        },
    }
    return _bootstrap("bare", port, {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}, [cluster])


def _bootstrap(name: str, port: int, route: dict[str, Any], clusters: list[dict[str, Any]]) -> str:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [_ROUTER],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": name, "address": _address(port), "enable_reuse_port": False, "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
