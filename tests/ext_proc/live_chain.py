"""One real Envoy with a static chain: identity as metadata, ext_proc, the buffer that holds the headers, the gate."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
EXTENSION = "type.googleapis.com/envoy.extensions.filters.http"
MUTATION_RULES = {"disallow_all": True, "allow_expression": {"regex": "content-type|content-length|retry-after|allow"}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def envoy_binary() -> str | None:
    beside = Path(sys.executable).with_name("envoy")
    return str(beside) if beside.exists() else shutil.which("envoy")


def config(
    folder: Path, port: int, upstream_port: int, routes: dict[str, bool], mutation_rules: dict[str, Any]
) -> dict[str, Any]:
    """`routes`: model names; True where the answer goes through ext_proc."""
    mode = {"request_header_mode": "SKIP", "response_header_mode": "SKIP", "request_body_mode": "BUFFERED"}
    answer = {**mode, "response_header_mode": "SEND", "response_body_mode": "BUFFERED"}
    identity = {"x-isg-tenant": "acme", "x-isg-key-id": "k1", "x-isg-models": "*"}
    filters: list[tuple[str, str, dict[str, Any]]] = [
        ("identity", "set_metadata.v3.Config", {"metadata": [
            {"metadata_namespace": "envoy.filters.http.ext_authz", "value": identity}]}),
        ("payload", "ext_proc.v3.ExternalProcessor", {
            "grpc_service": {"envoy_grpc": {"cluster_name": "ext_proc"}},
            "processing_mode": {**mode, "response_body_mode": "NONE"},
            "message_timeout": "5s",
            "status_on_error": {"code": "ServiceUnavailable"},
            "route_cache_action": "RETAIN",
            "mutation_rules": mutation_rules,
            "request_attributes": ["request.path", "xds.route_name", "request.id", "request.headers['traceparent']"],
            "response_attributes": ["response.code_details"],
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["isg", "envoy.filters.http.ext_authz"]},
                "receiving_namespaces": {"untyped": ["isg"]},
            },
        }),
        ("hold", "buffer.v3.Buffer", {"max_request_bytes": 4194304}),
        ("gate", "rbac.v3.RBAC", {"rules": {"action": "DENY", "policies": {"not_validated": {
            "permissions": [{"not_rule": {"sourced_metadata": {"metadata_matcher": {
                "filter": "isg", "path": [{"key": "validated"}], "value": {"string_match": {"exact": "yes"}}}}}}],
            "principals": [{"any": True}]}}}}),
        ("router", "router.v3.Router", {}),
    ]  # fmt: skip
    http = {
        "@type": f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "http_filters": [
            {"name": name, "typed_config": {"@type": f"{EXTENSION}.{kind}", **settings}}
            for name, kind, settings in filters
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            *(_route(name, answer if rewritten else None) for name, rewritten in routes.items()),
            {"name": "entry/predict", "match": {"prefix": "/"}, "route": {"cluster": "upstream"}},
        ]}]},
    }  # fmt: skip
    h2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}}  # fmt: skip
    return {
        "admin": {"address": {"pipe": {"path": str(folder / "admin.sock")}}},
        "static_resources": {
            "listeners": [{
                "name": "public",
                "address": _tcp(port),
                "per_connection_buffer_limit_bytes": 32768,
                "filter_chains": [{"filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}],
            }],
            "clusters": [
                {"name": "upstream", "type": "STATIC", "load_assignment": _endpoint("upstream", _tcp(upstream_port))},
                {"name": "ext_proc", "type": "STATIC", "typed_extension_protocol_options": h2,
                 "load_assignment": _endpoint("ext_proc", {"pipe": {"path": str(folder / "ext_proc.sock")}})},
            ],
        },
    }  # fmt: skip


def _tcp(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _endpoint(name: str, address: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def _route(name: str, mode: dict[str, str] | None) -> dict[str, Any]:
    route: dict[str, Any] = {
        "name": f"model/{name}/1",
        "match": {"path": f"/v1/models/{name}:predict"},
        "route": {"cluster": "upstream", "prefix_rewrite": f"/v2/models/{name}/infer"},
        "request_body_buffer_limit": 4194304,
    }
    if mode is not None:
        override = {"@type": f"{EXTENSION}.ext_proc.v3.ExtProcPerRoute", "overrides": {"processing_mode": mode}}
        route["typed_per_filter_config"] = {"payload": override}
    return route


def launch(folder: Path, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    binary = envoy_binary()
    assert binary is not None
    file = folder / "envoy.json"
    file.write_text(json.dumps(settings))
    command = [binary, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with (folder / "envoy.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


async def serve_upstream(port: int, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.AppRunner:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner
