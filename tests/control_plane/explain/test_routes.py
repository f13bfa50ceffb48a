"""Envoy's matchers as isg explain evaluates them; and what it does not know it refuses to pass over."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.explain.routes import described, header_matches, route_matches, select
from control_plane.explain.unknown import CannotExplainError
from control_plane.explain.values import metadata_matches, string_matches, value_matches
from gateway import envoy_api as api
from gateway.messages import pool

REQUEST = {
    ":method": "POST",
    ":path": "/v1/predict?a=b",
    ":authority": "gateway.example",
    "x-number": "10",
    "x-empty": "",
}


def parsed(kind: type[Any], content: dict[str, Any]) -> Any:
    return ParseDict(content, kind(), descriptor_pool=pool())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"prefix": "/"}, True),
        ({"prefix": "/v1/"}, True),
        ({"prefix": "/v2"}, False),
        ({"path": "/v1/predict"}, True),
        ({"path": "/v1/predict?a=b"}, False),
        ({"path": "/V1/PREDICT"}, False),
        ({"path": "/V1/PREDICT", "case_sensitive": False}, True),
        ({"path_separated_prefix": "/v1"}, True),
        ({"path_separated_prefix": "/v1/pre"}, False),
        ({"safe_regex": {"regex": "/v1/[a-z]+"}}, True),
        ({"safe_regex": {"regex": "/v1/"}}, False),
        ({"connect_matcher": {}}, False),
        ({"prefix": "/", "headers": [{"name": "x-number", "range_match": {"start": 10, "end": 11}}]}, True),
        ({"prefix": "/", "headers": [{"name": "x-empty"}, {"name": "x-absent"}]}, False),
        ({"prefix": "/", "dynamic_metadata": [{"filter": "isg", "path": [{"key": "model"}], "value": {}}]}, None),
    ],
)
def test_a_route_matches_as_in_envoy(content: dict[str, Any], expected: bool | None) -> None:
    match = parsed(api.route_v3.RouteMatch, content)
    if expected is None:
        with pytest.raises(CannotExplainError):
            route_matches(match, REQUEST, {})
    else:
        assert route_matches(match, REQUEST, {}) is expected
        assert described(match)


def test_connect_is_matched_by_its_own_matcher_only() -> None:
    connect = {":method": "CONNECT", ":authority": "a:443"}
    assert route_matches(parsed(api.route_v3.RouteMatch, {"connect_matcher": {}}), connect, {})
    for content in ({"prefix": "/"}, {"path": "/"}, {"safe_regex": {"regex": ".*"}}):
        assert not route_matches(parsed(api.route_v3.RouteMatch, content), connect, {})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, False),
        ({"present_match": False}, True),
        ({"present_match": True}, False),
        ({"present_match": False, "invert_match": True}, False),
        ({"string_match": {"exact": ""}}, False),
        ({"string_match": {"exact": ""}, "treat_missing_header_as_empty": True}, True),
        ({"string_match": {"exact": "a"}, "invert_match": True}, False),
        ({"string_match": {"exact": "a"}, "invert_match": True, "treat_missing_header_as_empty": True}, True),
        ({"range_match": {"start": 0, "end": 9}}, False),
        ({"range_match": {"start": 0, "end": 9}, "invert_match": True}, False),
    ],
)
def test_a_header_that_is_absent(content: dict[str, Any], expected: bool) -> None:
    assert header_matches(parsed(api.route_v3.HeaderMatcher, {"name": "x-absent", **content}), REQUEST) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9", False),
        ("10", True),
        ("+10", True),
        ("19", True),
        ("20", False),
        ("-1", False),
        ("ten", False),
        ("", False),
    ],
)
def test_a_range_holds_its_start_and_not_its_end(value: str, expected: bool) -> None:
    matcher = parsed(api.route_v3.HeaderMatcher, {"name": "X-N", "range_match": {"start": 10, "end": 20}})
    assert header_matches(matcher, {"x-n": value}) is expected
    matcher.invert_match = True
    assert header_matches(matcher, {"x-n": value}) is not expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"exact": "Abc"}, True),
        ({"exact": "abc"}, False),
        ({"exact": "aBC", "ignore_case": True}, True),
        ({"prefix": "Ab"}, True),
        ({"suffix": "bc"}, True),
        ({"contains": "b"}, True),
        ({"contains": "d"}, False),
        ({"safe_regex": {"regex": "A.c"}}, True),
        ({"safe_regex": {"regex": "A."}}, False),
    ],
)
def test_a_string_matches_as_in_envoy(content: dict[str, Any], expected: bool) -> None:
    assert string_matches(parsed(api.matcher_v3.StringMatcher, content), "Abc") is expected


@pytest.mark.parametrize("value", [None, 5.0, True, "m1", "m2", {}])
def test_metadata_matches_by_kind(value: object) -> None:
    metadata = {} if value is None else {"isg": {"model": value}}

    def matches(content: dict[str, Any], *, invert: bool = False) -> bool:
        path = {"filter": "isg", "path": [{"key": "model"}], "value": content, "invert": invert}
        return metadata_matches(parsed(api.matcher_v3.MetadataMatcher, path), metadata)

    assert matches({"string_match": {"exact": "m1"}}) is (value == "m1")
    assert matches({"string_match": {"exact": "m1"}}, invert=True) is (value != "m1")
    assert matches({"bool_match": True}) is (value is True)
    assert matches({"present_match": True}) is (value is not None)


KNOWN: dict[type[Any], set[str]] = {
    api.route_v3.RouteMatch: {"prefix", "path", "path_separated_prefix", "safe_regex", "connect_matcher"}
    | {"case_sensitive", "headers", "dynamic_metadata"},
    api.route_v3.HeaderMatcher: {"name", "string_match", "range_match", "present_match", "invert_match"}
    | {"treat_missing_header_as_empty"},
    api.matcher_v3.StringMatcher: {"exact", "prefix", "suffix", "contains", "safe_regex", "ignore_case"},
    api.matcher_v3.ValueMatcher: {"string_match", "bool_match", "present_match"},
    api.matcher_v3.MetadataMatcher: {"filter", "path", "value", "invert"},
}


def evaluated(message: Message) -> object:
    if isinstance(message, api.route_v3.RouteMatch):
        return route_matches(message, REQUEST, {})
    if isinstance(message, api.route_v3.HeaderMatcher):
        return header_matches(message, REQUEST)
    if isinstance(message, api.matcher_v3.StringMatcher):
        return string_matches(message, "a")
    if isinstance(message, api.matcher_v3.ValueMatcher):
        return value_matches(message, "a")
    return metadata_matches(message, {})  # type: ignore[arg-type] # the last kind of KNOWN


def with_field(kind: type[Any], name: str) -> Any:
    """A message with one field set to something."""
    message, field = kind(), kind.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        part = getattr(message, name)
        part.add() if field.is_repeated else part.SetInParent()
    elif field.is_repeated:
        getattr(message, name).append(1)
    else:
        setattr(message, name, "a" if field.type == field.TYPE_STRING else 1)
    return message


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, field.name)
        for kind, known in KNOWN.items()
        for field in kind.DESCRIPTOR.fields
        if field.name not in known
    ],
    ids=lambda value: value if isinstance(value, str) else value.DESCRIPTOR.name,
)
def test_a_field_that_is_not_known_is_an_error_and_never_passed_over(kind: type[Any], name: str) -> None:
    with pytest.raises(CannotExplainError, match=name):
        evaluated(with_field(kind, name))


@pytest.mark.parametrize("part", ["headers", "dynamic_metadata"])
def test_what_is_not_known_is_met_even_where_the_path_alone_decides(part: str) -> None:
    match = parsed(api.route_v3.RouteMatch, {"path": "/elsewhere"})
    added = getattr(match, part).add()
    if part == "headers":
        added.safe_regex_match.regex = "a"
    else:
        added.value.double_match.exact = 1
    with pytest.raises(CannotExplainError):
        route_matches(match, REQUEST, {})


def test_the_first_route_of_the_first_virtual_host_that_serves_is_taken() -> None:
    def host(name: str, *domains: str) -> dict[str, Any]:
        routes = [{"name": f"{name}/{n}", "match": {"prefix": p}} for n, p in ((1, "/v2"), (2, "/v1"), (3, "/"))]
        return {"name": name, "domains": domains, "routes": routes}

    table = parsed(api.route_v3.RouteConfiguration, {"virtual_hosts": [host("a", "a.example"), host("b", "*")]})
    assert getattr(select(table, REQUEST, {}), "name", None) == "b/2"
    assert getattr(select(table, {**REQUEST, ":authority": "A.example"}, {}), "name", None) == "a/2"
    table.virtual_hosts[0].domains[:] = ["*.example"]
    with pytest.raises(CannotExplainError, match=r"\*\.example"):
        select(table, REQUEST, {})
    del table.virtual_hosts[:]
    assert select(table, REQUEST, {}) is None


@pytest.mark.parametrize("place", ["table", "host", "matcher"])
def test_a_table_that_decides_more_than_its_routes_do_is_not_explained(place: str) -> None:
    content: dict[str, Any] = {"virtual_hosts": [{"name": "a", "domains": ["*"]}]}
    table = parsed(api.route_v3.RouteConfiguration, content)
    if place == "table":
        table.typed_per_filter_config["size"].type_url = "x"
    elif place == "host":
        table.virtual_hosts[0].typed_per_filter_config["size"].type_url = "x"
    else:
        table.virtual_hosts[0].matcher.SetInParent()
    with pytest.raises(CannotExplainError):
        select(table, REQUEST, {})
