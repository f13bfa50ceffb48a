"""The authorization-only variant: the gateway's own chain with the three rows that judge a payload switched off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from control_plane.config.loader import load
from control_plane.preflight.static import static_bootstrap
from control_plane.translate.filter_chain import GATE, HOLD, PAYLOAD, off
from control_plane.translate.snapshot import translate
from gateway import envoy_api as api
from gateway.names import ROUTE_ENTRY
from gateway.state import StateDir


def authorization_only(config: Path, state: StateDir, port: int) -> str:
    """Bootstrap of a static Envoy that authorizes and routes by the body's model, and asks ext_proc nothing."""
    loaded = load(config)
    address = loaded.listen[0].model_copy(update={"port": port})
    translation = translate(loaded.model_copy(update={"listen": (address,)}), state, {})
    return static_bootstrap(replace(translation, routes=tuple(map(_without_payload, translation.routes))))


def _without_payload(routes: api.route_v3.RouteConfiguration) -> api.route_v3.RouteConfiguration:
    result = api.route_v3.RouteConfiguration()
    result.CopyFrom(routes)
    for route in result.virtual_hosts[0].routes:
        if route.name == f"{ROUTE_ENTRY}predict":
            for name, disabled in off(PAYLOAD, HOLD, GATE).items():
                route.typed_per_filter_config[name].CopyFrom(disabled)
    return result
