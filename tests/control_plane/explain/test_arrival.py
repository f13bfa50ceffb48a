"""What a client is taken to send, and what cannot be followed."""

from __future__ import annotations

import pytest

from control_plane.explain.arrival import arrive, request
from control_plane.explain.exchange import Exchange
from control_plane.explain.unknown import CannotExplainError
from control_plane.preflight.lint import connection_managers
from control_plane.translate.listener import listener
from gateway import envoy_api as api
from tests.control_plane.plan.test_difference import FULL


def manager() -> api.hcm_v3.HttpConnectionManager:
    return next(connection_managers(listener(FULL.listen[0])))


def arrived(path: str, *headers: tuple[str, str]) -> Exchange:
    exchange = request("GET", path, headers, None)
    assert arrive(exchange, manager()) is None
    return exchange


def test_what_clients_add_by_themselves_is_added() -> None:
    assert request("POST", "/", [], b"{}").headers == {
        ":method": "POST",
        ":authority": "gateway.example",
        ":path": "/",
        "content-type": "application/json",
        "content-length": "2",
    }
    assert request("POST", "/", [], None).headers["content-length"] == "0"
    assert "content-length" not in request("GET", "/", [], None).headers
    assert "content-length" not in request("POST", "/", [("Transfer-Encoding", "chunked")], b"a").headers
    assert request("POST", "/", [("Content-Type", "text/plain")], b"a").headers["content-type"] == "text/plain"


def test_repeated_headers_are_joined_as_envoy_does() -> None:
    exchange = request("GET", "/", [("A", "1"), ("a", "2"), ("Host", "x")], None)
    assert (exchange.headers["a"], exchange.headers[":authority"]) == ("1,2", "x")


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/v1/predict", "/v1/predict"),
        ("/v1//predict", "/v1/predict"),
        ("/./v1/../v1/predict", "/v1/predict"),
        ("/../../v1/predict?a=/../b", "/v1/predict?a=/../b"),
        ("/v1/predict/..", "/v1/"),
        ("/v1/.", "/v1/"),
        ("/", "/"),
        ("//", "/"),
    ],
)
def test_paths_are_normalised(path: str, normal: str) -> None:
    assert arrived(path).path == normal


def test_forged_headers_are_removed_and_the_gateways_own_are_set() -> None:
    headers = arrived("/", ("x-isg-peer", "6.6.6.6"), ("X-Isg-Models", "*"), ("x-envoy-a", "b"), ("kept", "1")).headers
    assert {name for name in headers if not name.startswith(":")} == {"x-isg-peer", "x-request-id", "kept"}
    assert headers["x-isg-peer"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("PURGE", "/", ()),
        ("GET", "v1", ()),
        ("GET", "/a b", ()),
        ("GET", "/a#b", ()),
        ("GET", "/a\\b", ()),
        ("GET", "/a{b}", ()),
        ("GET", "/ä", ()),
        ("CONNECT", "/", ()),
        ("GET", "/", (("a b", "c"),)),
        ("GET", "/", (("transfer-encoding", "gzip"),)),
        ("GET", "/", (("connection", "x-api-key"),)),
        ("GET", "/", (("connection", "upgrade"), ("upgrade", "h2c"))),
    ],
)
def test_what_cannot_be_followed_is_said(method: str, path: str, headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(CannotExplainError):
        request(method, path, headers, None)


def test_percent_escapes_are_not_guessed_at() -> None:
    with pytest.raises(CannotExplainError, match="percent"):
        arrive(request("GET", "/%41", [], None), manager())
    refused = arrive(request("GET", "/a%2Fb", [], None), manager())
    assert refused is not None
    assert refused.status == 400


def test_a_listener_that_treats_requests_otherwise_is_not_explained() -> None:
    changed = manager()
    changed.path_with_escaped_slashes_action = api.hcm_v3.HttpConnectionManager.KEEP_UNCHANGED
    with pytest.raises(CannotExplainError):
        arrive(request("GET", "/", [], None), changed)
    changed = manager()
    changed.early_header_mutation_extensions[0].typed_config.type_url = "other"
    with pytest.raises(CannotExplainError):
        arrive(request("GET", "/", [], None), changed)
