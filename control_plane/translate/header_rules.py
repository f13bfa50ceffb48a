"""Rows 0 and 8: what clients may not send, and what model servers may not see."""

from __future__ import annotations

from typing import Final

from control_plane.translate.wire import extension
from gateway import envoy_api as api
from gateway.names import HEADER_PEER, HEADER_PREFIX

_FORGEABLE: Final = (HEADER_PREFIX, "x-envoy-")
#: Credentials, and the permission to compress answers that are read on their way back.
_NOT_FOR_UPSTREAM: Final = (
    "authorization",
    "x-api-key",
    "proxy-authorization",
    "cookie",
    "accept-encoding",
)
#: Names that are the gateway's own, and cookies, which no request takes to a model server.
_NOT_FOR_CLIENTS: Final = ("set-cookie",)


def _without(prefixes: tuple[str, ...]) -> list[api.mutation_rules_v3.HeaderMutation]:
    mutation = api.mutation_rules_v3.HeaderMutation
    return [
        mutation(remove_on_match=mutation.RemoveOnMatch(key_matcher=api.matcher_v3.StringMatcher(prefix=prefix)))
        for prefix in prefixes
    ]


def early_headers() -> api.core_v3.TypedExtensionConfig:
    """Before routing and authorization: identity and addresses that a client sent are removed, ours are written."""
    mutation = api.mutation_rules_v3.HeaderMutation
    rules = _without(_FORGEABLE)
    peer = api.core_v3.HeaderValue(key=HEADER_PEER, value="%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")
    rules.append(
        mutation(append=api.core_v3.HeaderValueOption(header=peer, append_action="OVERWRITE_IF_EXISTS_OR_ADD"))
    )
    return extension(
        "envoy.http.early_header_mutation.header_mutation", api.early_header_v3.HeaderMutation(mutations=rules)
    )


def upstream_headers() -> api.header_mutation_v3.HeaderMutation:
    """The last change before a request leaves for a model server or a mirror, and the first to its answer."""
    return api.header_mutation_v3.HeaderMutation(
        mutations=api.header_mutation_v3.Mutations(
            request_mutations=[
                *(api.mutation_rules_v3.HeaderMutation(remove=name) for name in _NOT_FOR_UPSTREAM),
                *_without(_FORGEABLE),
            ],
            response_mutations=[
                *(api.mutation_rules_v3.HeaderMutation(remove=name) for name in _NOT_FOR_CLIENTS),
                *_without(_FORGEABLE),
            ],
        )
    )
