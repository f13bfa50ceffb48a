"""Model routes: where the requests of one model go, and under whose policy.

They match on metadata that only ext_authz and json_to_metadata write, so none of them can be a request's first route.
Their name is the name of the policy that ext_proc enforces on them.
"""

from __future__ import annotations

from typing import Final

from control_plane.config.model import Backend, Config, Mirror, Target
from control_plane.translate.clusters import backend_cluster_name
from control_plane.translate.filter_chain import HOLD, PAYLOAD, limit
from control_plane.translate.payload import answer_rewritten
from control_plane.translate.wire import exact, extension, full_match, metadata_string, seconds, true, uint32
from gateway import envoy_api as api
from gateway.names import HEADER_TENANT, META_MODEL, NS_AUTHZ, NS_ISG, PATH_PREDICT
from gateway.policy import ModelPolicy, resource_name

_RETRY_ON: Final = "connect-failure,refused-stream,reset,gateway-error"


def by_body(name: str, config: Config, policy: ModelPolicy, buffer_bytes: int) -> api.route_v3.Route:
    """``POST /v1/predict`` whose body names this model."""
    match = api.route_v3.RouteMatch(
        path=PATH_PREDICT, dynamic_metadata=[metadata_string(NS_ISG, META_MODEL, exact(name))]
    )
    return _route(match, config, policy, buffer_bytes)


def by_path(name: str, config: Config, policy: ModelPolicy, buffer_bytes: int) -> api.route_v3.Route:
    """``POST /v1/models/{model}:predict``: ext_authz has checked the model; its identity selects this route."""
    match = api.route_v3.RouteMatch(
        path=f"/v1/models/{name}:predict", dynamic_metadata=[metadata_string(NS_AUTHZ, HEADER_TENANT, full_match(".+"))]
    )
    return _route(match, config, policy, buffer_bytes)


def _route(
    match: api.route_v3.RouteMatch, config: Config, policy: ModelPolicy, buffer_bytes: int
) -> api.route_v3.Route:
    model = config.models[policy.model]
    backend = config.backends[model.targets[0].backend]
    action = api.route_v3.RouteAction(
        timeout=seconds(model.timeout_s),
        retry_policy=_retry_policy(model.retries),
        # A format string to Envoy: a bare percent sign would be refused, or read as a command.
        path_rewrite=upstream_path(backend).replace("%", "%%"),
        # A client's own host could choose another site where a model server stands behind a shared front.
        auto_host_rewrite=true(),
    )
    _aim(action, model.targets)
    if model.mirror is not None:
        action.request_mirror_policies.append(_mirror(model.mirror, config.backends[model.mirror.backend]))
    route = api.route_v3.Route(
        name=resource_name(policy),
        match=match,
        route=action,
        # Read from this route, not from the entry, by the time that the body leaves ext_proc and the answer comes.
        request_body_buffer_limit=api.protobuf.UInt64Value(value=buffer_bytes),
        typed_per_filter_config={HOLD: limit(buffer_bytes)},
    )
    if policy.rewrites_answer:
        route.typed_per_filter_config[PAYLOAD].CopyFrom(answer_rewritten())
    return route


def upstream_path(backend: Backend) -> str:
    """Where a model server takes a translated request."""
    if backend.path is not None:
        return backend.path
    return f"/v2/models/{backend.model}/infer"


def _aim(action: api.route_v3.RouteAction, targets: tuple[Target, ...]) -> None:
    if len(targets) == 1:
        action.cluster = backend_cluster_name(targets[0].backend)
        return
    for target in targets:
        action.weighted_clusters.clusters.add(name=backend_cluster_name(target.backend), weight=uint32(target.weight))


def _mirror(mirror: Mirror, backend: Backend) -> api.route_v3.RouteAction.RequestMirrorPolicy:
    share = api.type_v3.FractionalPercent(numerator=round(mirror.percent * 10_000), denominator="MILLION")
    return api.route_v3.RouteAction.RequestMirrorPolicy(
        cluster=backend_cluster_name(mirror.backend),
        # A mirror takes no host from its endpoints by itself; one of a `run:` backend is as good as another.
        host_rewrite_literal=str(backend.endpoints[0].address) if backend.endpoints else mirror.backend,
        runtime_fraction=api.core_v3.RuntimeFractionalPercent(default_value=share),
    )


def _retry_policy(retries: int) -> api.route_v3.RetryPolicy:
    return api.route_v3.RetryPolicy(
        # `reset` repeats a POST that may have started: right for inference, which changes nothing. A 500 is the model's
        # own word on this input: repeated, it would be said again.
        retry_on=_RETRY_ON,
        num_retries=uint32(retries),
        retry_host_predicate=[
            api.route_v3.RetryPolicy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=extension("", api.previous_hosts_v3.PreviousHostsPredicate()).typed_config,
            )
        ],
        host_selection_retry_max_attempts=5,
    )
