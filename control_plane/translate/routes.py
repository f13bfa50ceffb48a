"""The route table of the public listener."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from control_plane.config.model import Config, Model
from control_plane.translate.entry_routes import Entry, Limits, entry_routes, first_routes, last_route, path, path_regex
from control_plane.translate.filter_chain import MODEL_ACCESS, MODEL_NAME, off
from control_plane.translate.model_name import model_name, model_of_path
from control_plane.translate.model_routes import by_body, by_path
from control_plane.translate.wire import any_of
from gateway import envoy_api as api
from gateway.names import MODEL_CHARACTERS, PATH_PREDICT
from gateway.policy import ModelPolicy

ROUTES_PUBLIC: Final = "public"

#: A translated body can be larger than what the client sent: member names are added and numbers written out.
_TRANSLATION_GROWTH: Final = 4
_TRANSLATION_EXTRA: Final = 64 * 1024


def route_configuration(config: Config, policies: Mapping[str, ModelPolicy]) -> api.route_v3.RouteConfiguration:
    """Entry routes and model routes, first match wins."""
    routes = first_routes()
    for entry in _entries(config, policies):
        routes += entry_routes(entry)
    routes.append(last_route())
    return api.route_v3.RouteConfiguration(
        name=ROUTES_PUBLIC,
        # The entry routes' cluster does not exist on purpose.
        validate_clusters=api.protobuf.BoolValue(value=False),
        virtual_hosts=[api.route_v3.VirtualHost(name="all", domains=["*"], routes=routes)],
    )


def _entries(config: Config, policies: Mapping[str, ModelPolicy]) -> Iterable[Entry]:
    models = sorted(config.models)
    limits = _limits(config.models.values())
    yield Entry(
        name="predict",
        match=path(PATH_PREDICT),
        limits=limits,
        filters={MODEL_NAME: any_of(model_name(config.default_model))},
        models=[by_body(name, config, policies[name], limits.buffer) for name in models],
    )
    yield Entry(
        name="model-predict",
        match=path_regex(f"/v1/models/{MODEL_CHARACTERS}:predict"),
        limits=limits,
        # ext_authz has checked the path's model against the key; ext_proc checks both again.
        filters={MODEL_NAME: any_of(model_of_path()), **off(MODEL_ACCESS)},
        models=[by_path(name, config, policies[name], limits.buffer) for name in models],
    )


def _limits(models: Iterable[Model]) -> Limits:
    max_body = max((model.max_body_bytes for model in models), default=1)
    max_response = max((model.max_response_bytes for model in models), default=1)
    return Limits(max_body=max_body, buffer=max(max_body * _TRANSLATION_GROWTH + _TRANSLATION_EXTRA, max_response))
