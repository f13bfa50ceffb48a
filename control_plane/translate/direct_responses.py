"""Routes that Envoy answers by itself: nothing runs and nothing is buffered on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_plane.translate.filter_chain import all_off
from control_plane.translate.local_replies import problem_format
from control_plane.translate.wire import INT64_MAX, exact, full_match, set_header
from gateway import envoy_api as api

Headers = Sequence[api.route_v3.HeaderMatcher]


def header_absent(name: str) -> api.route_v3.HeaderMatcher:
    """The request has no such header."""
    return api.route_v3.HeaderMatcher(name=name, present_match=False)


def header_present(name: str) -> api.route_v3.HeaderMatcher:
    """The request has such a header."""
    return api.route_v3.HeaderMatcher(name=name, present_match=True)


def header_is(name: str, value: str, *, invert: bool = False) -> api.route_v3.HeaderMatcher:
    """A header has exactly this value (or, inverted, has not)."""
    return api.route_v3.HeaderMatcher(name=name, string_match=exact(value), invert_match=invert)


def header_matches(name: str, pattern: str, *, invert: bool = False) -> api.route_v3.HeaderMatcher:
    """A header matches a regular expression whole; inverted, an absent header matches too."""
    return api.route_v3.HeaderMatcher(
        name=name, string_match=full_match(pattern), invert_match=invert, treat_missing_header_as_empty=invert
    )


def content_length(*, at_least: int, below: int = INT64_MAX) -> api.route_v3.HeaderMatcher:
    """The declared length of the body lies in [at_least, below)."""
    return api.route_v3.HeaderMatcher(
        name="content-length", range_match=api.type_v3.Int64Range(start=at_least, end=below)
    )


def problem_route(
    name: str,
    match: api.route_v3.RouteMatch,
    *,
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> api.route_v3.Route:
    """A route that refuses with a Problem."""
    return api.route_v3.Route(
        name=name,
        match=match,
        direct_response=api.route_v3.DirectResponseAction(
            status=status, body_format=problem_format(status, code, detail)
        ),
        response_headers_to_add=[set_header(key, value) for key, value in (headers or {}).items()],
        typed_per_filter_config=all_off(),
    )


def health_route(name: str, match: api.route_v3.RouteMatch) -> api.route_v3.Route:
    """The one path that needs no credential."""
    return api.route_v3.Route(
        name=name,
        match=match,
        direct_response=api.route_v3.DirectResponseAction(
            status=200, body=api.core_v3.DataSource(inline_string="ok\n")
        ),
        typed_per_filter_config=all_off(),
    )
