"""The walk: arrival, first route, every filter of the listener in its order, the route again, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from control_plane.explain.access import rbac
from control_plane.explain.arrival import arrive
from control_plane.explain.body_model import json_to_metadata
from control_plane.explain.exchange import Exchange, LocalReply, Reply, Step
from control_plane.explain.replies import direct, local
from control_plane.explain.routes import described, select
from control_plane.explain.services import Services, ext_authz, ext_proc
from control_plane.explain.unknown import CannotExplainError, only
from control_plane.explain.upstream import Destination, destination
from control_plane.preflight.lint import connection_managers
from control_plane.translate.snapshot import Translation
from gateway import envoy_api as api
from gateway.policy import resource_name
from gateway.policy_client import PolicySet

_Outcome = Reply | LocalReply | Destination | None

#: Envoy's names of statuses that a route gives to a cluster that is not there.
_NOT_FOUND: Final = {
    api.route_v3.RouteAction.SERVICE_UNAVAILABLE: 503,
    api.route_v3.RouteAction.NOT_FOUND: 404,
    api.route_v3.RouteAction.INTERNAL_SERVER_ERROR: 500,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Every step, and what comes of it."""

    steps: tuple[Step, ...]
    outcome: Reply | Destination


def explain(exchange: Exchange, translation: Translation, services: Services) -> Explanation:
    """Follow a request through everything that Envoy and the services do with it.

    Raises:
        CannotExplainError: something that decides over it is not known here.
    """
    manager, *others = (manager for listener in translation.listeners for manager in connection_managers(listener))
    if any(other != manager for other in others):
        raise CannotExplainError("the listeners treat requests differently, which isg explain does not know")
    walk = _Walk(translation, manager, services)
    outcome = arrive(exchange, manager) or walk.through(exchange)
    if isinstance(outcome, LocalReply):
        outcome = local(outcome, manager, exchange.route)
    return Explanation(steps=tuple(exchange.steps), outcome=outcome)


class _Walk:
    """The listener's filters, with what they need."""

    def __init__(self, translation: Translation, manager: api.hcm_v3.HttpConnectionManager, services: Services) -> None:
        self._translation, self._manager, self._services = translation, manager, services
        name = manager.rds.route_config_name
        self._routes = next(routes for routes in translation.routes if routes.name == name)
        self._policies = PolicySet(
            gateway=translation.gateway,
            models={resource_name(policy): policy for policy in translation.models.values()},
        )

    def through(self, exchange: Exchange) -> Reply | LocalReply | Destination:
        """Route, filters, and the router at their end."""
        exchange.first = exchange.route = self._route(exchange)
        if exchange.route is None:
            exchange.say("first route", "none matches")
            return LocalReply(status=404, details="route_not_found")
        exchange.say("first route", exchange.route.name, described(exchange.route.match))
        if exchange.wants_upgrade:
            if self._manager.upgrade_configs or exchange.route.route.upgrade_configs:
                raise CannotExplainError("the listener upgrades connections, which isg explain does not know")
            exchange.say("upgrade", "refused", "this gateway leaves HTTP for nothing, and is no tunnel")
            return LocalReply(status=403, details="upgrade_failed")
        for http_filter in self._manager.http_filters:
            only(http_filter, {"name", "typed_config"}, f"filter {http_filter.name}")
            outcome = self._filter(http_filter, exchange)
            if outcome is not None:
                return outcome
        raise CannotExplainError("the listener's filters do not end with a router")

    def _route(self, exchange: Exchange) -> api.route_v3.Route | None:
        return select(self._routes, exchange.headers, exchange.metadata)

    def _filter(self, http_filter: api.hcm_v3.HttpFilter, exchange: Exchange) -> _Outcome:
        name, config = http_filter.name, http_filter.typed_config
        # The first route alone decides which filters run; each of those is configured by the route as it is by then.
        own = _own(exchange.first, name)
        if own is not None and _is_off(own):
            return None
        per_route = _own(exchange.route, name)
        if per_route is not None and _is_off(per_route):
            per_route = None
        kind = config.type_url.rpartition(".")[2]
        if kind == "Buffer":
            return _size(name, api.buffer_v3.Buffer.FromString(config.value), per_route, exchange)
        if kind == "JsonToMetadata":
            self._model(name, per_route or config, exchange)
            return None
        if kind == "ExternalProcessor":
            _check_overrides(name, per_route)
            processor = api.ext_proc_filter_v3.ExternalProcessor.FromString(config.value)
            return ext_proc(name, processor, exchange, self._services.judge, self._policies)
        if per_route is not None:
            raise CannotExplainError(f"a route configures filter {name} in a way that isg explain does not know")
        return self._plain_filter(kind, name, config.value, exchange)

    def _plain_filter(self, kind: str, name: str, config: bytes, exchange: Exchange) -> _Outcome:
        """A filter that no route configures."""
        if kind == "ExtAuthz":
            check = api.ext_authz_v3.ExtAuthz.FromString(config)
            return ext_authz(name, check, exchange, self._services.authorize, self._translation.gateway)
        if kind == "RBAC":
            return rbac(name, api.rbac_v3.RBAC.FromString(config), exchange)
        if kind == "HeaderMutation":
            return None  # the last change before a model server: nothing after it decides by headers
        if kind == "Router":
            return self._routed(exchange)
        raise CannotExplainError(f"filter {name} is a {kind}, which isg explain does not know")

    def _model(self, name: str, config: api.protobuf.Any, exchange: Exchange) -> None:
        if not json_to_metadata(name, _parsed(config), exchange):
            return
        exchange.route = found = self._route(exchange)
        if found is None:
            exchange.say("route again", "none matches")
        else:
            exchange.say("route again", found.name, described(found.match))

    def _routed(self, exchange: Exchange) -> Reply | LocalReply | Destination:
        route = exchange.route
        if route is None:
            return LocalReply(status=404, details="route_not_found")
        if route.WhichOneof("action") == "direct_response":
            return direct(route.direct_response)
        if route.WhichOneof("action") != "route":
            raise CannotExplainError(f"route {route.name} does what isg explain does not know")
        clusters = {cluster.name for cluster in self._translation.clusters}
        if route.route.cluster and route.route.cluster not in clusters:
            status = _NOT_FOUND[route.route.cluster_not_found_response_code]
            return LocalReply(status=status, details="cluster_not_found")
        return destination(route, self._translation)


