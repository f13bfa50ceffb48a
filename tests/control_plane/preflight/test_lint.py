"""Everything that Envoy takes without a word and that must not reach it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.config.model import Address, Backend, Config, Endpoint, Mirror, Model, Target
from control_plane.preflight.candidate import preflight
from control_plane.preflight.envoy import PreflightError, find_envoy
from control_plane.preflight.lint import connection_managers, lint
from control_plane.translate.filter_chain import off
from control_plane.translate.snapshot import Translation, translate
from control_plane.translate.wire import any_of, seconds
from gateway import envoy_api as api
from gateway.state import StateDir


def good() -> Translation:
    endpoint = Endpoint(address=Address(host="127.0.0.1", port=9001))
    model = Model(targets=(Target(backend="a"), Target(backend="b")), mirror=Mirror(backend="b"))
    config = Config(
        listen=(Address(host="127.0.0.1", port=8080),),
        admin=Address(host="127.0.0.1", port=9900),
        models={"m1": model},
        backends={name: Backend(server="kserve", model="m", endpoints=(endpoint,)) for name in ("a", "b")},
    )
    return translate(config, StateDir(Path("/var/lib/isg")), {})


def with_routes(change: Callable[[api.route_v3.VirtualHost], None]) -> Translation:
    translation = good()
    configuration = api.route_v3.RouteConfiguration()
    configuration.CopyFrom(translation.routes[0])
    change(configuration.virtual_hosts[0])
    return replace(translation, routes=(configuration,))


def with_manager(change: Callable[[api.hcm_v3.HttpConnectionManager], None]) -> Translation:
    translation = good()
    listener = api.listener_v3.Listener()
    listener.CopyFrom(translation.listeners[0])
    manager = next(connection_managers(listener))
    change(manager)
    listener.filter_chains[0].filters[0].typed_config.CopyFrom(any_of(manager))
    return replace(translation, listeners=(listener,))


def model_route(host: api.route_v3.VirtualHost) -> api.route_v3.Route:
    return next(route for route in host.routes if route.name.startswith("model/"))


def lead_nowhere(host: api.route_v3.VirtualHost) -> None:
    model_route(host).route.cluster = "backend/gone"


def mirror_nowhere(host: api.route_v3.VirtualHost) -> None:
    model_route(host).route.request_mirror_policies[0].cluster = "backend/gone"


def weigh_nowhere(host: api.route_v3.VirtualHost) -> None:
    model_route(host).route.weighted_clusters.clusters[0].name = "backend/gone"


def come_first(host: api.route_v3.VirtualHost) -> None:
    model_route(host).match.ClearField("dynamic_metadata")


def open_the_gate(host: api.route_v3.VirtualHost) -> None:
    model_route(host).typed_per_filter_config["gate"].CopyFrom(off("gate")["gate"])


def configure_a_stranger(host: api.route_v3.VirtualHost) -> None:
    host.routes[0].typed_per_filter_config["stranger"].CopyFrom(off("gate")["gate"])


def repeat_a_route(host: api.route_v3.VirtualHost) -> None:
    host.routes.add().CopyFrom(host.routes[0])


def try_too_long(host: api.route_v3.VirtualHost) -> None:
    model_route(host).route.retry_policy.per_try_timeout.CopyFrom(seconds(600))


def serve_a_domain_twice(host: api.route_v3.VirtualHost) -> None:
    host.domains.append("*")


def drop_the_gate(manager: api.hcm_v3.HttpConnectionManager) -> None:
    del manager.http_filters[[row.name for row in manager.http_filters].index("gate")]


def repeat_a_filter(manager: api.hcm_v3.HttpConnectionManager) -> None:
    manager.http_filters.insert(0, manager.http_filters[0])


def ask_nobody(manager: api.hcm_v3.HttpConnectionManager) -> None:
    row = next(row for row in manager.http_filters if row.name == "payload")
    processor = api.ext_proc_filter_v3.ExternalProcessor()
    processor.grpc_service.envoy_grpc.cluster_name = "gone"
    row.typed_config.CopyFrom(any_of(processor))


def wait_for_routes(manager: api.hcm_v3.HttpConnectionManager) -> None:
    manager.rds.route_config_name = "gone"


BROKEN = [
    (with_routes(lead_nowhere), "leads to the cluster 'backend/gone'"),
    (with_routes(mirror_nowhere), "leads to the cluster 'backend/gone'"),
    (with_routes(weigh_nowhere), "leads to the cluster 'backend/gone'"),
    (with_routes(come_first), "could be a request's first route"),
    (with_routes(open_the_gate), "switches off 'gate'"),
    (with_routes(configure_a_stranger), "configures the filter 'stranger'"),
    (with_routes(repeat_a_route), "is never reached"),
    (with_routes(try_too_long), "one try more time"),
    (with_routes(serve_a_domain_twice), "serve the domain"),
    (with_manager(drop_the_gate), "lacks the filter 'gate'"),
    (with_manager(repeat_a_filter), "two filters named 'size'"),
    (with_manager(ask_nobody), "asks the cluster 'gone'"),
    (with_manager(wait_for_routes), "waits for the routes 'gone'"),
    (replace(good(), endpoints=()), "waits for endpoints that nobody sends"),
    (replace(good(), clusters=good().clusters[:2]), "which is no cluster that asks for them"),
    (replace(good(), listeners=good().listeners * 2), "two listeners are named"),
]


def test_a_good_translation_has_no_findings() -> None:
    assert lint(good()) == ()


@pytest.mark.parametrize(("translation", "words"), BROKEN, ids=[words for _, words in BROKEN])
async def test_what_is_broken_is_found_and_not_pushed(translation: Translation, words: str) -> None:
    assert any(words in finding for finding in lint(translation)), lint(translation)
    with pytest.raises(PreflightError, match=re.escape(words)):
        await preflight(translation, envoy=None)


@pytest.mark.live
async def test_a_configuration_that_crashes_envoy_is_refused_with_the_reason(tmp_path: Path) -> None:
    envoy = find_envoy()
    if envoy is None:
        pytest.skip("no envoy binary")
    crashing = tmp_path / "envoy"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    with pytest.raises(PreflightError, match="crashes Envoy"):
        await preflight(good(), envoy=str(crashing))
    await preflight(good(), envoy=envoy)
