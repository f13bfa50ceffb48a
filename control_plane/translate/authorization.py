"""Row 2: ext_authz over HTTP on a Unix socket, headers only. Identity leaves it as metadata, never as a header."""

from __future__ import annotations

from typing import Final

from control_plane.translate.clusters import CLUSTER_EXT_AUTHZ
from control_plane.translate.wire import seconds, strings
from gateway import envoy_api as api
from gateway.names import CHECK_PREFIX, HEADER_PEER, HEADER_PREFIX, HEADER_REQUEST_ID

TIMEOUT_S: Final = 1.0


def authorization() -> api.ext_authz_v3.ExtAuthz:
    """The filter's configuration: closed on every failure, and a failure is 503 rather than a denial."""
    return api.ext_authz_v3.ExtAuthz(
        transport_api_version="V3",
        failure_mode_allow=False,
        status_on_error=api.type_v3.HttpStatus(code="ServiceUnavailable"),
        http_service=api.ext_authz_v3.HttpService(
            server_uri=api.core_v3.HttpUri(
                uri=f"http://{CLUSTER_EXT_AUTHZ}", cluster=CLUSTER_EXT_AUTHZ, timeout=seconds(TIMEOUT_S)
            ),
            path_prefix=CHECK_PREFIX,
            authorization_response=api.ext_authz_v3.AuthorizationResponse(
                allowed_client_headers=strings(
                    exact_values=("content-type", "retry-after", "www-authenticate"), prefixes=("ratelimit",)
                ),
                allowed_client_headers_on_success=strings(prefixes=("ratelimit",)),
                dynamic_metadata_from_headers=strings(prefixes=(HEADER_PREFIX,)),
            ),
        ),
        allowed_headers=strings(
            exact_values=("authorization", "x-api-key", HEADER_REQUEST_ID, HEADER_PEER, "traceparent")
        ),
    )
