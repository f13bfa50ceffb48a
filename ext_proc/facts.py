"""What Envoy tells about an exchange, apart from its bodies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """A request as it stands when its body is there.

    Attributes:
        route: name of the matched route.
        path: path with its query.
        unparsed: Envoy could not read the body as JSON.
        tenant: who is accountable, from ext_authz; None when ext_authz said nothing.
        key_id: the credential's name, from ext_authz.
        models: what the credential may use, from ext_authz (:data:`gateway.names.HEADER_MODELS`).
    """

    route: str
    path: str
    request_id: str | None = None
    traceparent: str | None = None
    unparsed: bool = False
    tenant: str | None = None
    key_id: str | None = None
    models: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFacts:
    """The head of an answer.

    Attributes:
        status: None when Envoy did not tell.
        details: ``response.code_details``; None when Envoy did not tell.
        end_of_stream: there is no body.
    """

    status: int | None
    details: str | None
    retry_after: str | None = None
    end_of_stream: bool = False
