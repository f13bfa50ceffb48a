"""The walk through every translation of the golden cases, and what in a translation stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from multidict import CIMultiDict

from control_plane.explain.arrival import request
from control_plane.explain.chain import explain
from control_plane.explain.exchange import Exchange, Reply
from control_plane.explain.report import Report
from control_plane.explain.services import Services
from control_plane.explain.unknown import CannotExplainError
from control_plane.explain.upstream import Destination
from control_plane.preflight.lint import connection_managers
from control_plane.translate.snapshot import Translation
from control_plane.translate.wire import any_of
from ext_proc.explain import judge
from gateway import envoy_api as api
from gateway.policy import GatewayPolicy
from tests.control_plane.translate.test_golden import CASES, translation

DIGITS = "/v1/models/digits:predict"
INPUTS = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}'
BODY = b'{"text": "a", "inputs": [], "image": ""}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """ext_authz's answer to everybody."""

    status: int = 200
    body: bytes = b""
    reason: str = "everybody may"
    headers: CIMultiDict[str] = field(
        default_factory=lambda: CIMultiDict(
            {"X-Isg-Tenant": "acme", "x-isg-key-id": "key_1", "x-isg-models": "*", "x-isg-tier": "gold", "other": "1"}
        )
    )


def everybody(policy: GatewayPolicy, method: str, target: str, headers: Sequence[tuple[str, str]]) -> Answer:
    assert target.startswith("/check/")
    assert {name for name, _ in headers} <= {"authorization", "x-api-key", "x-request-id", "x-isg-peer", "traceparent"}
    return Answer()


SERVICES = Services(authorize=everybody, judge=judge)


def asked(method: str = "POST", path: str = "/v1/predict", body: bytes | None = BODY) -> Exchange:
    return request(method, path, [("x-api-key", "a"), ("traceparent", "b"), ("x-other", "c")], body)


@pytest.mark.parametrize("case", CASES)
def test_every_golden_translation_is_understood_whole(case: str) -> None:
    given = translation(case)
    for model in given.models:
        for exchange in (
            asked(path=f"/v1/models/{model}:predict"),
            asked(body=b'{"model": "%b"}' % model.encode()),
            asked(body=b'{"model": "nobody"}'),
            asked(),
            asked("GET", "/elsewhere", None),
        ):
            report = Report(explanation=explain(exchange, given, SERVICES))
            assert report.as_data()["steps"]
            assert list(report.lines())[-1] == report.outcome


def test_the_destination_has_everything_that_its_route_says() -> None:
    found = explain(asked(path=DIGITS, body=INPUTS), translation("split_and_mirror"), SERVICES).outcome
    assert isinstance(found, Destination)
    assert [(pool.backend, pool.weight) for pool in found.pools] == [("digits-v2", 90), ("digits-v3", 10)]
    assert all(pool.endpoints for pool in found.pools)
    assert found.mirrors == (("digits-next", 5),)
    assert (found.path, found.timeout_s, found.retries) == ("/v2/models/digits/infer", 30, 3)
    assert [name for name, _ in found.lines()] == ["backend", "backend", "mirror", "upstream"]
    assert found.names == "backends digits-v2 or digits-v3"


def changed(change: Callable[[Translation, api.hcm_v3.HttpConnectionManager], None]) -> Translation:
    """A translation whose connection manager is another one."""
    given = translation("minimal")
    manager = next(connection_managers(given.listeners[0]))
    change(given, manager)
    given.listeners[0].filter_chains[0].filters[0].typed_config.CopyFrom(any_of(manager))
    return given


def add_filter(_: Translation, manager: api.hcm_v3.HttpConnectionManager) -> None:
    manager.http_filters.insert(0, api.hcm_v3.HttpFilter(name="new", typed_config=any_of(api.core_v3.Node())))


def disable_filter(_: Translation, manager: api.hcm_v3.HttpConnectionManager) -> None:
    manager.http_filters[1].disabled = True


def drop_router(_: Translation, manager: api.hcm_v3.HttpConnectionManager) -> None:
    del manager.http_filters[-1]


def ask_differently(_: Translation, manager: api.hcm_v3.HttpConnectionManager) -> None:
    check = api.ext_authz_v3.ExtAuthz.FromString(manager.http_filters[1].typed_config.value)
    check.with_request_body.max_request_bytes = 1
    manager.http_filters[1].typed_config.CopyFrom(any_of(check))


def configure_filter(given: Translation, _: api.hcm_v3.HttpConnectionManager) -> None:
    for route in given.routes[0].virtual_hosts[0].routes:
        if "authorization" not in route.typed_per_filter_config:
            route.typed_per_filter_config["authorization"].CopyFrom(any_of(api.core_v3.Node()))


def allow_upgrades(_: Translation, manager: api.hcm_v3.HttpConnectionManager) -> None:
    manager.upgrade_configs.add(upgrade_type="websocket")


@pytest.mark.parametrize(
    "change", [add_filter, disable_filter, drop_router, ask_differently, configure_filter], ids=lambda c: c.__name__
)
def test_a_chain_that_is_not_known_is_an_error(
    change: Callable[[Translation, api.hcm_v3.HttpConnectionManager], None],
) -> None:
    assert isinstance(explain(asked(path=DIGITS, body=INPUTS), translation("minimal"), SERVICES).outcome, Destination)
    with pytest.raises(CannotExplainError):
        explain(asked(path=DIGITS, body=INPUTS), changed(change), SERVICES)


def test_upgrades_are_refused_as_the_listener_has_none() -> None:
    sent = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("x-api-key", "a")]
    outcome = explain(request("GET", "/", sent, None), translation("minimal"), SERVICES).outcome
    assert isinstance(outcome, Reply)
    assert outcome.code == "upgrade_not_served"
    with pytest.raises(CannotExplainError):
        explain(request("GET", "/", sent, None), changed(allow_upgrades), SERVICES)


def test_listeners_that_differ_are_not_explained_as_one() -> None:
    given = translation("split_and_mirror")
    manager = next(connection_managers(given.listeners[1]))
    manager.merge_slashes = False
    given.listeners[1].filter_chains[0].filters[0].typed_config.CopyFrom(any_of(manager))
    with pytest.raises(CannotExplainError, match="listeners"):
        explain(asked(), given, SERVICES)
