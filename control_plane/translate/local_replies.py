"""Envoy's own replies in the words of a Problem.

Every row matches on ``response.code_details`` of Envoy's own replies, never on a status alone: a status would
also match the answers of ext_authz and ext_proc, and wrap their bodies a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from control_plane.translate.wire import extension, set_header, struct, uint32
from gateway import envoy_api as api
from gateway.names import DETAILS_PROBLEM
from gateway.problem import PROBLEM_JSON, title

#: Key of a route's metadata (namespace ``isg``) that holds its exact body limit, for the words of a 413.
ROUTE_MAX_BODY: Final = "max_body_bytes"
_LIMIT_TEXT: Final = f"The body is larger than the limit of %METADATA(ROUTE:isg:{ROUTE_MAX_BODY})% bytes."

#: Bodies written by our services or by a direct response of the route table.
_OURS: Final = f"(response.code_details in ['direct_response', 'ext_authz_denied', '{DETAILS_PROBLEM}'])"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReply:
    """One kind of reply that Envoy makes itself.

    Attributes:
        when: CEL over ``response.code_details`` and ``response.code``.
        status: what the client gets; also what its body says.
        headers: headers set on the reply.
    """

    when: str
    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


def _begins(*details: str) -> str:
    return " || ".join(f"response.code_details.startsWith('{word}')" for word in details)


_RETRY: Final = {"retry-after": "1"}

#: First match wins. The last rows catch by status what has no row of its own.
LOCAL_REPLIES: Final = (
    LocalReply(
        when=_begins("rbac_access_denied_matched_policy[not_validated]"),
        status=503,
        code="no_verdict",
        detail="The request could not be validated. Try again.",
        headers=_RETRY,
    ),
    LocalReply(
        when=_begins("rbac_access_denied_matched_policy[empty_body]"),
        status=400,
        code="empty_body",
        detail="The body is empty.",
    ),
    LocalReply(
        when=_begins("rbac_access_denied"),
        status=403,
        code="model_not_allowed",
        detail="This key may not use this model.",
    ),
    LocalReply(
        when=_begins("request_payload_too_large", "request_payload_exceeded"),
        status=413,
        code="body_too_large",
        detail=_LIMIT_TEXT,
    ),
    LocalReply(
        when=_begins("response_payload_too_large", "response_payload_too_Large"),
        status=502,
        code="answer_too_large",
        detail="The model server's answer is larger than this model's limit.",
    ),
    LocalReply(
        when=_begins("ext_authz_error"),
        status=503,
        code="authorization_unavailable",
        detail="Authorization is not available. Try again.",
        headers=_RETRY,
    ),
    LocalReply(
        when=f"({_begins('ext_proc')}) && response.code == 504",
        status=504,
        code="validation_timeout",
        detail="The request was not validated in time. Try again.",
        headers=_RETRY,
    ),
    LocalReply(
        # The last three: a second answer, an answer of another phase, a body that is not as long as its header says.
        when=_begins("ext_proc", "spurious_message", "unhandled_message", "mismatch_between_content_length"),
        status=503,
        code="validation_unavailable",
        detail="Validation is not available. Try again.",
        headers=_RETRY,
    ),
    LocalReply(
        when=_begins("upgrade_failed"),
        status=400,
        code="upgrade_not_served",
        detail="This gateway speaks HTTP and gRPC only: send the request without `Upgrade`.",
    ),
    LocalReply(
        when=_begins("http1.invalid_transfer_encoding"),
        status=501,
        code="transfer_encoding_not_served",
        detail="Send the body with a content-length, or chunked.",
    ),
    LocalReply(
        when=_begins("cluster_not_found"),
        status=404,
        code="unknown_model",
        detail="There is no such model.",
    ),
    *(
        LocalReply(
            when=f"response.code == {status} && !{_OURS}", status=status, code=code, detail=detail, headers=headers
        )
        for status, code, detail, headers in (
            (400, "bad_request", "The request is not valid HTTP.", {}),
            (403, "forbidden", "This request is not served.", {}),
            (404, "not_found", "There is nothing at this path.", {}),
            (405, "method_not_allowed", "This method is not served.", {}),
            (408, "request_timeout", "The request took too long to arrive.", {}),
            (426, "upgrade_required", "This version of HTTP is not served.", {}),
            (429, "too_many_requests", "Too many requests. Try again later.", _RETRY),
            (431, "headers_too_large", "The request's headers are too large.", {}),
            (502, "bad_gateway", "The model server's answer could not be read.", {}),
            (503, "model_unavailable", "No model server can answer now. Try again.", _RETRY),
            (504, "model_timeout", "The model server did not answer in time.", {}),
        )
    ),
    LocalReply(
        when=f"response.code >= 500 && !{_OURS}",
        status=500,
        code="internal_error",
        detail="The gateway could not handle the request.",
    ),
)


def problem_format(status: int, code: str, detail: str) -> api.core_v3.SubstitutionFormatString:
    """The body of a Problem as Envoy writes it (RFC 9457)."""
    return api.core_v3.SubstitutionFormatString(
        json_format=struct(
            {
                "type": "about:blank",
                "title": title(status),
                "status": status,
                "detail": detail,
                "code": code,
                "request_id": "%REQ(X-REQUEST-ID)%",
            }
        ),
        content_type=PROBLEM_JSON,
    )


def local_reply_config() -> api.hcm_v3.LocalReplyConfig:
    """The connection manager's reply mappers, one per row of :data:`LOCAL_REPLIES`."""
    return api.hcm_v3.LocalReplyConfig(mappers=[_mapper(reply) for reply in LOCAL_REPLIES])


def _mapper(reply: LocalReply) -> api.hcm_v3.ResponseMapper:
    cel = api.als_filters_cel_v3.ExpressionFilter(expression=reply.when)
    matcher = extension("envoy.access_loggers.extension_filters.cel", cel)
    return api.hcm_v3.ResponseMapper(
        filter=api.accesslog_v3.AccessLogFilter(
            extension_filter=api.accesslog_v3.ExtensionFilter(name=matcher.name, typed_config=matcher.typed_config)
        ),
        status_code=uint32(reply.status),
        body_format_override=problem_format(reply.status, reply.code, reply.detail),
        headers_to_add=[set_header(key, value) for key, value in reply.headers.items()],
    )
