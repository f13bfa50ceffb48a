"""Entry routes: one per (path, method, content type). They decide which filters run and what is refused at once.

The routes that are selected later, by the model, stand between an entry's refusals and the entry itself. The entry's
own action names a cluster that does not exist, for a 404: it is what remains when no model route matches, and it is
never a way to a model server. (A direct response would say the same, but Envoy takes no buffer limit from one.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from control_plane.translate.direct_responses import (
    Headers,
    content_length,
    header_absent,
    header_is,
    header_matches,
    header_present,
    health_route,
    problem_route,
)
from control_plane.translate.filter_chain import HOLD, SIZE, limit
from control_plane.translate.local_replies import ROUTE_MAX_BODY
from control_plane.translate.model_name import JSON_CONTENT_TYPE
from control_plane.translate.wire import struct
from gateway import envoy_api as api
from gateway.names import NS_ISG, PATH_HEALTH, ROUTE_ENTRY

#: No cluster has this name.
NOWHERE: Final = "nowhere"

Match = Callable[[Headers], api.route_v3.RouteMatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes of an entry path, in bytes.

    Attributes:
        max_body: largest request body of any model of the path; exact.
        buffer: the largest thing held in memory at once: body, translated body or buffered answer.
    """

    max_body: int
    buffer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A path that takes JSON by POST.

    Attributes:
        name: ``predict`` gives routes ``entry/predict/...``.
        match: makes a route match of the path with the given header matchers.
        filters: per-route filter configuration beside the sizes.
        models: the routes that are selected later, by the model.
    """

    name: str
    match: Match
    limits: Limits
    filters: dict[str, api.protobuf.Any]
    models: Sequence[api.route_v3.Route]


def first_routes() -> list[api.route_v3.Route]:
    """What holds for every path: no body where none is read, and no way without a credential but the health path."""
    anywhere = _prefix("/")
    return [
        problem_route(
            # No path matcher matches CONNECT; without a route it would wait in the buffer for an end that never comes.
            f"{ROUTE_ENTRY}connect",
            api.route_v3.RouteMatch(connect_matcher=api.route_v3.RouteMatch.ConnectMatcher()),
            status=405,
            code="method_not_allowed",
            detail="This gateway is no tunnel.",
            headers={"allow": "GET, HEAD, POST"},
        ),
        problem_route(
            f"{ROUTE_ENTRY}body-on-get",
            anywhere([header_matches(":method", "GET|HEAD"), content_length(at_least=1)]),
            status=400,
            code="unexpected_body",
            detail="This request must not have a body.",
        ),
        health_route(f"{ROUTE_ENTRY}health", path(PATH_HEALTH)([header_matches(":method", "GET|HEAD")])),
        problem_route(
            f"{ROUTE_ENTRY}health/method",
            path(PATH_HEALTH)([]),
            status=405,
            code="method_not_allowed",
            detail="This path serves GET.",
            headers={"allow": "GET, HEAD"},
        ),
        problem_route(
            f"{ROUTE_ENTRY}no-credential",
            anywhere([header_absent("authorization"), header_absent("x-api-key")]),
            status=401,
            code="no_credential",
            detail="Send an API key: `Authorization: Bearer KEY` or `x-api-key: KEY`.",
            headers={"www-authenticate": "Bearer"},
        ),
    ]


def entry_routes(entry: Entry) -> list[api.route_v3.Route]:
    """Refusals by header, then the models' routes, then the entry."""
    prefix = f"{ROUTE_ENTRY}{entry.name}"
    max_body = entry.limits.max_body
    return [
        problem_route(
            f"{prefix}/method",
            entry.match([header_is(":method", "POST", invert=True)]),
            status=405,
            code="method_not_allowed",
            detail="This path serves POST.",
            headers={"allow": "POST"},
        ),
        problem_route(
            f"{prefix}/query",
            entry.match([header_matches(":path", r"[^?]*\?.*")]),
            status=400,
            # Envoy would pass it on to the model server, with whatever a client has put there by mistake.
            code="unexpected_query",
            detail="This path takes no query string.",
        ),
        problem_route(
            f"{prefix}/encoding",
            entry.match([header_present("content-encoding"), header_is("content-encoding", "identity", invert=True)]),
            status=415,
            code="content_encoding_not_served",
            detail="Send the body without a content encoding.",
        ),
        problem_route(
            f"{prefix}/trace-context",
            entry.match([header_matches("traceparent", "[ -~]*", invert=True)]),
            status=400,
            # Bytes that no protobuf string takes: ext_proc could not read the message that they are part of.
            code="invalid_header",
            detail="The header `traceparent` has characters that are not ASCII.",
        ),
        problem_route(
            f"{prefix}/content-type",
            entry.match([header_matches("content-type", JSON_CONTENT_TYPE, invert=True)]),
            status=415,
            code="content_type_not_served",
            detail="Send the body as application/json, in UTF-8.",
        ),
        problem_route(
            f"{prefix}/too-large",
            entry.match([content_length(at_least=max_body + 1)]),
            status=413,
            code="body_too_large",
            detail=f"The body is larger than the limit of {max_body} bytes.",
        ),
        problem_route(
            f"{prefix}/empty",
            entry.match([content_length(at_least=0, below=1)]),
            status=400,
            code="empty_body",
            detail="The body is empty.",
        ),
        *entry.models,
        api.route_v3.Route(
            name=prefix,
            match=entry.match([]),
            route=api.route_v3.RouteAction(cluster=NOWHERE, cluster_not_found_response_code="NOT_FOUND"),
            request_body_buffer_limit=api.protobuf.UInt64Value(value=entry.limits.buffer),
            metadata=api.core_v3.Metadata(filter_metadata={NS_ISG: struct({ROUTE_MAX_BODY: str(max_body)})}),
            typed_per_filter_config={
                SIZE: limit(max_body),
                HOLD: limit(entry.limits.buffer),
                **entry.filters,
            },
        ),
    ]


def last_route() -> api.route_v3.Route:
    """Everything else."""
    return problem_route(
        f"{ROUTE_ENTRY}nothing-else",
        _prefix("/")([]),
        status=404,
        code="not_found",
        detail="There is nothing at this path.",
    )


def path(exact_path: str) -> Match:
    """Matches one path."""
    return lambda headers: api.route_v3.RouteMatch(path=exact_path, headers=headers)


def path_regex(pattern: str) -> Match:
    """Matches a path by a regular expression, whole."""
    return lambda headers: api.route_v3.RouteMatch(
        safe_regex=api.matcher_v3.RegexMatcher(regex=pattern), headers=headers
    )


def _prefix(prefix: str) -> Match:
    return lambda headers: api.route_v3.RouteMatch(prefix=prefix, headers=headers)
