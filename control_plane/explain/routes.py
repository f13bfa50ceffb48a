"""Which route a request takes: Envoy's route table (envoy.config.route.v3), evaluated, first match wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from control_plane.explain.unknown import CannotExplainError, only
from control_plane.explain.values import Metadata, metadata_matches, regex_matches, string_matches
from gateway import envoy_api as api

_MATCH: Final = {
    "prefix",
    "path",
    "path_separated_prefix",
    "safe_regex",
    "connect_matcher",
    "case_sensitive",
    "headers",
    "dynamic_metadata",
}
_HEADER: Final = {
    "name",
    "string_match",
    "range_match",
    "present_match",
    "invert_match",
    "treat_missing_header_as_empty",
}
_INTEGER: Final = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)


def select(
    configuration: api.route_v3.RouteConfiguration, headers: Mapping[str, str], metadata: Metadata
) -> api.route_v3.Route | None:
    """The first route that matches; None where none does.

    Args:
        headers: by lower-case name, with the pseudo-headers.

    Raises:
        CannotExplainError: a matcher that is not known here was met.
    """
    if configuration.typed_per_filter_config:
        raise CannotExplainError("the route table configures filters for all routes, which isg explain does not know")
    for host in configuration.virtual_hosts:
        if not _serves(host.domains, headers[":authority"]):
            continue
        if host.typed_per_filter_config or host.HasField("matcher"):
            raise CannotExplainError(f"virtual host {host.name!r} decides more than its routes do")
        return next((route for route in host.routes if route_matches(route.match, headers, metadata)), None)
    return None


def route_matches(match: api.route_v3.RouteMatch, headers: Mapping[str, str], metadata: Metadata) -> bool:
    """Whether a request takes a route.

    Raises:
        CannotExplainError: the match has something that is not known here.
    """
    only(match, _MATCH, "a route match")
    # All three are evaluated, so that what is not known is met whatever the request.
    path = _path_matches(match, headers)
    named = [header_matches(header, headers) for header in match.headers]
    known = [metadata_matches(matcher, metadata) for matcher in match.dynamic_metadata]
    return path and all(named) and all(known)


def header_matches(matcher: api.route_v3.HeaderMatcher, headers: Mapping[str, str]) -> bool:
    """Whether a header matches; one that is absent matches nothing but ``present_match``, inverted or not.

    Raises:
        CannotExplainError: a kind of match that is not known here.
    """
    only(matcher, _HEADER, "a header matcher")
    value = headers.get(matcher.name.lower())
    kind = matcher.WhichOneof("header_match_specifier")
    if kind in {None, "present_match"}:
        wanted = matcher.present_match if kind else True
        if value is None and matcher.treat_missing_header_as_empty:
            value = ""
        return ((value is not None) == wanted) != matcher.invert_match
    if value is None:
        if not matcher.treat_missing_header_as_empty:
            return False
        value = ""
    if kind == "string_match":
        found = string_matches(matcher.string_match, value)
    else:
        number = int(value) if _INTEGER.match(value) else None
        found = number is not None and matcher.range_match.start <= number < matcher.range_match.end
    return found != matcher.invert_match


def described(match: api.route_v3.RouteMatch) -> str:
    """A match in words."""
    return ", ".join(_conditions(match)) or "matches everything"


def _conditions(match: api.route_v3.RouteMatch) -> Iterable[str]:
    kind = match.WhichOneof("path_specifier")
    if kind == "connect_matcher":
        yield "the method is CONNECT"
    elif kind == "safe_regex":
        yield f"the path matches {match.safe_regex.regex}"
    elif kind == "path":
        yield f"the path is {match.path}"
    elif kind is not None and getattr(match, kind) != "/":
        yield f"the path begins with {getattr(match, kind)}"
    yield from map(_header_in_words, match.headers)
    for matcher in match.dynamic_metadata:
        path = ".".join(segment.key for segment in matcher.path)
        negation = "not " if matcher.invert else ""
        yield f"{matcher.filter}: {path} {negation}{_string_in_words(matcher.value.string_match)}"


def _header_in_words(matcher: api.route_v3.HeaderMatcher) -> str:
    kind = matcher.WhichOneof("header_match_specifier")
    negation = "not " if matcher.invert_match else ""
    if kind in {None, "present_match"}:
        wanted = matcher.present_match if kind else True
        return f"{matcher.name} is {'there' if wanted != matcher.invert_match else 'absent'}"
    if kind == "range_match":
        bounds = f"{matcher.range_match.start}" + (
            f" to {end - 1}" if (end := matcher.range_match.end) < 2**62 else " or more"
        )
        return f"{matcher.name} is {negation}{bounds}"
    return f"{matcher.name} {negation}{_string_in_words(matcher.string_match)}"


def _string_in_words(matcher: api.matcher_v3.StringMatcher) -> str:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return f"matches {matcher.safe_regex.regex}"
    return f"{'is' if kind == 'exact' else kind} {getattr(matcher, kind) if kind else ''}"


def _path_matches(match: api.route_v3.RouteMatch, headers: Mapping[str, str]) -> bool:
    kind = match.WhichOneof("path_specifier")
    if kind is None:
        raise CannotExplainError("a route match says nothing of the path")
    connect = headers[":method"] == "CONNECT"
    if connect or kind == "connect_matcher":
        return connect and kind == "connect_matcher"
    path = headers[":path"].partition("?")[0]
    if kind == "safe_regex":
        return regex_matches(match.safe_regex, path)
    wanted: str = getattr(match, kind)
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        path, wanted = path.lower(), wanted.lower()
    if kind == "path":
        return path == wanted
    if kind == "path_separated_prefix":
        return path == wanted or path.startswith(f"{wanted}/")
    return path.startswith(wanted)


def _serves(domains: Iterable[str], authority: str) -> bool:
    for domain in domains:
        if domain == "*" or domain.lower() == authority.lower():
            return True
        if "*" in domain:
            raise CannotExplainError(f"a virtual host serves {domain}, which isg explain does not know")
    return False
