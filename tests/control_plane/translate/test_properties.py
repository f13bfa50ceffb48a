"""What must hold of every translation."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.config.model import Address, Backend, Config, Endpoint, Mirror, Model, Target
from control_plane.translate.entry_routes import NOWHERE
from control_plane.translate.filter_chain import FILTERS, ROUTER
from control_plane.translate.local_replies import LOCAL_REPLIES, LocalReply
from control_plane.translate.model_name import model_name
from control_plane.translate.snapshot import Translation, translate
from control_plane.translate.wire import any_of
from gateway import envoy_api as api
from gateway.names import NS_ISG, ROUTE_MODEL
from gateway.policy import resource_name
from gateway.state import StateDir

STATE = StateDir(Path("/var/lib/isg"))


def endpoint(port: int) -> Endpoint:
    return Endpoint(address=Address(host="127.0.0.1", port=port))


def config(*models: str, default: str | None = None, reverse: bool = False, mirror: bool = False) -> Config:
    names = sorted(models, reverse=reverse)
    backends = ("a", "b") if not reverse else ("b", "a")
    return Config(
        listen=(Address(host="127.0.0.1", port=8080),),
        admin=Address(host="127.0.0.1", port=9900),
        default_model=default,
        models={
            name: Model(targets=(Target(backend="a"),), mirror=Mirror(backend="b") if mirror else None)
            for name in names
        },
        backends={
            name: Backend(server="kserve", model="m", endpoints=(endpoint(9001), endpoint(9002))) for name in backends
        },
    )


def routes(translation: Translation) -> list[api.route_v3.Route]:
    return [route for host in translation.routes[0].virtual_hosts for route in host.routes]


def reaches_a_backend(route: api.route_v3.Route) -> bool:
    return route.HasField("route") and route.route.cluster != NOWHERE


def all_bytes(translation: Translation) -> list[bytes]:
    messages = (*translation.listeners, *translation.routes, *translation.clusters, *translation.endpoints)
    return [any_of(message).value for message in messages]


def test_reordered_yaml_gives_identical_bytes() -> None:
    forward = translate(config("m1", "m2", "m3"), STATE, {})
    backward = translate(config("m1", "m2", "m3", reverse=True), STATE, {})
    assert all_bytes(forward) == all_bytes(backward)


def test_renaming_one_model_changes_only_its_routes() -> None:
    before = {any_of(route).value for route in routes(translate(config("m1", "m2"), STATE, {}))}
    after = {any_of(route).value for route in routes(translate(config("m1", "m9"), STATE, {}))}
    assert all(b"m2" in route for route in before - after)
    assert all(b"m9" in route for route in after - before)
    assert len(before - after) == len(after - before) == 2


def test_a_change_of_models_leaves_the_listener_alone_so_that_no_connection_is_drained() -> None:
    small = translate(config("m1"), STATE, {})
    large = translate(config("m1", "m2", default="m2", mirror=True), STATE, {})
    assert small.listeners == large.listeners


def test_every_model_route_needs_metadata_that_only_the_gateway_writes() -> None:
    for route in routes(translate(config("m1", "m2", default="m1"), STATE, {})):
        if reaches_a_backend(route):
            assert route.match.dynamic_metadata, f"{route.name} could be a request's first route"
            assert route.name.startswith(ROUTE_MODEL)


def test_a_model_route_carries_the_name_of_the_policy_that_is_enforced_on_it() -> None:
    translation = translate(config("m1", "m2"), STATE, {})
    policies = {resource_name(policy) for policy in translation.models.values()}
    assert {route.name for route in routes(translation) if reaches_a_backend(route)} == policies


def test_only_direct_responses_switch_a_safeguard_off() -> None:
    for route in routes(translate(config("m1"), STATE, {})):
        switched = {
            name
            for name, value in route.typed_per_filter_config.items()
            if value.type_url.endswith("FilterConfig") and api.route_v3.FilterConfig.FromString(value.value).disabled
        }
        if switched & {"size", "authorization", "payload", "hold", "gate"}:
            assert route.HasField("direct_response")
            assert switched == {row.name for row in FILTERS} - {ROUTER}, "partly off is neither safe nor cheap"


def test_the_default_model_is_written_only_where_json_is_served() -> None:
    by_name = {route.name: route for route in routes(translate(config("m1", default="m1"), STATE, {}))}
    assert by_name["entry/predict"].typed_per_filter_config["model_name"] == any_of(model_name("m1"))
    for name, route in by_name.items():
        if name != "entry/predict" and "model_name" in route.typed_per_filter_config:
            assert b"m1" not in route.typed_per_filter_config["model_name"].value


def test_the_entry_bounds_bodies_exactly_and_holds_answers() -> None:
    model = Model(targets=(Target(backend="a"),), max_body_bytes=1000, max_response_bytes=9_000_000)
    given = config("m1").model_copy(update={"models": {"m1": model}})
    entry = next(route for route in routes(translate(given, STATE, {})) if route.name == "entry/predict")
    size = api.buffer_v3.BufferPerRoute.FromString(entry.typed_per_filter_config["size"].value)
    assert size.buffer.max_request_bytes.value == 1000
    assert entry.request_body_buffer_limit.value >= 9_000_000
    assert entry.metadata.filter_metadata[NS_ISG]["max_body_bytes"] == "1000"


@pytest.mark.parametrize("reply", LOCAL_REPLIES, ids=lambda reply: f"{reply.status}-{reply.code}")
def test_no_reply_mapper_matches_on_a_status_alone(reply: LocalReply) -> None:
    assert "response.code_details" in reply.when
    assert 400 <= reply.status < 600


def test_filters_are_distinct_and_each_place_has_its_reason() -> None:
    assert len({row.name for row in FILTERS}) == len(FILTERS)
    assert all(len(row.reason) > 8 for row in FILTERS)
    assert FILTERS[-1].name == ROUTER
