"""The one ordered table of HTTP filters, with the reason for each place.

Entry routes decide which of them run (Envoy fixes that at the first match of a route, before the body is read); every
filter is on by default, so a route that forgets to say anything is authorized and judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from control_plane.translate.authorization import authorization
from control_plane.translate.header_rules import upstream_headers
from control_plane.translate.model_access import gate, model_access
from control_plane.translate.model_name import model_name
from control_plane.translate.payload import payload
from control_plane.translate.wire import any_of, uint32
from gateway import envoy_api as api
from gateway.names import META_VALIDATED, NS_ISG, VALIDATED_YES

SIZE: Final = "size"
AUTHORIZATION: Final = "authorization"
MODEL_NAME: Final = "model_name"
MODEL_ACCESS: Final = "model_access"
PAYLOAD: Final = "payload"
HOLD: Final = "hold"
GATE: Final = "gate"
UPSTREAM_HEADERS: Final = "upstream_headers"
ROUTER: Final = "router"

#: Where no entry route says otherwise; a request that only this bounds meets a direct response.
DEFAULT_LIMIT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFilter:
    """One filter, and why it stands where it stands."""

    name: str
    build: Callable[[], Message]
    reason: str


def _buffer() -> api.buffer_v3.Buffer:
    return api.buffer_v3.Buffer(max_request_bytes=uint32(DEFAULT_LIMIT_BYTES))


FILTERS: Final = (
    HttpFilter(
        name=SIZE,
        build=_buffer,
        reason="First: bytes that arrive while ext_authz is asked slip past a route's limit, or hang. Exact per entry.",
    ),
    HttpFilter(
        name=AUTHORIZATION,
        build=authorization,
        reason="Before anything reads the body: who calls, and which models may they use.",
    ),
    HttpFilter(
        name=MODEL_NAME,
        build=model_name,
        reason="After identity, so that the route that it selects by the body's model is selected once, and last.",
    ),
    HttpFilter(
        name=MODEL_ACCESS,
        build=model_access,
        reason="As soon as both the key's models and the body's model are known; before Python sees the body.",
    ),
    HttpFilter(
        name=PAYLOAD,
        build=payload,
        reason="Only for callers who may use the model: the one message that validates and translates the body.",
    ),
    HttpFilter(
        name=HOLD,
        build=_buffer,
        reason="After ext_proc, whose header phase is skipped: keeps the headers back until the verdict.",
    ),
    HttpFilter(
        name=GATE,
        build=lambda: gate(NS_ISG, META_VALIDATED, VALIDATED_YES),
        reason="After HOLD: ext_proc fails open when its server ends a stream without an answer.",
    ),
    HttpFilter(
        name=UPSTREAM_HEADERS,
        build=upstream_headers,
        reason="Last before the router: the client's credentials reach no model server and no mirror.",
    ),
    HttpFilter(
        name=ROUTER,
        build=lambda: api.router_v3.Router(suppress_envoy_headers=True),
        reason="Terminal.",
    ),
)


def http_filters() -> list[api.hcm_v3.HttpFilter]:
    """The chain of the connection manager."""
    return [api.hcm_v3.HttpFilter(name=row.name, typed_config=any_of(row.build())) for row in FILTERS]


def off(*names: str) -> dict[str, api.protobuf.Any]:
    """Per-route configuration that switches filters off. Only literal direct responses may switch off all."""
    disabled = any_of(api.route_v3.FilterConfig(disabled=True))
    return dict.fromkeys(names, disabled)


def all_off() -> dict[str, api.protobuf.Any]:
    """Per-route configuration of a direct response: nothing runs, nothing is buffered."""
    return off(*(row.name for row in FILTERS if row.name != ROUTER))


def limit(max_bytes: int) -> api.protobuf.Any:
    """Per-route configuration of :data:`SIZE` and :data:`HOLD`."""
    return any_of(api.buffer_v3.BufferPerRoute(buffer=api.buffer_v3.Buffer(max_request_bytes=uint32(max_bytes))))