def _own(route: api.route_v3.Route | None, name: str) -> api.protobuf.Any | None:
    """A route's configuration of a filter."""
    if route is None or name not in route.typed_per_filter_config:
        return None
    return route.typed_per_filter_config[name]


def _is_off(config: api.protobuf.Any) -> bool:
    if not config.type_url.endswith(".FilterConfig"):
        return False
    found = api.route_v3.FilterConfig.FromString(config.value)
    only(found, {"disabled"}, "a route's configuration of a filter")
    return found.disabled


def _parsed(config: api.protobuf.Any) -> api.json_to_metadata_v3.JsonToMetadata:
    if not config.type_url.endswith(".JsonToMetadata"):
        raise CannotExplainError(f"json_to_metadata is configured by {config.type_url}")
    return api.json_to_metadata_v3.JsonToMetadata.FromString(config.value)


def _check_overrides(name: str, config: api.protobuf.Any | None) -> None:
    """A route may change what ext_proc sees of the answer, and nothing of the request."""
    if config is None:
        return
    route = api.ext_proc_filter_v3.ExtProcPerRoute.FromString(config.value)
    only(route, {"overrides"}, f"a route's configuration of filter {name}")
    only(route.overrides, {"processing_mode"}, f"a route's configuration of filter {name}")
    mode = route.overrides.processing_mode
    modes = api.ext_proc_filter_v3.ProcessingMode
    if mode.request_header_mode != modes.SKIP or mode.request_body_mode != modes.BUFFERED:
        raise CannotExplainError(f"a route changes the phases of filter {name}, which isg explain does not know")


def _size(
    name: str, config: api.buffer_v3.Buffer, per_route: api.protobuf.Any | None, exchange: Exchange
) -> LocalReply | None:
    if per_route is not None:
        route = api.buffer_v3.BufferPerRoute.FromString(per_route.value)
        only(route, {"buffer"}, f"a route's configuration of filter {name}")
        config = route.buffer
    limit = config.max_request_bytes.value
    if len(exchange.body) > limit:
        exchange.say(name, "refused", f"{len(exchange.body)} bytes are more than {limit}")
        return LocalReply(status=413, details="request_payload_too_large")
    exchange.say(name, "passed", f"{len(exchange.body)} bytes are at most {limit}")
    return None
