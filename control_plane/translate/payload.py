"""Row 5: ext_proc, one message per request; the answer only of models whose answers are rewritten."""

from __future__ import annotations

from typing import Final

from control_plane.translate.clusters import CLUSTER_EXT_PROC
from control_plane.translate.wire import any_of, regex, seconds, true
from gateway import envoy_api as api
from gateway.names import (
    ATTR_PATH,
    ATTR_REQUEST_ID,
    ATTR_RESPONSE_DETAILS,
    ATTR_ROUTE,
    ATTR_TRACEPARENT,
    NS_AUTHZ,
    NS_ISG,
    NS_LB,
)

#: A frozen ext_proc answers 504 after this; a body of the largest size is judged well within it.
MESSAGE_TIMEOUT_S: Final = 5.0


def payload() -> api.ext_proc_filter_v3.ExternalProcessor:
    """The filter's configuration.

    The header phase is skipped (half the messages); row 6 holds the headers meanwhile.
    """
    return api.ext_proc_filter_v3.ExternalProcessor(
        grpc_service=api.core_v3.GrpcService(
            envoy_grpc=api.core_v3.GrpcService.EnvoyGrpc(cluster_name=CLUSTER_EXT_PROC)
        ),
        processing_mode=_mode(answer=False),
        message_timeout=seconds(MESSAGE_TIMEOUT_S),
        failure_mode_allow=False,
        status_on_error=api.type_v3.HttpStatus(code="ServiceUnavailable"),
        # A verdict must not choose another route than the one whose policy it enforced.
        route_cache_action="RETAIN",
        # Even a compromised payload service can set nothing but these.
        mutation_rules=api.mutation_rules_v3.HeaderMutationRules(
            disallow_all=true(), allow_expression=regex("content-type|content-length|retry-after|allow")
        ),
        request_attributes=[ATTR_ROUTE, ATTR_PATH, ATTR_REQUEST_ID, ATTR_TRACEPARENT],
        response_attributes=[ATTR_RESPONSE_DETAILS],
        metadata_options=api.ext_proc_filter_v3.MetadataOptions(
            forwarding_namespaces=api.ext_proc_filter_v3.MetadataOptions.MetadataNamespaces(untyped=[NS_ISG, NS_AUTHZ]),
            receiving_namespaces=api.ext_proc_filter_v3.MetadataOptions.MetadataNamespaces(untyped=[NS_ISG, NS_LB]),
        ),
    )


def answer_rewritten() -> api.protobuf.Any:
    """Per-route configuration of a model whose answer ext_proc rewrites."""
    return any_of(
        api.ext_proc_filter_v3.ExtProcPerRoute(
            overrides=api.ext_proc_filter_v3.ExtProcOverrides(processing_mode=_mode(answer=True))
        )
    )


def _mode(*, answer: bool) -> api.ext_proc_filter_v3.ProcessingMode:
    return api.ext_proc_filter_v3.ProcessingMode(
        request_header_mode="SKIP",
        request_body_mode="BUFFERED",
        request_trailer_mode="SKIP",
        response_header_mode="SEND" if answer else "SKIP",
        response_body_mode="BUFFERED" if answer else "NONE",
        response_trailer_mode="SKIP",
    )
